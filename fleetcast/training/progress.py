"""How a training shows itself: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """Shows the reports of `training.run.train` on standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("step {task.completed}/{task.total}"),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting workers", total=None, detail="")

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def report(self, message: dict[str, Any]) -> None:
        """Show one report: a step moves the bar, an epoch prints a line."""
        if message["kind"] == "step":
            self.bar.update(
                self.task,
                description=f"epoch {message['epoch']}/{message['epochs']}",
                completed=message["step"],
                total=message["steps"],
                detail=(
                    f"loss {message['loss']:.4f}  lr {message['learning_rate']:.1e}  "
                    f"{message['samples_per_s']:.0f} samples/s"
                ),
            )
            return
        by_target = "  ".join(f"{name} {loss:.3f}" for name, loss in message["validation_by_target"].items())
        self.console.print(
            f"epoch {message['epoch']}/{message['epochs']}: train {message['train_loss']:.4f}, "
            f"validation {message['validation_loss']:.4f} ({by_target})",
            soft_wrap=True,
        )
