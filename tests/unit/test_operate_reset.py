"""Starting fresh says what it deletes, deletes exactly that, and never somebody else's files or a running service's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.errors import RunLockedError, UsageError
from fleetcast.operate import locks
from fleetcast.operate.home import MARKER, make_home
from fleetcast.operate.reset import execute, plan_reset
from fleetcast.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url=None)


def fill(home: Path) -> None:
    make_home(home)
    (home / "demo" / "models" / "run").mkdir(parents=True)
    (home / "demo" / "models" / "run" / "model.safetensors").write_bytes(b"w" * 1000)
    (home / "demo" / "manifest.json").write_text("{}")
    (home / "settings.yaml").write_text("port: 1\n")
    connection = sqlite3.connect(home / "fleetcast.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE samples (value REAL)")
    connection.execute("CREATE TABLE alerts (id INTEGER)")
    connection.executemany("INSERT INTO samples VALUES (?)", [(1.0,), (2.0,), (3.0,)])
    connection.commit()
    connection.close()


def test_the_plan_gives_sizes_and_counts_and_changes_nothing(settings: Settings) -> None:
    fill(settings.home)
    before = {path: path.read_bytes() for path in settings.home.rglob("*") if path.is_file()}
    plan = plan_reset(settings)
    items = {item.name: item for item in plan.items}
    assert set(items) == {"demo", "settings.yaml", "fleetcast.db"}
    assert (items["demo"].kind, items["demo"].files, items["demo"].size) == ("folder", 2, 1002)
    assert items["settings.yaml"].rows is None
    assert items["fleetcast.db"].kind == "database"
    assert items["fleetcast.db"].rows == {"alerts": 0, "samples": 3}
    assert (plan.rows, plan.files) == (3, 4)
    assert plan.size == 1002 + 8 + (settings.home / "fleetcast.db").stat().st_size
    assert {path: path.read_bytes() for path in settings.home.rglob("*") if path.is_file()} == before


def test_a_reset_leaves_a_clean_home_that_can_be_used_again(settings: Settings) -> None:
    fill(settings.home)
    execute(plan_reset(settings))
    assert [path.name for path in settings.home.iterdir()] == [MARKER]
    assert plan_reset(settings).items == []
    fill(settings.home)
    execute(plan_reset(settings))
    assert [path.name for path in settings.home.iterdir()] == [MARKER]


def test_a_home_that_was_never_made_needs_no_reset(settings: Settings) -> None:
    plan = plan_reset(settings)
    assert plan.items == []
    execute(plan)
    assert not settings.home.exists()


def test_only_what_was_planned_is_deleted(settings: Settings) -> None:
    fill(settings.home)
    plan = plan_reset(settings)
    (settings.home / "later.txt").write_text("came after the plan was shown")
    execute(plan)
    assert (settings.home / "later.txt").read_text() == "came after the plan was shown"


def test_a_folder_without_the_marker_is_refused(settings: Settings, tmp_path: Path) -> None:
    settings.home.mkdir()
    (settings.home / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        plan_reset(settings)
    with pytest.raises(UsageError, match="FLEETCAST_HOME"):
        make_home(settings.home)
    (settings.home / "thesis.tex").unlink()
    assert make_home(settings.home) == settings.home.resolve()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        plan_reset(Settings(home=tmp_path / "file"))


def test_a_marker_that_vanished_stops_the_deletion(settings: Settings) -> None:
    fill(settings.home)
    plan = plan_reset(settings)
    (settings.home / MARKER).unlink()
    with pytest.raises(UsageError):
        execute(plan)
    assert (settings.home / "demo" / "manifest.json").exists()


def test_links_are_removed_but_never_followed(settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.csv").write_text("x" * 5000)
    fill(settings.home)
    (settings.home / "link").symlink_to(outside)
    (settings.home / "demo" / "inner").symlink_to(outside)
    (settings.home / "dangling").symlink_to(tmp_path / "nowhere")
    plan = plan_reset(settings)
    items = {item.name: item for item in plan.items}
    assert (items["link"].kind, items["link"].files) == ("link", 1)
    assert (items["demo"].files, items["demo"].size < 2000) == (3, True)
    execute(plan)
    assert (outside / "precious.csv").read_text() == "x" * 5000
    assert [path.name for path in settings.home.iterdir()] == [MARKER]


@pytest.mark.parametrize("lock", ["service.lock", "demo/models/run/run.lock"])
def test_refused_while_a_service_or_a_run_is_up(settings: Settings, lock: str) -> None:
    fill(settings.home)
    program = (
        "import sys\nfrom fleetcast.operate import locks\n"
        "with locks.hold(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(settings.home / lock)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        plan = plan_reset(settings)
        with pytest.raises(RunLockedError, match=rf"{lock} is held by process {process.pid}"):
            execute(plan)
        assert (settings.home / "fleetcast.db").exists()
        assert (settings.home / "demo" / "manifest.json").exists()
    finally:
        process.kill()
        process.communicate()
    execute(plan)
    assert [path.name for path in settings.home.iterdir()] == [MARKER]


def test_a_database_elsewhere_stays_and_is_named_without_its_password(tmp_path: Path) -> None:
    make_home(tmp_path / "home")
    server = plan_reset(Settings(home=tmp_path / "home", database_url="postgresql://me:secret@host/fleet"))
    assert server.stays == ["the database postgresql://me:***@host/fleet"]
    file = plan_reset(Settings(home=tmp_path / "home", database_url=f"sqlite:///{tmp_path}/other.db"))
    assert file.stays == [f"the database {tmp_path}/other.db"]
    assert plan_reset(Settings(home=tmp_path / "home", database_url=None)).stays == []


@given(
    contents=st.dictionaries(st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6}){0,2}\.x", fullmatch=True), st.binary(max_size=50))
)
def test_size_and_count_are_those_of_the_files(
    contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("homes") / "home"
    make_home(home)
    for name, content in contents.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    plan = plan_reset(Settings(home=home))
    assert (plan.files, plan.size) == (len(contents), sum(map(len, contents.values())))
    execute(plan)
    assert [path.name for path in home.iterdir()] == [MARKER]


def test_what_a_killed_service_had_not_checkpointed_counts_and_goes_with_its_database(settings: Settings) -> None:
    make_home(settings.home)
    program = (
        "import os, sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute('PRAGMA journal_mode=WAL')\nconnection.execute('CREATE TABLE samples (value REAL)')\n"
        "connection.execute('INSERT INTO samples VALUES (1), (2)')\nconnection.commit()\nos._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(settings.home / "fleetcast.db")], check=False)
    assert (settings.home / "fleetcast.db-wal").exists()
    plan = plan_reset(settings)
    assert [(item.name, item.rows) for item in plan.items] == [("fleetcast.db", {"samples": 2})]
    execute(plan)
    assert [path.name for path in settings.home.iterdir()] == [MARKER]


def test_a_damaged_database_can_be_deleted(settings: Settings) -> None:
    make_home(settings.home)
    (settings.home / "fleetcast.db").write_bytes(b"SQLite format 3\0 and then nothing good")
    plan = plan_reset(settings)
    assert plan.items[0].rows is None
    execute(plan)
    assert [path.name for path in settings.home.iterdir()] == [MARKER]


def test_a_lock_of_a_killed_service_does_not_block(settings: Settings) -> None:
    fill(settings.home)
    (settings.home / "service.lock").write_text('{"pid": 1, "started": "2026-01-01T00:00:00+00:00", "command": "x"}')
    assert locks.holder(settings.home / "service.lock") is None
    execute(plan_reset(settings))
    assert [path.name for path in settings.home.iterdir()] == [MARKER]
