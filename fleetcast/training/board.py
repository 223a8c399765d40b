"""The board between a driver and its workers: reports one way, the order to stop the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class TrainingStoppedError(Exception):
    """Raised in a worker that stops because it was told to; its checkpoint is on the disk by then."""


class Board(Protocol):
    """What a worker sees of the board."""

    def post(self, message: dict[str, Any]) -> bool:
        """Leave a message for the driver; True is the order to stop."""


class _Notes:
    """The actor behind the board."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.stopping = False

    def post(self, message: dict[str, Any]) -> bool:
        self.messages.append(message)
        return self.stopping

    def take(self) -> list[dict[str, Any]]:
        taken, self.messages = self.messages, []
        return taken

    def stop(self) -> None:
        self.stopping = True


class RayBoard:
    """A board in an actor on the driver's node; can be sent to workers.

    Closing it ends a training that has not ended yet: its first worker fails at its next message.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    @classmethod
    def open(cls) -> RayBoard:
        """Start the actor."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        return cls(ray.remote(_Notes).options(num_cpus=0, scheduling_strategy=here).remote())

    def post(self, message: dict[str, Any]) -> bool:
        """Leave a message for the driver; True is the order to stop."""
        return bool(ray.get(self.actor.post.remote(message)))

    def take(self) -> Sequence[dict[str, Any]]:
        """The messages that came since the last call."""
        taken: list[dict[str, Any]] = ray.get(self.actor.take.remote())
        return taken

    def stop(self) -> None:
        """Order the workers to write a checkpoint and stop."""
        ray.get(self.actor.stop.remote())

    def close(self) -> None:
        """End the actor."""
        ray.kill(self.actor)
