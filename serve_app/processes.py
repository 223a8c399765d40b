"""The processes below a process, as Linux tells of them in /proc."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_PAUSE_S = 0.1


def descendants(pid: int) -> set[int]:
    """Ids of the living processes that this process started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _parent(int(entry.name))
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    return _parent(pid) is not None


def end(pids: set[int], grace_s: float) -> None:
    """Wait until these processes have ended; those that have not after `grace_s` are killed."""
    deadline = time.monotonic() + grace_s
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int | None:
    """Parent of a living process; None for one that is gone or a zombie."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = content.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)


def identity(pid: int | None = None) -> str:
    """What tells a process from every other one: start of the machine, space of process ids, id, time of its start."""
    pid = os.getpid() if pid is None else pid
    return f"{_space()}:{pid}:{_started(pid)}"


def is_gone(found: str) -> bool:
    """Whether the process of an `identity` has ended; False where this process cannot know."""
    space, _, process = found.rpartition(":")[0].rpartition(":")
    if space != _space() or not process.isdigit():
        return False
    return not is_alive(int(process)) or identity(int(process)) != found


def _space() -> str:
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{os.readlink('/proc/self/ns/pid')}"


def _started(pid: int) -> str:
    """Ticks from the machine's start to the process's; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
