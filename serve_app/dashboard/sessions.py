"""Who is logged in: API keys by session, in this process's memory only."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SESSION_SECONDS = 12 * 3600.0
MAX_SESSIONS = 1000


@dataclass(frozen=True)
class Session:
    """A logged-in person; `key` never leaves this process except to the API."""

    name: str
    scopes: tuple[str, ...]
    key: str = field(repr=False)
    expires: float


class Sessions:
    """Sessions by random token; the oldest go when there are too many, all go after 12 hours."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def open(self, name: str, scopes: tuple[str, ...], key: str) -> str:
        """Start a session; returns its token (256 random bits)."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            alive = [(old, session) for old, session in self._sessions.items() if session.expires > now]
            self._sessions = dict(alive[-(MAX_SESSIONS - 1) :])
            self._sessions[token] = Session(name, scopes, key, now + SESSION_SECONDS)
        return token

    def find(self, token: str | None) -> Session | None:
        """The session of a token; None when there is none or it has expired."""
        with self._lock:
            session = self._sessions.get(token or "")
        return session if session and session.expires > self._clock() else None

    def close(self, token: str | None) -> None:
        """End a session; unknown tokens are ignored."""
        with self._lock:
            self._sessions.pop(token or "", None)
