"""Starts the service on this machine and ends everything that it started."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import httpx
import ray
from ray import serve
from ray.serve.api import RunTarget

from fleetcast.clock import ClockSpec
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import ServiceError
from fleetcast.model.manifest import load_manifest
from fleetcast.operate import locks
from fleetcast.operate.address import check_address
from fleetcast.operate.home import SERVICE_FILE, SERVICE_LOCK, make_home
from fleetcast.operate.tls import trust
from fleetcast.runtime import connect
from fleetcast.settings import ServiceSettings, Settings
from fleetcast.store.engine import Store, open_store
from fleetcast.store.keys import SCOPES
from serve_app import preparation
from serve_app.app import build, build_ui
from serve_app.arguments import AppArgs, DashboardArgs, Launch
from serve_app.processes import descendants, end
from serve_app.schedule import STEP
from serve_app.span import kept_steps

Say = Callable[[str], None]

API, UI = "fleetcast", "fleetcast-ui"
END_S = 15.0
FORECAST_S = 180.0
QUIET = {"enable_access_log": False, "log_level": "WARNING"}


class Stopped(BaseException):
    """SIGINT or SIGTERM came."""


def run(launch: Launch, settings: Settings, say: Say) -> None:
    """Start the service, serve until SIGINT or SIGTERM, end everything that was started.

    Raises `UsageError`, `RunLockedError`, `BundleError`, `DatasetError`, `StoreError` and `ServiceError` when it
    cannot start, `ServiceError` also when the demo feed ends.
    """
    check_address(settings.service)
    home = make_home(settings.home)
    with locks.hold(home / SERVICE_LOCK), _stoppable(), ExitStack() as started:
        try:
            stay(_start(launch, settings, home, started, say))
        except Stopped:
            say("Stopping ...")
            _ignore_signals()
    say("Stopped.")


def stay(feed: subprocess.Popen[bytes] | None) -> NoReturn:
    """Wait until a signal raises. Raises `ServiceError` when the demo feed, if there is one, ends before."""
    while feed is None:
        time.sleep(3600)
    feed.wait()
    raise _feed_ended(feed)


def _start(
    launch: Launch, settings: Settings, home: Path, started: ExitStack, say: Say
) -> subprocess.Popen[bytes] | None:
    """Start everything; returns the demo feed's process, if there is one."""
    begun = time.monotonic()
    store = open_store(settings.database)
    name, fresh = _make_keys(store, launch.new_key, say)
    span = kept_steps(settings.service, load_manifest(launch.bundle)) * STEP
    source = launch.feed or launch.data
    dataset = None if source is None else Dataset.open(source)
    if launch.data is not None and dataset is not None:
        rows = preparation.preload(store, dataset, span)
        say(f"Stored the last {rows} samples of {launch.data}.")
    clock = launch.clock or ClockSpec()
    if launch.data is not None and dataset is not None:
        _warn_of_age(dataset, clock, span, say)
    if launch.feed is not None and dataset is not None:
        clock = preparation.demo_clock(store, dataset, launch.speed, time.time())
    args = _arguments(launch, settings, clock)
    api = build(args)
    certificate = settings.service.tls_certificate
    scheme = "http" if certificate is None else "https"
    address = f"{scheme}://{_reachable(settings.service.host)}:{settings.service.port}"

    say("Starting Ray ...")
    started.callback(_end_all, settings)
    connect(settings.ray, log_to_driver=False)
    _listen()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    say(f"Starting the service with the model {launch.bundle} ...")
    trusted = None if certificate is None else str(certificate.absolute())
    _deploy(api, build_ui(DashboardArgs(api_url=address, certificate=trusted)), settings)
    feed = None
    if launch.feed is not None:
        say(f"Starting the demo feed, {launch.speed:g} times as fast as real time ...")
        feed = _start_feed(launch.feed, address, trusted, clock, span, preparation.feed_key(store))
        started.callback(_end_feed, feed)
        _wait_for_forecasts(address, trusted, feed, say)
    started.enter_context(_written(home / SERVICE_FILE, address, launch.bundle))
    say(f"FleetCast is up after {time.monotonic() - begun:.0f} s.")
    say(_farewell(address, name, fresh))
    return feed


def _make_keys(store: Store, new_key: str | None, say: Say) -> tuple[str, bool]:
    """Make the first key and the one asked for; returns the name to log in with and whether its key is new.

    Each is said as soon as it is made: what follows may fail, and the key stays.
    """
    key = preparation.first_key(store)
    if key is not None:
        say(_told(preparation.FIRST_KEY, key))
    if not new_key:
        return preparation.FIRST_KEY, key is not None
    say(_told(new_key, preparation.fresh_key(store, new_key, SCOPES)))
    return new_key, True


def _told(name: str, key: str) -> str:
    return f"API key of {name!r}, shown only now, keep it: {key}"


def _warn_of_age(dataset: Dataset, clock: ClockSpec, span: timedelta, say: Say) -> None:
    now = clock.build().now()
    if now - dataset.manifest.end > span:
        say(
            f"The dataset ends at {dataset.manifest.end.isoformat()} and the clock shows {now.isoformat()}: too old to "
            "forecast from. --clock-origin starts a simulated clock at the dataset's end."
        )


def _arguments(launch: Launch, settings: Settings, clock: ClockSpec) -> AppArgs:
    dataset = launch.feed or launch.data
    return AppArgs(
        bundle=str(launch.bundle.absolute()),  # it may be a pointer that is moved: not resolved
        database=settings.database,
        forecasts=settings.forecast_folder,
        dataset=None if dataset is None else str(dataset.resolve()),
        clock=clock,
        service=settings.service,
        alerts=settings.alerts,
        cost=settings.cost,
        remediation=settings.remediation,
        prometheus=settings.prometheus,
        metrics=settings.metrics,
    )


def http_options(service: ServiceSettings) -> dict[str, Any]:
    """Where and how Serve listens."""
    options = {"host": service.host, "port": service.port, "request_timeout_s": service.request_timeout_s}
    if service.tls_certificate is None or service.tls_key is None:
        return options
    certificate, key = (str(file.absolute()) for file in (service.tls_certificate, service.tls_key))
    return {**options, "ssl_certfile": certificate, "ssl_keyfile": key}


def _deploy(api: serve.Application, ui: serve.Application, settings: Settings) -> None:
    serve.start(
        proxy_location="HeadOnly",
        http_options=http_options(settings.service),
        logging_config=QUIET,
    )
    targets = [
        RunTarget(api, name=API, route_prefix="/", logging_config=QUIET),
        RunTarget(ui, name=UI, route_prefix="/ui", logging_config=QUIET),
    ]
    try:
        serve.run_many(targets)
    except RuntimeError as error:
        raise ServiceError(f"the service could not be started: {error}") from error


def _start_feed(
    dataset: Path, address: str, certificate: str | None, clock: ClockSpec, span: timedelta, key: str
) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "serve_app.demo_feed", "--data", str(dataset), "--api", address),
        *("--clock", clock.model_dump_json(), "--history-hours", str(span / timedelta(hours=1))),
        *("--parent", str(os.getpid())),
        *([] if certificate is None else ["--certificate", certificate]),
    ]
    return subprocess.Popen(command, env={**os.environ, "FLEETCAST_API_KEY": key}, start_new_session=True)


def _end_feed(feed: subprocess.Popen[bytes]) -> None:
    if feed.poll() is not None:
        return
    feed.terminate()
    end({feed.pid}, END_S)
    feed.wait()


def _feed_ended(feed: subprocess.Popen[bytes]) -> ServiceError:
    return ServiceError(f"the demo feed ended with exit code {feed.returncode}; its last lines say why")


def _wait_for_forecasts(address: str, certificate: str | None, feed: subprocess.Popen[bytes], say: Say) -> None:
    """Wait until /readyz says yes; what keeps it from doing so is said."""
    said = ""
    deadline = time.monotonic() + FORECAST_S
    with httpx.Client(base_url=address, timeout=10.0, trust_env=False, verify=trust(certificate)) as client:
        while time.monotonic() < deadline:
            if feed.poll() is not None:
                raise _feed_ended(feed)
            answer = client.get("/readyz").json()
            if answer.get("ready"):
                return
            reason = "; ".join(answer.get("reasons", [])) or str(answer)
            if reason != said:
                say(f"Waiting for the first forecasts: {reason}")
                said = reason
            time.sleep(0.5)
    raise ServiceError(f"no forecast from the model within {FORECAST_S:g} s: {said}")


@contextmanager
def _written(file: Path, address: str, bundle: Path) -> Iterator[None]:
    """Keep a file that says where the running service is."""
    content = {
        "pid": os.getpid(),
        "address": address,
        "bundle": str(bundle.resolve()),
        "started": datetime.now(UTC).isoformat(),
    }
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    partial.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _end_all(settings: Settings) -> None:
    """End Serve and Ray, as far as they were started here, and wait until no process is left."""
    below = descendants(os.getpid())
    if ray.is_initialized():
        if settings.ray.address or os.environ.get("RAY_ADDRESS"):
            for name in (API, UI):
                serve.delete(name)
        else:
            serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
    end(below, END_S)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Stopped`, wherever the program is, and put the old handlers back at the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen() -> None:
    """Ray puts its own handler for SIGTERM in place: ours comes back after it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def _reachable(host: str) -> str:
    """A host name for addresses: the wildcards listen on loopback too."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{local}]" if ":" in local else local


def _farewell(address: str, name: str, fresh: bool) -> str:
    shown = "shown above, only this once" if fresh else "shown when it was made; --new-key NAME makes another"
    lines = [
        ("Dashboard", address),
        ("API", f"{address}/docs"),
        ("Login name", name),
        ("API key", shown),
        ("Stop", "Ctrl-C"),
    ]
    return "\n".join(f"  {label:<11}{value}" for label, value in lines)
