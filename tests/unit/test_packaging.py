"""What a fresh machine installs, what a cluster's nodes get, and what is kept out of a job's upload."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fleetcast.operate.checks_environment import MINIMUM_PYTHON, read_lock

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    return {str(canonicalize_name(name)): pin for name, pin in read_lock(ROOT / "requirements.lock").items()}


def test_the_lock_holds_only_exact_versions() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)]
    assert not wrong
    assert len(lines) == len({canonicalize_name(line.split("==")[0]) for line in lines})


def test_every_declared_package_is_locked_within_its_range(pins: dict[str, str]) -> None:
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_torch_is_pinned_without_a_build_so_that_a_gpu_machine_takes_cuda(pins: dict[str, str]) -> None:
    assert pins["torch"] == "2.13.0"


def test_the_doctor_asks_for_the_declared_python() -> None:
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, MINIMUM_PYTHON))}"


def test_ci_calls_exactly_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "exec make test"]


def test_make_help_lists_the_two_commands() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert {"demo", "test", "setup", "lint", "clean", "lock"} <= set(listed)


def test_setup_has_nothing_to_do_a_second_time(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    for stamp in ("created", "installed"):
        (tmp_path / ".venv" / stamp).touch()
    assert subprocess.run(["make", "-q", "setup"], cwd=tmp_path, check=False).returncode == 0
    later = (tmp_path / ".venv" / "installed").stat().st_mtime + 10
    os.utime(tmp_path / "requirements.lock", (later, later))
    assert subprocess.run(["make", "-q", "setup"], cwd=tmp_path, check=False).returncode == 1


def test_a_jobs_upload_holds_the_code_and_no_data(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    kept = ["fleetcast/cli.py", "fleetcast/store/migrations/env.py", "jobs/train.py", "serve_app/app.py"]
    kept += [
        "fleetcast/remediation/playbooks/web_api.yaml",
        "requirements.lock",
        "cluster.yaml",
        "fleetcast/model/net.py",
    ]
    left = [".git/HEAD", ".venv/bin/python", ".fleetcast/fleetcast.db", "data/vms/part-0.parquet"]
    left += ["models/vms/run/bundle/model.safetensors", "report/vms/fans.png", "forecast/vms.parquet", ".mypy_cache/x"]
    for name in [*kept, *left]:
        (tmp_path / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / name).write_text("x")
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, tmp_path / "repo")
    create_package(str(tmp_path / "repo"), tmp_path / "upload.zip", include_gitignore=True)
    uploaded = {name for name in zipfile.ZipFile(tmp_path / "upload.zip").namelist() if not name.endswith("/")}
    assert uploaded - {".gitignore", ".rayignore"} == set(kept)
