"""The folder of a run: its names, what it is asked for, and how far its records say it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from fleetcast.dataset.storage import Storage

RUN_FILE, RUN_LOCK, METRICS_FILE, TENSORBOARD, CHECKPOINTS = (
    "run.json", "run.lock", "metrics.jsonl", "tensorboard", "checkpoints",
)  # fmt: skip
BUNDLE = "bundle"
_TAIL_BYTES = 1 << 16


class RunFolder:
    """A run's folder in a models folder; making one of these touches nothing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.lock, self.bundle, self.metrics = self.path / RUN_LOCK, self.path / BUNDLE, self.path / METRICS_FILE

    def read(self) -> dict[str, Any] | None:
        """`run.json`: `options`, `identity`, `command` and, once all is done, `finished`; None when there is none."""
        file = self.path / RUN_FILE
        return dict(json.loads(file.read_text())) if file.exists() else None

    def write(self, content: dict[str, Any]) -> None:
        """Write `run.json` whole. Raises `DatasetError` when the disk refuses."""
        Storage(self.path).write_bytes(RUN_FILE, json.dumps(content, indent=1).encode())

    def progress(self) -> dict[str, Any]:
        """The latest value of each field of the last records in `metrics.jsonl`; empty when there are none.

        A last line that a killed process left half written is passed over.
        """
        found: dict[str, Any] = {}
        try:
            with self.metrics.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                found.update(json.loads(line))
            except ValueError:
                continue
        return found

    def remove_partial(self) -> None:
        """Delete what a killed process left half written."""
        for path in self.path.glob(".*.partial"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
