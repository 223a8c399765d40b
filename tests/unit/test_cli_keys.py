"""Keys are made, rotated and revoked by a command, and each is printed once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetcast.store.audit import list_audit
from fleetcast.store.engine import Store, open_store
from fleetcast.store.keys import Principal, verify
from tests.unit.test_cli import run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FLEETCAST_DATABASE_URL", raising=False)
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def store(home: Path) -> Store:
    return open_store(f"sqlite:///{home}/fleetcast.db")


def holder(home: Path, key: str) -> Principal | None:
    with store(home).reading() as session:
        return verify(session, key)


def test_a_key_is_created_rotated_and_revoked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, old, _ = run(capsys, "keys", "create", "prometheus", "--scope", "read", "--scope", "write")
    assert code == 0
    assert holder(home, old.strip()) == Principal("prometheus", frozenset({"read", "write"}))

    code, new, _ = run(capsys, "keys", "rotate", "prometheus")
    assert code == 0
    assert holder(home, old.strip()) is None, "the old key is refused"
    assert holder(home, new.strip()) == Principal("prometheus", frozenset({"read", "write"})), "with the same scopes"

    assert run(capsys, "keys", "revoke", "prometheus")[0] == 0
    assert holder(home, new.strip()) is None
    with store(home).reading() as session:
        actions = [(entry.action, entry.subject) for entry in list_audit(session)]
    assert sorted(actions) == [("create key", "prometheus")] * 2 + [("revoke key", "prometheus")] * 2


def test_the_list_shows_no_key(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = run(capsys, "keys", "create", "ops", "--scope", "admin")[1].strip()
    code, out, _ = run(capsys, "keys", "list", "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert (found["name"], found["scopes"], found["revoked_at"]) == ("ops", ["admin"], None)
    assert key.startswith(found["prefix"])
    assert key not in out
    assert "ops" in run(capsys, "keys", "list")[1]


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["rotate", "nobody"], 1, "no API key 'nobody' is in force"),
        (["revoke", "nobody"], 1, "no API key 'nobody' is in force"),
        (["create", "ops", "--scope", "everything"], 2, "expected one or more of read"),
        (["create", "ops"], 2, "--scope"),
    ],
)
def test_what_cannot_be_done_is_said(
    home: Path, command: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, "keys", *command)
    assert found == code
    assert told in err
    assert "fc_" not in out
