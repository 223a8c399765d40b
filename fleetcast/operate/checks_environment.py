"""The doctor's checks of this machine: Python, packages, cores, memory, disk, compiler, database."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fleetcast.operate.verdict import CheckResult, fail, ok, skip, warn
from fleetcast.settings import Settings

MINIMUM_PYTHON = (3, 11)
GIB = 2**30
# A Ray head with its dashboard and Serve with two replicas took 2.4 GB, a training another 1-2 GB.
WANTED_CORES, NEEDED_MEMORY, WANTED_MEMORY = 2, 3 * GIB, 6 * GIB
NEEDED_DISK, WANTED_DISK = 1 * GIB, 5 * GIB
WANTED_SHARED_MEMORY = 1 * GIB


def check_python() -> CheckResult:
    """The Python that runs this."""
    found = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, MINIMUM_PYTHON))
    if sys.version_info < MINIMUM_PYTHON:
        return fail("python", found, f"install Python {needed} or newer and set FleetCast up again")
    return ok("python", f"{found} ({sys.executable})")


def check_packages(root: Path | None = None) -> CheckResult:
    """Installed packages against the declared ranges and, in a checkout, against requirements.lock.

    Args:
        root: the checkout; None finds it from where this file lies.
    """
    root = root or Path(__file__).resolve().parents[2]
    declared = _declared(root)
    if declared is None:
        return fail("packages", "FleetCast is not installed and this is no checkout", "run `pip install .`")
    broken = [text for requirement in declared if (text := _breaks(requirement))]
    if broken:
        return fail("packages", "; ".join(broken), "run `make setup`, or `pip install -r requirements.lock`")
    lock = root / "requirements.lock"
    if not lock.exists():
        return ok("packages", f"{len(declared)} declared packages in their ranges")
    pins = read_lock(lock)
    others = [f"{name} {_installed(name) or 'missing'} (locked {pin})" for name, pin in pins.items() if _off(name, pin)]
    if others:
        return warn("packages", "not as tested: " + ", ".join(others), "run `make setup` to get the tested versions")
    return ok("packages", f"{len(declared)} declared packages in their ranges, all {len(pins)} locked versions met")


def check_machine(settings: Settings) -> list[CheckResult]:
    """Cores, memory, Ray's shared memory, disk."""
    cores = len(os.sched_getaffinity(0))
    few = f"training and serving share {cores} core: expect them to be slow"
    return [
        ok("cores", str(cores)) if cores >= WANTED_CORES else warn("cores", str(cores), few),
        _amount("memory", _memory(), NEEDED_MEMORY, WANTED_MEMORY, "close other programs or take a larger machine"),
        _shared_memory(),
        _disk(settings.home),
    ]


def check_compiler() -> CheckResult:
    """A C++ compiler, with which training and forecasting are several times as fast."""
    from fleetcast.model.native.compiler import find_compiler  # noqa: PLC0415 (a missing package is a finding)

    found = find_compiler()
    if found is None:
        return warn("compiler", "none: training and forecasting take several times as long", "apt-get install g++")
    return ok("compiler", found)


def check_database(settings: Settings) -> CheckResult:
    """The database opens, its schema is the newest, and SQLite finds its file whole. Changes nothing."""
    from alembic.config import Config  # noqa: PLC0415 (a missing package is a finding, not a crash)
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from sqlalchemy import create_engine, make_url, text  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    url = make_url(settings.database)
    shown = url.render_as_string(hide_password=True)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        if not Path(url.database or "").exists():
            return skip("database", f"{shown} is not there yet", "the service makes it when it first starts")
        url = url.set(database=f"file:{url.database}", query={"mode": "rw", "uri": "true"})
    config = Config()
    config.set_main_option("script_location", "fleetcast.store:migrations")
    newest = ScriptDirectory.from_config(config).get_current_head()
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
            damage = connection.execute(text("PRAGMA quick_check")).scalar_one() if sqlite else "ok"
    except (SQLAlchemyError, OSError) as error:
        return fail("database", f"{shown} cannot be opened: {error}", "check FLEETCAST_DATABASE_URL and the server")
    finally:
        engine.dispose()
    if damage != "ok":
        return fail("database", f"{shown} is damaged: {damage}", "restore it from a backup, or `fleetcast reset`")
    if current != newest:
        advice = "start the service, which migrates it; if a newer FleetCast wrote it, upgrade"
        return warn("database", f"{shown} has schema {current}, newest is {newest}", advice)
    return ok("database", f"{shown} opens, schema {current} is the newest")


def read_lock(lock: Path) -> dict[str, str]:
    """Package and version of each pin of a requirements file."""
    lines = (line.strip() for line in lock.read_text().splitlines())
    return dict(line.split("==", 1) for line in lines if re.match(r"[A-Za-z0-9._-]+==", line))


def _declared(root: Path) -> list[Requirement] | None:
    """What pyproject.toml of the checkout, or else the installed package, says it needs."""
    project = root / "pyproject.toml"
    lines: Iterable[str]
    if project.exists():
        lines = tomllib.loads(project.read_text())["project"]["dependencies"]
    else:
        try:
            lines = metadata.requires("fleetcast") or []
        except metadata.PackageNotFoundError:
            return None
    requirements = [Requirement(line) for line in lines]
    return [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(canonicalize_name(name))
    except metadata.PackageNotFoundError:
        return None


def _breaks(requirement: Requirement) -> str | None:
    found = _installed(requirement.name)
    if found is None:
        return f"{requirement.name} is missing (needs {requirement.specifier})"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} is {found} (needs {requirement.specifier})"
    return None


def _off(name: str, pin: str) -> bool:
    """Whether the installed version is another one; a build such as 2.13.0+cpu counts as 2.13.0."""
    found = _installed(name)
    return found is None or found.partition("+")[0] != pin


def _memory() -> int:
    """Bytes that a new program may have, as the kernel estimates it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":", 1) for line in lines)}
    return values["MemAvailable"]


def _shared_memory() -> CheckResult:
    free = shutil.disk_usage("/dev/shm").free
    advice = "Ray keeps its objects on disk then, which is slow: give /dev/shm more (docker run --shm-size)"
    return _amount("shared memory", free, 0, WANTED_SHARED_MEMORY, advice)


def _disk(home: Path) -> CheckResult:
    folder = next(path for path in (home.resolve(), *home.resolve().parents) if path.exists())
    advice = f"free space on the disk of {folder}, or set FLEETCAST_HOME to another one"
    return _amount("disk", shutil.disk_usage(folder).free, NEEDED_DISK, WANTED_DISK, advice)


def _amount(name: str, free: int, needed: int, wanted: int, advice: str) -> CheckResult:
    found = f"{free / GIB:.1f} GiB free"
    if free < needed:
        return fail(name, f"{found}, needed {needed / GIB:.0f} GiB", advice)
    if free < wanted:
        return warn(name, f"{found}, better {wanted / GIB:.0f} GiB", advice)
    return ok(name, found)
