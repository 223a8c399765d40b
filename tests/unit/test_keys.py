"""An API key opens what it was made for, and the store does not know it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.errors import NotFoundError, PermissionDeniedError, StoreError, UsageError
from fleetcast.store.audit import list_audit
from fleetcast.store.engine import Store, open_store
from fleetcast.store.keys import SCOPES, Principal, create_key, list_keys, revoke, verify

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db")


def test_a_key_identifies_its_holder_and_scopes(store: Store) -> None:
    with store.session() as session:
        key = create_key(session, "ann", ["write", "read"], NOW)
    assert re.fullmatch(r"fc_[A-Za-z0-9_-]{43}", key)
    with store.reading() as session:
        assert verify(session, key) == Principal("ann", frozenset({"read", "write"}))
        info = next(info for info in list_keys(session) if info.name == "ann")
    assert (info.scopes, info.created_at, info.revoked_at) == (("read", "write"), NOW, None)
    assert key.startswith(info.prefix)


def test_the_key_is_nowhere_in_the_database(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/k.db")
    with store.session() as session:
        key = create_key(session, "ann", ["read"], NOW)
    store.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key[:11].encode() in content
    assert key[11:].encode() not in content


def test_one_wrong_character_anywhere_is_refused(store: Store) -> None:
    with store.session() as session:
        key = create_key(session, "exact", ["read"], NOW)
    with store.reading() as session:
        for position in range(len(key)):
            wrong = "A" if key[position] != "A" else "B"
            assert verify(session, key[:position] + wrong + key[position + 1 :]) is None
        assert verify(session, key + "A") is None
        assert verify(session, key + "\n") is None


@settings(deadline=None)
@given(st.text())
def test_any_other_text_is_refused_quietly(store: Store, text: str) -> None:
    with store.reading() as session:
        assert verify(session, text) is None


def test_a_revoked_key_opens_nothing_and_frees_its_name(store: Store) -> None:
    with store.session() as session:
        old = create_key(session, "bob", ["read"], NOW)
        with pytest.raises(StoreError, match="already"):
            create_key(session, "bob", ["read"], NOW)
        revoke(session, "bob", NOW, by="ann")
        new = create_key(session, "bob", ["admin"], NOW)
        assert verify(session, old) is None
        assert verify(session, new) == Principal("bob", frozenset({"admin"}))
        assert {"revoke key", "create key"} <= {entry.action for entry in list_audit(session)}
        with pytest.raises(NotFoundError):
            revoke(session, "nobody", NOW)


@pytest.mark.parametrize("scopes", [[], ["read", "everything"]])
def test_unknown_scopes_are_refused(store: Store, scopes: list[str]) -> None:
    with pytest.raises(UsageError, match="expected one or more of read, write"), store.session() as session:
        create_key(session, "eve", scopes, NOW)


def test_a_scope_is_needed_and_admin_has_all() -> None:
    reader, admin = Principal("ann", frozenset({"read"})), Principal("root", frozenset({"admin"}))
    for scope in SCOPES:
        admin.require(scope)
        assert reader.may(scope) == (scope == "read")
    with pytest.raises(PermissionDeniedError, match="'approve'"):
        reader.require("approve")
