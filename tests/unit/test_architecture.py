"""The house keeps its shape: arrows point one way, importing starts nothing, modules stay small, one version."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fleetcast

ROOT = Path(__file__).parents[2]

# Which room may import which; transitive where an arrow leads on (windows knows dataset, dataset knows contract).
# Plain modules beside the rooms (errors, clock, settings, compiling, heap, located) are open to all, as are the locks.
ARROWS = {
    "contract": set(),
    "store": set(),
    "dataset": {"contract"},
    "simulate": {"contract", "dataset"},
    "sources": {"contract", "dataset"},
    "windows": {"dataset"},
    "model": {"contract"},
    "risk": {"contract", "windows", "forecast"},  # the table's contract, and the arrays that it reads
    "forecast": {"windows", "model"},
    "training": {"windows", "model"},
    "evaluation": {"windows", "model", "risk", "forecast", "simulate"},  # the oracle is a rival on simulated data
    "alerting": {"risk", "store"},
    "remediation": {"risk", "store", "alerting", "simulate"},  # a plan answers an alert, of simulated fleets too
    "cost": {"store", "remediation"},  # what is assumed stands beside what was measured
}
BASE = {"errors", "clock", "settings", "compiling", "heap", "located", "operate.locks"}
TOP = {"operate", "cli"}  # they see all rooms
RAY_AT_HOME = ("simulate/shards.py", "training/", "forecast/batch.py", "runtime.py", "operate/doctor.py")
RUNTIME_USERS = ("simulate/shards.py", "training/", "forecast/batch.py")


def allowed(room: str) -> set[str]:
    """The rooms that `room` may import, arrows followed to their end."""
    reached: set[str] = set()
    waiting = set(ARROWS[room])
    while waiting:
        reached |= waiting
        waiting = {further for one in waiting for further in ARROWS[one]} - reached
    return reached | {room}


def modules(*tops: str) -> Iterator[Path]:
    for top in tops:
        yield from sorted((ROOT / top).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """The dotted name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    return path.relative_to(ROOT / "fleetcast").as_posix()


def test_the_table_of_arrows_has_no_circle() -> None:
    for room, direct in ARROWS.items():
        for other in direct:
            assert room not in allowed(other), f"{room} and {other} know each other"


def test_every_folder_is_a_room_of_the_table() -> None:
    folders = {path.parent.name for path in (ROOT / "fleetcast").glob("*/__init__.py")}
    assert folders - TOP <= set(ARROWS)


def test_rooms_import_only_what_they_may_know() -> None:
    wrong = []
    for path in modules("fleetcast"):
        room = place(path).split("/", maxsplit=1)[0].removesuffix(".py")
        if room not in ARROWS:
            continue
        rooms = allowed(room)
        for name in imports(path):
            if not name.startswith("fleetcast."):
                continue
            inside = name.removeprefix("fleetcast.")
            head = inside.split(".")[0]
            at_base = any(inside == base or inside.startswith(f"{base}.") for base in BASE) or inside == "operate"
            runtime = head == "runtime" and place(path).startswith(RUNTIME_USERS)
            if head not in rooms and not at_base and not runtime:
                wrong.append(f"{place(path)} imports {name}")
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_the_library_knows_nothing_of_jobs_and_service() -> None:
    wrong = [
        f"{place(path)} imports {name}"
        for path in modules("fleetcast")
        for name in imports(path)
        if name.split(".")[0] in ("jobs", "serve_app")
    ]
    assert not wrong, "\n".join(wrong)


def test_plain_modules_know_no_room() -> None:
    for name in ("errors", "clock", "settings", "compiling", "located", "operate/locks"):
        ours = {found for found in imports(ROOT / "fleetcast" / f"{name}.py") if found.startswith("fleetcast.")}
        rooms = {found.split(".")[1] for found in ours}
        assert rooms <= BASE, f"{name} imports {rooms - BASE}"


def test_ray_stays_where_it_belongs() -> None:
    wrong = [
        f"{place(path)} imports {name}"
        for path in modules("fleetcast")
        for name in imports(path)
        if name.split(".")[0] == "ray" and not place(path).startswith(RAY_AT_HOME)
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    """Every module of the library in one fresh process: no folder, no thread, no process, no Ray."""
    names = [place(path).removesuffix(".py").replace("/", ".") for path in modules("fleetcast")]
    names = [name.removesuffix("__init__").rstrip(".") for name in names if "migrations" not in name]
    program = (
        "import importlib, logging, os, sys, threading\n"
        "before = dict(os.environ)\n"
        "level = logging.getLogger().level\n"
        "import fleetcast\n"
        "assert 'ray' not in sys.modules and 'torch' not in sys.modules, 'import fleetcast loads Ray or torch'\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'fleetcast.{name}' if name else 'fleetcast')\n"
        "assert 'ray' not in sys.modules or not sys.modules['ray'].is_initialized(), 'Ray was started'\n"
        "assert logging.getLogger().level == level, 'the log level was changed'\n"
        "changed = {k for k in os.environ if k.startswith('FLEETCAST') and os.environ[k] != before.get(k)}\n"
        "assert not changed, changed\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read().split()\n"
        "assert not children, children\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    (tmp_path / "cwd").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        cwd=tmp_path / "cwd", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cwd").iterdir()) == []
    assert not (tmp_path / "home" / ".fleetcast").exists()


@pytest.mark.parametrize("deployment", ["alerts", "history", "ingress", "remediation", "watcher"])
def test_a_deployment_without_a_model_starts_without_what_models_need(deployment: str) -> None:
    """Each of these libraries takes seconds to import, in every replica, between a crash and the first answer."""
    program = (
        f"import sys, serve_app.{deployment}\n"
        "print(*{'torch', 'numba', 'lightgbm', 'sklearn', 'gradio', 'lightning'} & set(sys.modules))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_no_module_grows_without_end() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in modules("fleetcast", "jobs", "serve_app", "tests")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_there_is_one_version_number() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "fleetcast/__init__.py"
    stated = [
        path.relative_to(ROOT).as_posix()
        for path in modules("fleetcast", "jobs", "serve_app")
        if re.search(rf"""["']{re.escape(fleetcast.__version__)}["']""", path.read_text())
    ]
    assert stated == ["fleetcast/__init__.py"]


@pytest.mark.parametrize("folder", ["fleetcast", "jobs", "serve_app"])
def test_no_pickle_of_ours(folder: str) -> None:
    wrong = [
        path.relative_to(ROOT).as_posix()
        for path in modules(folder)
        if {"pickle", "cloudpickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(path)}
    ]
    assert not wrong
