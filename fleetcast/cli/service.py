"""Commands that run the service: serve and demo. The service is a program of its own, `python -m serve_app`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from fleetcast.cli.output import say

NEW_KEY = typer.Option(None, help="Make a new API key of this name with all scopes, shown once.")
DEMO_SPEED = 60.0
DEMO_HOLDOUT_HOURS = 36
DEMO_WINDOWS, DEMO_STRIDE = 9, 24
DEMO_EPOCHS, DEMO_SAMPLES = 8, 4096


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command()(serve)


def serve(
    model: Path = typer.Option(..., help="Bundle."),
    port: int | None = typer.Option(None, help="Port; default 8000."),
    data: str | None = typer.Option(None, help="Dataset that fills the history at the start."),
    clock_origin: str | None = typer.Option(None, help="Time that the service starts at, to replay old data."),
    speed: float = typer.Option(1.0, help="Seconds of that clock a second."),
    prometheus: str | None = typer.Option(None, help="Read samples of the Prometheus at this address."),
    new_key: str | None = NEW_KEY,
) -> None:
    """Serve forecasts of the bundle on loopback until Ctrl-C."""
    arguments = ["--model", str(model)]
    if port is not None:
        arguments += ["--port", str(port)]
    if data is not None:
        arguments += ["--data", data]
    if clock_origin is not None:
        arguments += ["--clock-origin", clock_origin, "--speed", str(speed)]
    if prometheus is not None:
        arguments += ["--prometheus", prometheus]
    if new_key is not None:
        arguments += ["--new-key", new_key]
    run_service(arguments)


def run_service(arguments: Sequence[str]) -> None:
    """Become the service, so that Ctrl-C and signals reach it and nothing else."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "serve_app", *arguments])


def demo(
    servers: int = typer.Option(25, help="Number of simulated servers."),
    hours: float = typer.Option(168.0, help="Length of the simulated span."),
    seed: int = typer.Option(7, help="Another seed is another fleet."),
    port: int | None = typer.Option(None, help="Port of the dashboard; default 8000."),
    speed: float = typer.Option(DEMO_SPEED, help="Simulated seconds a second of the live feed."),
    fresh: bool = typer.Option(False, help="Delete this demo's data, model and history first."),
    new_key: str | None = NEW_KEY,
) -> None:
    """Everything: simulate a fleet, train, backtest, serve forecasts, feed them live, show the dashboard."""
    from fleetcast.operate.address import check_address
    from fleetcast.operate.home import SERVICE_LOCK, make_home
    from fleetcast.operate.locks import hold
    from fleetcast.runtime import disconnect
    from fleetcast.settings import Settings

    settings = Settings()
    settings.service.port = port or settings.service.port
    check_address(settings.service)
    home = make_home(settings.home)
    folder = home / "demo" / f"servers-{servers}-hours-{hours:g}-seed-{seed}"
    with hold(home / "demo.lock"), hold(folder / "service" / SERVICE_LOCK):
        model = _prepare(folder, servers, hours, seed, fresh)
    say("4/4 starting the service, the live feed and the dashboard")
    disconnect()  # the Ray of the jobs; the service starts its own
    arguments = ["--model", str(model), "--feed", str(folder / "data"), "--home", str(folder / "service")]
    arguments += ["--speed", str(speed), "--port", str(settings.service.port)]
    run_service(arguments if new_key is None else [*arguments, "--new-key", new_key])


def _prepare(folder: Path, servers: int, hours: float, seed: int, fresh: bool) -> Path:
    """Data, model and backtest of the demo, as far as they are not there; returns the pointer to the current bundle."""
    from fleetcast.cli.data import simulate_fleet
    from fleetcast.model.registry import CURRENT, current_bundle
    from fleetcast.simulate.spec import FleetSpec

    data, models, report = folder / "data", folder / "models", folder / "report"
    if fresh:
        _forget(folder)
    say(f"1/4 simulating {servers} servers x {hours:g} h in {data}")
    simulate_fleet(FleetSpec(servers=servers, hours=hours, seed=seed), str(data))
    bundle = current_bundle(models)
    if bundle is not None and (report / "report.json").exists():
        say(f"2/4 using the model trained before, {bundle} (--fresh trains anew)")
        say(f"3/4 its backtest is in {report}")
        return models / CURRENT
    say("2/4 training; the first report comes after about half a minute")
    shutil.rmtree(report, ignore_errors=True)  # of another model
    bundle = _train(data, models)
    say("3/4 backtest on the hours that training did not see")
    _backtest(bundle, data, report)
    return models / CURRENT


def _forget(folder: Path) -> None:
    """Delete what this demo made, all but the lock that is held."""
    for entry in folder.iterdir():
        if entry.name != "service":
            shutil.rmtree(entry)
    for file in (folder / "service").iterdir():
        if file.is_file() and file.suffix != ".lock":
            file.unlink()


def _train(data: Path, models: Path) -> Path:
    from datetime import timedelta

    from fleetcast.cli.output import print_facts
    from fleetcast.cli.training import train_and_calibrate
    from fleetcast.training.options import TrainOptions

    options = TrainOptions(
        data=str(data),
        models=str(models),
        holdout=timedelta(hours=DEMO_HOLDOUT_HOURS),
        epochs=DEMO_EPOCHS,
        samples_per_epoch=DEMO_SAMPLES,
        members=1,
    )
    found = train_and_calibrate(options, promote=True)
    print_facts(found)
    return Path(found["bundle"])


def _backtest(bundle: Path, data: Path, report: Path) -> None:
    from rich.console import Console

    from fleetcast.cli.evaluate import run_report
    from fleetcast.evaluation.report import tables

    found = run_report(bundle, str(data), report, DEMO_WINDOWS, DEMO_STRIDE, None)
    Console(width=140).print(tables(found))
