"""How a training shows itself: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_SECONDS = 60.0


class TrainingProgress:
    """Shows the reports of `training.run.train` on standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting workers", total=None, detail="")
        self.said = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def report(self, message: dict[str, Any]) -> None:
        """Show one report: a step moves the bar, or is a line a minute where there is none; others print lines."""
        kind = message["kind"]
        if kind == "step":
            self._step(message)
        elif kind == "bundle":
            self.bar.stop()
        for line in lines_of(message):
            self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _step(self, message: dict[str, Any]) -> None:
        detail = step_line(message)
        self.bar.update(
            self.task,
            description=epoch_of(message),
            completed=message["step"],
            total=message["steps"],
            detail=detail,
        )
        now = time.monotonic()
        if not self.console.is_terminal and now - self.said >= LINE_SECONDS:
            self.said = now
            self.console.print(f"{epoch_of(message)}: {detail}", soft_wrap=True)


def epoch_of(message: dict[str, Any]) -> str:
    """Where a training is: the epoch, and of several networks the one that is trained."""
    network = f"network {message['member']}/{message['members']}, " if "member" in message else ""
    return f"{network}epoch {message['epoch']}/{message['epochs']}"


def step_line(message: dict[str, Any]) -> str:
    """Step, speed, time left, losses and learning rate of a report of kind `step`."""
    validation, left = message.get("validation_loss"), message.get("seconds_left")
    words = [
        f"step {message['step']}/{message['steps']}",
        f"{message['samples_per_s']:.0f} samples/s",
        f"{timedelta(seconds=round(left))} left" if left is not None else "",
        f"loss {message['loss']:.4f}",
        f"validation {validation:.4f}" if validation is not None else "",
        f"lr {message['learning_rate']:.1e}",
    ]
    return "  ".join(word for word in words if word)


def lines_of(message: dict[str, Any]) -> list[str]:
    """What is printed of a report that is not a step."""
    lines = []
    match message["kind"]:
        case "start":
            goes_on = f", goes on at step {message['step']}" if message["resumes"] else ""
            lines = [
                f"run {message['run']} in {message['folder']}{goes_on}",
                f"after an interruption go on with: {message['command']}",
            ]
        case "epoch":
            by_target = "  ".join(f"{name} {loss:.3f}" for name, loss in message["validation_by_target"].items())
            lines = [
                f"{epoch_of(message)}: train {message['train_loss']:.4f}, "
                f"validation {message['validation_loss']:.4f} ({by_target})"
            ]
        case "workers" if message["workers"] < message.get("asked", 0):
            lines = [f"training with {message['workers']} of {message['asked']} workers: Ray has no room for more now"]
        case "waiting":
            lines = [f"waiting for resources: {message['reason']} (Ctrl-C to stop, --workers to ask for fewer)"]
        case "eager":
            lines = [f"training without compiled kernels, which is slower: {message['reason']}"]
        case "slow":
            lines = [f"{message['reason']}: the disk is slow; the training goes on and waits at the end of the epoch"]
        case "restart":
            lines = [f"{message['reason']}; starting again from the last checkpoint"]
        case "stopping":
            lines = ["stopping after a checkpoint (Ctrl-C again: at once)"]
        case "saved":
            lines = [f"checkpoint written at step {message['step']}"]
        case "stopped":
            lines = [f"go on with: {message['command']}"]
    return lines
