"""Progress of a simulation on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 2.0  # least time between two plain lines


class SimulationProgress:
    """Shows servers done and rows a second while it is entered; shows nothing when `shown` is False."""

    def __init__(self, servers: int, shown: bool = True) -> None:
        self._servers, self._shown = servers, shown
        self._console = Console(stderr=True)
        self._done = self._kept = self._rows = 0
        self._started = self._line_at = time.monotonic()
        self._bar = Progress(
            TextColumn("simulating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("servers, {task.fields[rate]:,.0f} rows/s"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("simulating", total=servers, rate=0.0)

    @property
    def _has_bar(self) -> bool:
        return self._shown and self._console.is_terminal

    def __enter__(self) -> SimulationProgress:
        self._started = self._line_at = time.monotonic()
        if self._has_bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_bar:
            self._bar.stop()

    def advance(self, servers: int, rows: int, kept: bool = False) -> None:
        """Tell that a part with these many servers and rows is on disk; `kept` when an earlier run had made it."""
        self._done += servers
        self._kept += servers if kept else 0
        self._rows += 0 if kept else rows
        now = time.monotonic()
        rate = self._rows / max(now - self._started, 1e-9)
        if self._has_bar:
            self._bar.update(self._task, completed=self._done, rate=rate)
        elif self._shown and (self._done == self._servers or now - self._line_at >= LINE_SECONDS):
            self._line_at = now
            text = f"simulated {self._done} of {self._servers} servers, {self._rows:,} rows, {rate:,.0f} rows/s"
            text += f", {self._kept} servers kept from an earlier run" if self._kept else ""
            self._console.print(text, highlight=False, soft_wrap=True)
