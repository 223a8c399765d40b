"""The doctor finds what is wrong, says what to do, and calls nothing well that it did not look at."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from fleetcast.contract.validate import validate
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.operate.checks_components import SAMPLE_FLEET, check_bundle, check_dataset, check_simulator
from fleetcast.operate.checks_environment import (
    check_compiler,
    check_database,
    check_machine,
    check_packages,
    check_python,
)
from fleetcast.operate.doctor import run_doctor
from fleetcast.operate.home import make_home
from fleetcast.operate.verdict import CheckResult, Verdict
from fleetcast.settings import Settings
from fleetcast.simulate.simulator import simulate
from fleetcast.store.engine import open_store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    make_home(tmp_path / "home")
    return Settings(home=tmp_path / "home", database_url=None)


def checkout(folder: Path, dependencies: str, lock: str | None = None) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "x"\ndependencies = {dependencies}\n')
    if lock is not None:
        (folder / "requirements.lock").write_text(lock)
    return folder


def assert_says_what_to_do(result: CheckResult, verdict: Verdict, *words: str) -> None:
    assert result.verdict == verdict, result
    assert result.advice
    assert all(word in result.found for word in words), result.found


def test_python_and_machine(settings: Settings) -> None:
    assert check_python().verdict == Verdict.OK
    assert [result.name for result in check_machine(settings)] == ["cores", "memory", "shared memory", "disk"]


def test_a_missing_compiler_is_a_warning_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_compiler().verdict == Verdict.OK
    monkeypatch.setenv("PATH", "")
    missing = check_compiler()
    assert (missing.verdict, missing.advice) == (Verdict.WARN, "apt-get install g++")


def test_packages_against_ranges_and_lock(tmp_path: Path) -> None:
    import numpy

    good = checkout(tmp_path / "good", '["numpy>=2"]', f"# pins\nnumpy=={numpy.__version__}\n")
    assert check_packages(good).verdict == Verdict.OK
    missing = checkout(tmp_path / "missing", '["no-such-package-of-ours>=1"]')
    assert_says_what_to_do(check_packages(missing), Verdict.FAIL, "no-such-package-of-ours is missing")
    old = checkout(tmp_path / "old", '["numpy>=999"]')
    assert_says_what_to_do(check_packages(old), Verdict.FAIL, numpy.__version__, ">=999")
    other = checkout(tmp_path / "other", '["numpy"]', "numpy==1.0\n")
    assert_says_what_to_do(check_packages(other), Verdict.WARN, f"numpy {numpy.__version__} (locked 1.0)")


def test_this_checkout_meets_its_own_declarations() -> None:
    assert check_packages(ROOT).verdict in (Verdict.OK, Verdict.WARN)


def test_a_database_missing_new_old_and_damaged(settings: Settings) -> None:
    assert_says_what_to_do(check_database(settings), Verdict.SKIP, "not there yet")
    assert not (settings.home / "fleetcast.db").exists()
    open_store(settings.database).close()
    assert check_database(settings).verdict == Verdict.OK
    with sqlite3.connect(settings.home / "fleetcast.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    connection.close()
    assert_says_what_to_do(check_database(settings), Verdict.WARN, "schema older")
    (settings.home / "fleetcast.db").write_bytes(b"no database at all" * 100)
    assert_says_what_to_do(check_database(settings), Verdict.FAIL, "cannot be opened")


def test_the_simulator_keeps_the_contract() -> None:
    assert check_simulator().verdict == Verdict.OK, check_simulator()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shard, folder = simulate(SAMPLE_FLEET), tmp_path_factory.mktemp("dataset")
    storage, metrics = Storage(folder), shard.table.schema.names[4:]
    storage.write_table("maintenance.parquet", shard.maintenance)
    part = write_part(storage, 0, shard.table, metrics)
    soft = validate(shard.table).soft
    write_manifest(storage, [part], metrics, timezone=SAMPLE_FLEET.timezone, soft_range_counts=soft)
    return folder


def test_a_dataset_whole_damaged_and_missing(dataset: Path, tmp_path: Path) -> None:
    whole = check_dataset(dataset)
    assert whole.verdict == Verdict.OK, whole.found
    assert str(Dataset.open(dataset).manifest.rows) in whole.found
    damaged = tmp_path / "damaged"
    shutil.copytree(dataset, damaged)
    with (damaged / "part-00000.parquet").open("ab") as part:
        part.write(b"x")
    assert_says_what_to_do(check_dataset(damaged), Verdict.FAIL, "part-00000.parquet")
    assert_says_what_to_do(check_dataset(tmp_path / "nowhere"), Verdict.FAIL, "no dataset")


def test_a_missing_bundle_is_a_failure(tmp_path: Path) -> None:
    assert_says_what_to_do(check_bundle(tmp_path / "nowhere"), Verdict.FAIL, "no model bundle")


def test_a_whole_run_looks_at_everything_and_changes_nothing(settings: Settings, dataset: Path) -> None:
    shutil.copytree(dataset, settings.home / "data")
    before = sorted(settings.home.rglob("*"))
    results = list(run_doctor(settings))
    names = [result.name for result in results]
    expected = ["python", "packages", "cores", "memory", "shared memory", "disk", "compiler", "ray", "database"]
    assert names[:9] == expected
    assert names[9:] == ["simulator", f"dataset {settings.home.resolve() / 'data'}", "service"]
    assert not [result for result in results if result.verdict == Verdict.FAIL]
    assert all(result.advice for result in results if result.verdict != Verdict.OK)
    assert sorted(settings.home.rglob("*")) == before


def test_a_check_that_breaks_is_a_failure_and_the_others_go_on(settings: Settings) -> None:
    settings.database_url = "nonsense"
    results = {result.name: result for result in run_doctor(settings)}
    assert results["database"].verdict == Verdict.FAIL
    assert results["simulator"].verdict == Verdict.OK
