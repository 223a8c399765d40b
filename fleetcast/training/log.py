"""What a run keeps of its progress: JSON lines, and event files for TensorBoard."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from fleetcast.training.folder import TENSORBOARD, RunFolder

CURVES = ("loss", "learning_rate", "samples_per_s", "train_loss", "validation_loss")

logger = logging.getLogger(__name__)


class RunLog:
    """Appends to `metrics.jsonl` and to an event file of its own below `tensorboard`.

    When the disk refuses, it says so once and keeps quiet from then on: the checkpoints, not the records, decide
    whether a training can go on.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.broken = folder, False

    def __enter__(self) -> RunLog:
        curves = self.folder.path / TENSORBOARD
        curves.mkdir(exist_ok=True)
        self._lines = self.folder.metrics.open("a+b")
        if self._lines.tell() and not _ends_a_line(self._lines):
            self._lines.write(b"\n")
        # The writer that works in place: tensorboardX's threaded one waits for ever after an error of the disk.
        self._events = EventsWriter(str(curves / "events"), f".{uuid.uuid4().hex}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for close in (self._lines.close, self._events.close):
            self._guarded(close)

    def write(self, record: dict[str, Any]) -> None:
        """Keep a record, with the time (UTC, ISO 8601) it came at."""
        if not self.broken:
            self._guarded(lambda: self._write(record))

    def _write(self, record: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        self._lines.write(json.dumps({"time": now.isoformat(timespec="milliseconds"), **record}).encode() + b"\n")
        self._lines.flush()
        for name, value in _curves(record):
            self._events.write_event(Event(wall_time=now.timestamp(), step=record["step"], summary=scalar(name, value)))
        self._events.flush()

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            if not self.broken:
                logger.warning("the progress is not kept any more: %s", error)
            self.broken = True


def _curves(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if record["kind"] not in ("step", "epoch"):
        return
    for name in CURVES if record["kind"] == "epoch" else CURVES[:3]:
        if isinstance(record.get(name), float):
            yield name, record[name]
    for target, loss in record.get("validation_by_target", {}).items():
        yield f"validation_loss_of/{target}", loss


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
