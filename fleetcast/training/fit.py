"""Ray Train from the driver's side: attempts, what the workers report, stopping, waiting for resources."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from fleetcast.errors import FleetCastError, TrainingError
from fleetcast.training.board import RayBoard, TrainingStoppedError
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan
from fleetcast.training.worker import train_worker

Report = Callable[[dict[str, Any]], None]

RETRIES = 2
POLL_SECONDS = 0.5
WAITING_SECONDS = 15.0
NODE_SECONDS = 20.0  # Ray takes about so long to notice that a node of a cluster is gone


def fit(plan: TrainPlan, options: TrainOptions, workers: int, checkpoints: str, report: Report) -> None:
    """Train to the end, from the last checkpoint in `checkpoints` on.

    A worker that dies is replaced; after `RETRIES` deaths in a row without any step further, or when a worker says that
    it cannot go on, the training ends with `TrainingError`. Each attempt is a `fit()` of its own: Ray's own retries do
    not tell a killed worker from a loss that will become NaN each time.

    Raises `KeyboardInterrupt` when the training was stopped by Ctrl-C, after the workers wrote a checkpoint; a second
    Ctrl-C does not wait for it.
    """
    furthest = failures = 0
    with _interruption() as stop, tempfile.TemporaryDirectory(prefix="fleetcast-train-") as scratch:
        while True:
            attempt = _Attempt(report, stop, workers, resources(options))
            error = attempt.run(_trainer(plan, options, workers, checkpoints, attempt.board, scratch))
            if error is None:
                return
            _raise_if_final(error, stop.is_set())
            failures = 1 if attempt.step > furthest else failures + 1
            furthest = max(furthest, attempt.step)
            if failures > RETRIES:
                raise TrainingError(root_message(error)) from error
            report({"kind": "restart", "reason": root_message(error)})
            if "RAY_ADDRESS" in os.environ and stop.wait(NODE_SECONDS):
                raise KeyboardInterrupt


def resources(options: TrainOptions) -> dict[str, float]:
    """What each worker takes."""
    return {"CPU": 1.0, **({"GPU": options.gpus_per_worker} if options.gpus_per_worker else {})}


def scaling(options: TrainOptions, workers: int) -> ScalingConfig:
    """Exactly so many workers on this machine; on a cluster, whose nodes come and go, as many as there are room for."""
    elastic = "RAY_ADDRESS" in os.environ and workers > 1
    return ScalingConfig(
        num_workers=(1, workers) if elastic else workers,  # type: ignore[arg-type]
        use_gpu=options.gpus_per_worker > 0,
        resources_per_worker=resources(options),
    )


def _trainer(
    plan: TrainPlan, options: TrainOptions, workers: int, checkpoints: str, board: RayBoard, scratch: str
) -> TorchTrainer:
    return TorchTrainer(
        train_worker,
        train_loop_config={"plan": plan.model_dump_json(), "board": board, "checkpoints": checkpoints},
        torch_config=TorchConfig(backend="nccl" if options.gpus_per_worker else "gloo"),
        scaling_config=scaling(options, workers),
        # Checkpoints are our own, see `checkpoint`: Ray's are only safe some time after `report()` has returned.
        run_config=RunConfig(name="run", storage_path=scratch, failure_config=FailureConfig(max_failures=0)),
    )


class _Attempt:
    """One `fit()` of Ray Train in a thread, while this one passes messages on; `step` is the furthest heard of."""

    def __init__(self, report: Report, stop: threading.Event, workers: int, needs: dict[str, float]) -> None:
        self.report, self.stop, self.workers, self.needs = report, stop, workers, needs
        self.board = RayBoard.open()
        self.step = 0
        self.heard = False

    def run(self, trainer: TorchTrainer) -> BaseException | None:
        """What the training ended with; None is success."""
        outcome: list[BaseException] = []

        def target() -> None:
            try:
                trainer.fit()
            except BaseException as error:  # also Ray's SystemExit: the waiting thread judges it
                outcome.append(error)

        thread = threading.Thread(target=target, name="ray-train", daemon=True)
        thread.start()
        ordered, complain_at = False, time.monotonic() + WAITING_SECONDS
        try:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                if self.stop.is_set() and not ordered:
                    ordered = True
                    self.board.stop()
                    self.report({"kind": "stopping"})
                self._deliver()
                if not self.heard and time.monotonic() >= complain_at:
                    complain_at = time.monotonic() + 4 * WAITING_SECONDS
                    self._complain()
            self._deliver()
        finally:
            self.board.close()
        return outcome[0] if outcome else None

    def _deliver(self) -> None:
        try:
            messages = self.board.take()
        except ray.exceptions.RayError:
            return  # the fit ends for the same reason, and says it
        for message in messages:
            self.heard = True
            self.step = max(self.step, message.get("step", 0))
            self.report({**message, "asked": self.workers} if message["kind"] == "workers" else message)

    def _complain(self) -> None:
        """Say so when the workers cannot start for lack of free resources."""
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        lacking = [kind for kind, amount in self.needs.items() if free.get(kind, 0) < amount]
        if lacking:
            each = ", ".join(f"{amount:g} {kind}" for kind, amount in self.needs.items())
            left = ", ".join(f"{free.get(kind, 0):g} {kind}" for kind in self.needs)
            self.report({"kind": "waiting", "reason": f"{self.workers} workers of {each} each; free in Ray are {left}"})


def _raise_if_final(error: BaseException, stopping: bool) -> None:
    """Raise what no further attempt would change."""
    causes = list(getattr(error, "worker_failures", {}).values())
    for cause in causes:
        if isinstance(cause, FleetCastError):
            raise cause
    if stopping or any(isinstance(cause, TrainingStoppedError) for cause in causes):
        raise KeyboardInterrupt
    if not isinstance(error, ray.train.TrainingFailedError):
        raise TrainingError(root_message(error)) from error


def root_message(error: BaseException) -> str:
    """One line of what went wrong in a worker."""
    text = str(error).strip() or repr(error)
    lines = [line.strip() for line in text.splitlines() if "Error" in line]
    return f"the training failed: {lines[-1] if lines else text.splitlines()[-1]}"


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second raises `KeyboardInterrupt` as ever. Main thread only."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handler(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
