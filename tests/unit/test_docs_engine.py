"""The example of docs/engine.md runs as it stands: the library's network learns from our loader's batches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.dense_peer import assert_equal_batches

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[2]


def test_the_librarys_network_trains_on_dense_windows() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engine.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    here: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "docs/engine.md", "exec"), here)
    network, windows = here["network"], here["windows"]
    assert network.trainer.global_step == -(-len(windows.windows()) // 64)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    theirs = here["dataset"].to_dataloader(train=False, batch_size=64, num_workers=0)
    assert_equal_batches(list(windows.batches(64)), list(theirs))
