"""Who calls: API keys from the `Authorization` header, and the scope that a route needs.

Only that header is read, never a cookie, a query or a form: a page of another site cannot make a browser send it, so
the API needs no further defence against cross-site requests, and keys do not end up in logs of addresses.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable

from fastapi.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from fleetcast.errors import AuthenticationError
from fleetcast.store.engine import Store
from fleetcast.store.keys import Principal, verify

CACHE_S = 5.0
CACHE_SIZE = 1024
_SCHEME = "bearer"
_ADVICE = "send the header `Authorization: Bearer fc_...`"


class KeyRing:
    """Checks keys against the database and remembers good ones for 5 s: so long does a revoked key live on."""

    def __init__(self, store: Store, cache_s: float = CACHE_S) -> None:
        self._store, self._cache_s = store, cache_s
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def principal(self, key: str) -> Principal:
        """The key's holder. Raises `AuthenticationError` for a key that is not in force."""
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(name)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        found = await run_in_threadpool(self._verify, key)
        if found is None:
            self._known.pop(name, None)
            raise AuthenticationError(f"this API key is not in force; {_ADVICE}")
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        self._known[name] = (time.monotonic() + self._cache_s, found)
        return found

    def _verify(self, key: str) -> Principal | None:
        with self._store.reading() as session:
            return verify(session, key)


def bearer_key(connection: HTTPConnection) -> str:
    """The key in the `Authorization` header. Raises `AuthenticationError` when there is none."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != _SCHEME or not key.strip():
        raise AuthenticationError(f"no API key: {_ADVICE}")
    return key.strip()


def needs(scope: str | None) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """A dependency of routes: the caller, who must have the scope (None: any key).

    Raises `AuthenticationError` (401), `PermissionDeniedError` (403) and `TooManyRequestsError` (429).
    """

    async def caller(connection: HTTPConnection) -> Principal:
        services = connection.app.state.services
        principal: Principal = await services.keys.principal(bearer_key(connection))
        services.rates.take(principal.name)
        if scope is not None:
            principal.require(scope)
        return principal

    return caller
