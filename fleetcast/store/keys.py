"""API keys with scopes.

A key is `fc_` and 32 random bytes. Only a hash is stored: BLAKE2b with a 16-byte salt of the key's own. A fast hash is
enough here, unlike for passwords: nobody can guess 256 random bits, however fast the guesses are checked; the salt
keeps equal keys in two databases from being recognised.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.errors import NotFoundError, PermissionDeniedError, StoreError, UsageError
from fleetcast.store.audit import record
from fleetcast.store.tables import ApiKeyTable

SCOPES = ("read", "write", "operate", "approve", "admin")
_MARK = "fc_"
_SHAPE = re.compile(r"fc_[A-Za-z0-9_-]{43}")
_PREFIX_LENGTH = len(_MARK) + 8


@dataclass(frozen=True)
class Principal:
    """Whoever holds a key."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the key carries the scope; `admin` carries all."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: str) -> None:
        """Raise `PermissionDeniedError` unless the key carries the scope."""
        if not self.may(scope):
            raise PermissionDeniedError(
                f"the key {self.name!r} has the scopes {sorted(self.scopes)}, needed is {scope!r}: use another key"
            )


@dataclass(frozen=True)
class KeyInfo:
    """What may be shown of a key."""

    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


def create_key(session: Session, name: str, scopes: Iterable[str], now: datetime, by: str = "local") -> str:
    """Make a key and return it; it cannot be shown again.

    Raises `UsageError` for an unknown scope or an empty name, `StoreError` when a key of that name is in force.
    """
    wanted = _checked_scopes(scopes)
    if not name.strip():
        raise UsageError("an API key needs a name: it is shown wherever the key acts")
    if _in_force(session, name) is not None:
        raise StoreError(f"there is an API key {name!r} already: choose another name or revoke it first")
    key = _MARK + secrets.token_urlsafe(32)
    salt = secrets.token_bytes(16)
    row = ApiKeyTable(
        prefix=key[:_PREFIX_LENGTH], name=name, salt=salt, digest=_digest(key, salt), scopes=wanted, created_at=now
    )
    session.add(row)
    record(session, now, by, "create key", name, ", ".join(wanted))
    return key


def verify(session: Session, key: str) -> Principal | None:
    """The holder of a key that is in force; None for any other text. Compares in constant time."""
    if not _SHAPE.fullmatch(key):
        return None
    row = session.get(ApiKeyTable, key[:_PREFIX_LENGTH])
    salt, digest = (row.salt, row.digest) if row else (bytes(16), bytes(hashlib.blake2b().digest_size))
    same = hmac.compare_digest(_digest(key, salt), digest)
    if row is None or row.revoked_at is not None or not same:
        return None
    return Principal(row.name, frozenset(row.scopes))


def list_keys(session: Session) -> list[KeyInfo]:
    """All keys, revoked ones too, oldest first."""
    rows = session.scalars(select(ApiKeyTable).order_by(ApiKeyTable.created_at, ApiKeyTable.prefix))
    return [KeyInfo(row.name, row.prefix, tuple(row.scopes), row.created_at, row.revoked_at) for row in rows]


def revoke(session: Session, name: str, now: datetime, by: str = "local") -> None:
    """Revoke the key of that name. Raises `NotFoundError` when none is in force."""
    row = _in_force(session, name)
    if row is None:
        raise NotFoundError(f"no API key {name!r} is in force")
    row.revoked_at = now
    record(session, now, by, "revoke key", name)


def rotate(session: Session, name: str, now: datetime, by: str = "local") -> str:
    """Put a new key with the same scopes in place of the one of that name and return it; the old one is revoked.

    Raises `NotFoundError` when none is in force.
    """
    old = _in_force(session, name)
    revoke(session, name, now, by)
    session.flush()
    assert old is not None
    return create_key(session, name, old.scopes, now, by)


def _in_force(session: Session, name: str) -> ApiKeyTable | None:
    return session.scalars(
        select(ApiKeyTable).where(ApiKeyTable.name == name, ApiKeyTable.revoked_at.is_(None))
    ).one_or_none()


def _checked_scopes(scopes: Iterable[str]) -> list[str]:
    wanted = set(scopes)
    unknown = wanted - set(SCOPES)
    if unknown or not wanted:
        raise UsageError(f"scopes {sorted(wanted)}: expected one or more of {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in wanted]


def _digest(key: str, salt: bytes) -> bytes:
    return hashlib.blake2b(key.encode("ascii"), salt=salt).digest()
