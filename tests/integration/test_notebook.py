"""The guided tour runs from its first cell to its last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "start_here.ipynb"

pytestmark = pytest.mark.ray


def test_start_here_runs_and_ends_with_a_risk_for_every_server(ray_session: None) -> None:
    mpl.use("Agg")
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["risks"]) == 9
    assert set(names["forecast"].sources) <= {"model", "fallback"}
    assert names["forecast"].quantiles.shape[2] == 96


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
