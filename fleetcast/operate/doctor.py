"""`fleetcast doctor`: is this machine fit for FleetCast, and does every component keep the data contract?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

from fleetcast.operate.checks_environment import (
    check_compiler,
    check_database,
    check_machine,
    check_packages,
    check_python,
)
from fleetcast.operate.verdict import CheckResult, fail, ok
from fleetcast.settings import Settings

Check = Callable[[], CheckResult | list[CheckResult]]

_START_TIMEOUT_S = 120
_RAY_ADVICE = "free memory and disk space, and see the logs in Ray's temporary folder"
_START_RAY = """
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
print(ray.get(ray.remote(lambda: 6 * 7).remote()))
ray.shutdown()
"""


def run_doctor(
    settings: Settings,
    dataset: str | os.PathLike[str] | None = None,
    bundle: str | os.PathLike[str] | None = None,
    deep: bool = False,
) -> Iterator[CheckResult]:
    """Run every check and yield each result as soon as it is there.

    Args:
        settings: say where home, database and service are.
        dataset: the dataset to check; None checks those in home.
        bundle: the model bundle to check; None checks those in home.
        deep: also start a Ray of one core and run a task in it (some 10 s).
    """
    environment: list[tuple[str, Check]] = [
        ("python", check_python),
        ("packages", check_packages),
        ("machine", lambda: check_machine(settings)),
        ("compiler", check_compiler),
        ("ray", lambda: check_ray(deep)),
        ("database", lambda: check_database(settings)),
    ]
    for name, check in environment:
        yield from _run(name, check)
    for name, check in _component_checks(settings, dataset, bundle):
        yield from _run(name, check)


def check_ray(deep: bool = False) -> CheckResult:
    """Ray imports; with `deep`, a fresh local Ray starts and runs a task."""
    try:
        import ray  # noqa: PLC0415 (a missing package is a finding, not a crash)
    except ImportError as error:
        return fail("ray", f"cannot be imported: {error}", "run `make setup`, or `pip install -r requirements.lock`")
    if not deep:
        return ok("ray", f"{ray.__version__} imports (--deep starts it too)")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START_RAY],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_START_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return fail("ray", f"did not start within {_START_TIMEOUT_S} s", _RAY_ADVICE)
    if done.returncode or done.stdout.split()[-1:] != ["42"]:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return fail("ray", f"{ray.__version__} does not start: {last}", _RAY_ADVICE)
    return ok("ray", f"{ray.__version__} starts and runs a task")


def _component_checks(
    settings: Settings, dataset: str | os.PathLike[str] | None, bundle: str | os.PathLike[str] | None
) -> Iterable[tuple[str, Check]]:
    try:
        from fleetcast.operate import checks_components as checks  # noqa: PLC0415 (they need all packages)
    except ImportError as error:
        missing = fail("components", f"cannot be imported: {error}", "run `make setup`, or install requirements.lock")
        return [("components", lambda: missing)]
    found_data, found_bundles = checks.datasets_and_bundles(settings.home.resolve())
    datasets = [dataset] if dataset is not None else found_data
    bundles = [bundle] if bundle is not None else found_bundles
    return [
        ("simulator", checks.check_simulator),
        *((f"dataset {one}", _bind(checks.check_dataset, one)) for one in datasets),
        *((f"bundle {one}", _bind(checks.check_bundle, one, dataset)) for one in bundles),
        ("service", lambda: checks.check_service(settings)),
    ]


def _bind(check: Callable[..., CheckResult], *arguments: object) -> Check:
    return lambda: check(*arguments)


def _run(name: str, check: Check) -> list[CheckResult]:
    """A check's results; a check that breaks is a failure of what it looked at, and says how."""
    try:
        results = check()
    except Exception as error:
        return [fail(name, f"{type(error).__name__}: {error}", "report this with the output of `fleetcast doctor`")]
    return results if isinstance(results, list) else [results]
