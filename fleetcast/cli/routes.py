"""Commands on routes: who would be told of an alert, and a test message; and the engine that all commands work on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fleetcast.cli.database import DATABASE, HOME, opened, who
from fleetcast.cli.output import JSON_OPTION, print_json
from fleetcast.cli.parse import parse_time

if TYPE_CHECKING:
    from fleetcast.alerting.engine import AlertEngine

AT = typer.Option(None, help="Time of the service's clock, if that is simulated; default now.")
ATTRIBUTES = typer.Argument(help="What the alert is like: level=P1 profile=database server=ppdb0001 team=payments ...")


def route(
    attributes: list[str] = ATTRIBUTES,
    explain: bool = typer.Option(False, "--explain", help="Also the routes that were looked at, and why not taken."),
    at: str | None = typer.Option(None, help="Time at which to look, for mute times; default now."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Who is told of an alert like this. A server's labels come from the fleet file."""
    from fleetcast.alerting.fleet import FleetMap, parse_attributes
    from fleetcast.alerting.routing import Routing
    from fleetcast.settings import Settings

    settings, now = Settings().alerts, moment(at)
    routing = Routing.load(settings.routing, settings.shadow)
    given = parse_attributes(attributes)
    labels = FleetMap.load(settings.fleet).labels_of(given["server"]) if "server" in given else {}
    found = {**labels, **given}
    steps, taken = routing.explain(found)
    window = routing.maintenance(found, now)
    routes = [
        {
            "route": branch.name,
            "receivers": [routing.receivers[name].label for name in branch.receivers],
            "escalation": [
                {"after_s": step.after_s, "to": routing.receivers[step.to].label} for step in branch.escalation
            ],
            "shadow": branch.shadow,
            "quiet": window or routing.muted(branch, now),
        }
        for branch in taken
    ]
    looked = [
        {"depth": step.depth, "route": step.route, "line": step.line, "fits": step.fits, "why": step.why}
        for step in steps
    ]
    if as_json:
        print_json({"attributes": found, "routes": routes, **({"looked_at": looked} if explain else {})})
        return
    if explain:
        for step in steps:
            sign = "+" if step.fits else "-"
            typer.echo(f"{'  ' * step.depth}{sign} {step.route} (line {step.line}): {step.why}")
    for one in routes:
        _print_route(one)


def try_one(
    name: str = typer.Argument(metavar="ROUTE", help="Name of the route."),
    send: bool = typer.Option(False, "--send", help="Send although the route is in shadow mode."),
    patience: float = typer.Option(30.0, min=0, help="Seconds to wait for receivers that fail at first."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Send a test to all receivers of a route, the way of a real message; exit code 1 when one did not take it."""
    from fleetcast.alerting.dispatch import Dispatcher
    from fleetcast.alerting.notifiers.build import build_notifiers
    from fleetcast.alerting.trial import try_route

    with alert_engine(home, database) as engine:
        by = operator(engine)
        dispatcher = Dispatcher(
            engine.store, build_notifiers(engine.routing.receivers, engine.settings), engine.settings
        )
        found = try_route(engine.store, engine.routing, dispatcher, name, by, datetime.now(UTC), send, patience)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    for one in [] if as_json else found:
        typer.echo(f"{one.channel}: {one.to}: {one.status}" + (f" ({one.error})" if one.error else ""))
    if any(one.status in ("failed", "waiting") for one in found):
        raise typer.Exit(1)


@contextmanager
def alert_engine(home: Path | None, database: str | None) -> Iterator[AlertEngine]:
    """The engine on the database of a home, or of a URL."""
    from fleetcast.alerting.engine import AlertEngine
    from fleetcast.alerting.fleet import FleetMap
    from fleetcast.alerting.routing import Routing

    with opened(home, database) as (store, settings):
        routing = Routing.load(settings.alerts.routing, settings.alerts.shadow)
        yield AlertEngine(store, settings.alerts, routing, FleetMap.load(settings.alerts.fleet))


def operator(engine: AlertEngine) -> str:
    """Name of whoever gives the command, whose API key has the scope `operate`. Raises as `who` does."""
    return who(engine.store, "operate").name


def moment(text: str | None) -> datetime:
    """A time as people write it; without one, now."""
    return parse_time(text) or datetime.now(UTC)


def _print_route(one: dict[str, Any]) -> None:
    mode = "would tell" if one["shadow"] else "tells"
    quiet = f", but not now: {one['quiet']}" if one["quiet"] else ""
    typer.echo(f"{one['route']}: {mode} {', '.join(one['receivers'])}{quiet}")
    for step in one["escalation"]:
        typer.echo(f"  after {step['after_s'] // 60} min without an acknowledgement: {step['to']}")
