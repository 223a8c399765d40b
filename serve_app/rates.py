"""A limit on the requests of each key."""

from __future__ import annotations

import time
from collections.abc import Callable

from fleetcast.errors import ServiceError

BURST_S = 10.0


class TooManyRequestsError(ServiceError):
    """The key has asked more often than it may (429)."""


class Rates:
    """A bucket of tokens for each key: it holds those of 10 s, and each request takes one.

    Each ingress has buckets of its own and refills them with its share of the rate: `per_second` / `ingresses`.
    """

    def __init__(
        self, per_second: float | None, ingresses: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = None if per_second is None else per_second / ingresses
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> None:
        """Count a request of the key of that name. Raises `TooManyRequestsError` when its bucket is empty."""
        if self._rate is None:
            return
        now, most = self._clock(), max(1.0, self._rate * BURST_S)
        tokens, at = self._buckets.get(name, (most, now))
        tokens = min(most, tokens + (now - at) * self._rate)
        enough = tokens >= 1.0
        self._buckets[name] = (tokens - 1.0 if enough else tokens, now)
        if not enough:
            raise TooManyRequestsError(f"the key {name!r} asks more than {self._rate:g} times a second: wait")
