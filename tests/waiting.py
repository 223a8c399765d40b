"""Waiting for what comes about in another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_for(found: Callable[[], Any], what: str, patience_s: float) -> Any:
    """What `found` returns as soon as that is true; fails after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come about within {patience_s:g} s")
