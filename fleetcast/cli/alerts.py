"""Commands on alerts, in the database of the service; the service itself need not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from fleetcast.cli.keys import DATABASE, HOME
from fleetcast.cli.output import JSON_OPTION, print_json, say
from fleetcast.cli.parse import parse_span, parse_time

if TYPE_CHECKING:
    from fleetcast.alerting.engine import AlertEngine
    from fleetcast.alerting.views import AlertView, SilenceView

ID = typer.Argument(help="Number of the alert.")
BY = typer.Option("command line", help="Who does it: is written down.")
AT = typer.Option(None, help="Time of the service's clock, if that is simulated; default now.")
ATTRIBUTES = typer.Argument(help="What the alert is like: level=P1 profile=database server=ppdb0001 team=payments ...")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="List, acknowledge, resolve and silence alerts; test routes.", no_args_is_help=True)
    commands.command("list")(list_all)
    commands.command()(show)
    commands.command()(acknowledge)
    commands.command()(resolve)
    commands.command()(silence)
    commands.command()(silences)
    commands.command("unsilence")(end_silence)
    commands.command()(route)
    commands.command("test")(try_one)
    app.add_typer(commands, name="alerts")


def list_all(
    state: str | None = typer.Option(None, help="pending, open, acknowledged, mitigating, resolved or expired."),
    limit: int = typer.Option(50, min=1),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """The newest alerts."""
    with _engine(home, database) as engine:
        found = engine.list_alerts(_state(state), limit)
    if as_json:
        print_json([alert.model_dump(mode="json") for alert in found])
        return
    table = Table("id", "level", "state", "server", "metric", "opened", "incident", "message", box=None)
    for alert in found:
        opened = "" if alert.opened_at is None else f"{alert.opened_at:%Y-%m-%d %H:%M}"
        part = str(alert.parent_id or "") or (f"+{alert.parts}" if alert.parts else "")
        table.add_row(str(alert.id), alert.level, alert.state, alert.server, alert.metric, opened, part, alert.message)
    Console().print(table)


def show(
    alert_id: int = ID, home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION
) -> None:
    """One alert with its timeline, ladder and messages."""
    with _engine(home, database) as engine:
        _print(engine.get(alert_id), as_json)


def acknowledge(
    alert_id: int = ID,
    by: str = BY,
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Take care of an alert's incident: it is not escalated further."""
    with _engine(home, database) as engine:
        _print(engine.acknowledge(alert_id, by, _moment(at)), as_json)


def resolve(
    alert_id: int = ID,
    by: str = BY,
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say that an alert's incident is over."""
    with _engine(home, database) as engine:
        _print(engine.resolve(alert_id, by, _moment(at)), as_json)


def silence(
    matchers: list[str] = typer.Argument(help="""Conditions that all must fit: 'server="ppdb0001"' 'team=~"pay.*"'."""),
    lasts: str = typer.Option(..., "--for", help="How long from now: 90m, 2h, 3d."),
    comment: str = typer.Option("", help="Why."),
    by: str = BY,
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Send nothing of the alerts that fit, until a time."""
    start, span = _moment(at), parse_span(lasts)
    assert span is not None
    with _engine(home, database) as engine:
        found = engine.silence(matchers, (start, start + span), by, comment, start)
    _print_silences([found], as_json)


def silences(
    ended: bool = typer.Option(False, help="Also those that are over."),
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """The silences in force or to come."""
    with _engine(home, database) as engine:
        found = engine.silences(_moment(at), ended)
    _print_silences(found, as_json)


def end_silence(
    silence_id: int = typer.Argument(help="Number of the silence."),
    by: str = BY,
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """End a silence now."""
    with _engine(home, database) as engine:
        found = engine.end_silence(silence_id, by, _moment(at))
    _print_silences([found], as_json)


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

    settings, now = Settings().alerts, _moment(at)
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
    by: str = BY,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Send a test to all receivers of a route, the way of a real message; exit code 1 when one did not take it."""
    from fleetcast.alerting.dispatch import Dispatcher
    from fleetcast.alerting.notifiers.build import build_notifiers
    from fleetcast.alerting.trial import try_route

    with _engine(home, database) as engine:
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
def _engine(home: Path | None, database: str | None) -> Iterator[AlertEngine]:
    from fleetcast.alerting.engine import AlertEngine
    from fleetcast.alerting.fleet import FleetMap
    from fleetcast.alerting.routing import Routing
    from fleetcast.operate.home import make_home, service_home
    from fleetcast.settings import Settings
    from fleetcast.store.engine import open_store

    settings = Settings()
    if database is None and settings.database_url is None:
        settings.home = service_home(make_home(home or settings.home))
    routing = Routing.load(settings.alerts.routing, settings.alerts.shadow)
    fleet = FleetMap.load(settings.alerts.fleet)
    store = open_store(database or settings.database)
    try:
        yield AlertEngine(store, settings.alerts, routing, fleet)
    finally:
        store.close()


def _state(text: str | None) -> Any:
    from typing import get_args

    from fleetcast.alerting.views import AlertState
    from fleetcast.errors import UsageError

    if text is not None and text not in get_args(AlertState):
        raise UsageError(f"{text!r} is no state of an alert; there are {', '.join(get_args(AlertState))}")
    return text


def _moment(text: str | None) -> datetime:
    return parse_time(text) or datetime.now(UTC)


def _print(alert: AlertView, as_json: bool) -> None:
    if as_json:
        print_json(alert.model_dump(mode="json"))
        return
    console = Console()
    console.print(f"alert {alert.id}: {alert.level}, {alert.state}: {alert.message}", markup=False)
    if alert.inhibited_by:
        console.print(f"held back by {alert.inhibited_by}", markup=False)
    for event in alert.timeline:
        console.print(f"{event.at:%Y-%m-%d %H:%M}  {event.event}  {event.detail}", markup=False)
    for step in alert.escalation:
        when = "done" if step.done else f"due {step.due_at:%H:%M}" if step.due_at else "not waiting"
        console.print(f"after {step.after_s // 60} min  {step.to}  {when}", markup=False)
    for note in alert.notifications:
        console.print(f"{note.at:%H:%M}  {note.status}  {note.channel}: {note.to}  {note.text}", markup=False)


def _print_silences(found: list[SilenceView], as_json: bool) -> None:
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    for one in found:
        until = f"until {one.ends_at:%Y-%m-%d %H:%M} UTC"
        typer.echo(f"{one.id}: {', '.join(one.matchers)} {until}, by {one.created_by} {one.comment}".rstrip())
    if not found:
        say("no silence")


def _print_route(one: dict[str, Any]) -> None:
    mode = "would tell" if one["shadow"] else "tells"
    quiet = f", but not now: {one['quiet']}" if one["quiet"] else ""
    typer.echo(f"{one['route']}: {mode} {', '.join(one['receivers'])}{quiet}")
    for step in one["escalation"]:
        typer.echo(f"  after {step['after_s'] // 60} min without an acknowledgement: {step['to']}")
