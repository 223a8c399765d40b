"""Server ids: the first 64 bits of SHA-256 of the name, stable whatever the fleet does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from fleetcast.errors import CollisionError


def server_id(name: str) -> int:
    """Unsigned 64-bit id of a server name (UTF-8)."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big")


def server_ids(names: Iterable[str], identify: Callable[[str], int] = server_id) -> dict[str, int]:
    """Ids of distinct names. Raises `CollisionError` naming both servers when two share an id."""
    ids: dict[str, int] = {}
    holders: dict[int, str] = {}
    for name in names:
        number = identify(name)
        holder = holders.setdefault(number, name)
        if holder != name:
            raise CollisionError(f"servers {holder!r} and {name!r} share the id {number:016x}: rename one of them")
        ids[name] = number
    return ids
