"""`python -m serve_app`: the service on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from fleetcast.clock import ClockSpec
from fleetcast.errors import FleetCastError, UsageError
from fleetcast.runtime import prepare_environment
from fleetcast.settings import Settings
from serve_app.arguments import Launch


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    found = argparse.ArgumentParser(prog="python -m serve_app", description=__doc__)
    found.add_argument("--model", type=Path, required=True, metavar="BUNDLE", help="folder of the model bundle")
    found.add_argument("--host", help="address to listen on (default: the settings', 127.0.0.1)")
    found.add_argument("--port", type=int, help="port to listen on (default: the settings', 8000)")
    found.add_argument("--home", type=Path, help="folder of the service's database and state")
    found.add_argument("--database", metavar="URL", help="SQLAlchemy URL (default: SQLite in the home folder)")
    found.add_argument("--prometheus", metavar="URL", help="read samples of this Prometheus (default: the settings')")
    found.add_argument("--new-key", metavar="NAME", help="make a new API key of this name with all scopes")
    source = found.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, metavar="DATASET", help="store the last hours of a dataset first")
    source.add_argument(
        "--feed", type=Path, metavar="DATASET", help="continue a simulated dataset live, on a simulated clock"
    )
    found.add_argument("--clock-origin", type=_time, metavar="TIME", help="start a simulated clock at this time")
    found.add_argument("--speed", type=float, default=60.0, help="simulated seconds a second (default: 60)")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code: 0 after Ctrl-C, 1 for a failure, 2 for wrong use."""
    options = parser().parse_args(arguments)
    try:
        launch, settings = _launch(options), _settings(options)
        prepare_environment(settings.ray)
        from serve_app.launcher import run  # noqa: PLC0415  # Ray reads its authentication mode when it is imported

        run(launch, settings, _say)
    except FleetCastError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _launch(options: argparse.Namespace) -> Launch:
    if options.clock_origin and options.feed:
        raise UsageError("--feed sets the clock itself: leave --clock-origin out")
    if options.speed <= 0:
        raise UsageError(f"--speed {options.speed:g}: the clock must go forward")
    clock = None
    if options.clock_origin:
        clock = ClockSpec(origin=options.clock_origin, anchor=time.time(), speed=options.speed)
    return Launch(options.model, options.data, options.feed, clock, options.speed, options.new_key)


def _settings(options: argparse.Namespace) -> Settings:
    """The settings of the environment with what the command line says put over them."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise UsageError(f"the settings cannot be used: {error}") from error
    service = {name: getattr(options, name) for name in ("host", "port") if getattr(options, name) is not None}
    update: dict[str, object] = {"service": settings.service.model_copy(update=service)}
    if options.home is not None:
        update["home"] = options.home
    if options.prometheus is not None:
        update["prometheus"] = settings.prometheus.model_copy(update={"url": options.prometheus})
    if options.database is not None:
        update["database_url"] = options.database
    return settings.model_copy(update=update)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone: write for example 2026-01-12T05:00Z")
    return moment.astimezone(UTC)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
