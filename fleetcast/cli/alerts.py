"""Commands on alerts, in the database of the service; the service itself need not run.

Who acts gives an API key in FLEETCAST_API_KEY, whose name is written down and whose scopes count.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fleetcast.cli import routes
from fleetcast.cli.database import DATABASE, HOME
from fleetcast.cli.output import JSON_OPTION, print_json, say
from fleetcast.cli.parse import parse_span
from fleetcast.cli.routes import AT, alert_engine, moment, operator

if TYPE_CHECKING:
    from fleetcast.alerting.views import AlertView, SilenceView

ID = typer.Argument(help="Number of the alert.")


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
    commands.command()(routes.route)
    commands.command("test")(routes.try_one)
    app.add_typer(commands, name="alerts")


def list_all(
    state: str | None = typer.Option(None, help="pending, open, acknowledged, mitigating, resolved or expired."),
    limit: int = typer.Option(50, min=1),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """The newest alerts."""
    with alert_engine(home, database) as engine:
        found = engine.list_alerts(_state(state), limit)
    if as_json:
        print_json([alert.model_dump(mode="json") for alert in found])
        return
    table = Table("id", "level", "state", "server", "metric", "opened", "incident", "message", box=None)
    for alert in found:
        opened = "" if alert.opened_at is None else f"{alert.opened_at:%Y-%m-%d %H:%M}"
        part = str(alert.parent_id or "") or (f"+{alert.parts}" if alert.parts else "")
        words = (alert.level, alert.state, alert.server, alert.metric, opened, part, alert.message)
        table.add_row(str(alert.id), *map(escape, words))
    Console().print(table)


def show(
    alert_id: int = ID, home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION
) -> None:
    """One alert with its timeline, ladder and messages."""
    with alert_engine(home, database) as engine:
        _print(engine.get(alert_id), as_json)


def acknowledge(
    alert_id: int = ID,
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Take care of an alert's incident: it is not escalated further."""
    with alert_engine(home, database) as engine:
        _print(engine.acknowledge(alert_id, operator(engine), moment(at)), as_json)


def resolve(
    alert_id: int = ID,
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say that an alert's incident is over."""
    with alert_engine(home, database) as engine:
        _print(engine.resolve(alert_id, operator(engine), moment(at)), as_json)


def silence(
    matchers: list[str] = typer.Argument(help="""Conditions that all must fit: 'server="ppdb0001"' 'team=~"pay.*"'."""),
    lasts: str = typer.Option(..., "--for", help="How long from now: 90m, 2h, 3d."),
    comment: str = typer.Option("", help="Why."),
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Send nothing of the alerts that fit, until a time."""
    start, span = moment(at), parse_span(lasts)
    assert span is not None
    with alert_engine(home, database) as engine:
        found = engine.silence(matchers, (start, start + span), operator(engine), comment, start)
    _print_silences([found], as_json)


def silences(
    ended: bool = typer.Option(False, help="Also those that are over."),
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """The silences in force or to come."""
    with alert_engine(home, database) as engine:
        found = engine.silences(moment(at), ended)
    _print_silences(found, as_json)


def end_silence(
    silence_id: int = typer.Argument(help="Number of the silence."),
    at: str | None = AT,
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """End a silence now."""
    with alert_engine(home, database) as engine:
        found = engine.end_silence(silence_id, operator(engine), moment(at))
    _print_silences([found], as_json)


def _state(text: str | None) -> Any:
    from typing import get_args

    from fleetcast.alerting.views import AlertState
    from fleetcast.errors import UsageError

    if text is not None and text not in get_args(AlertState):
        raise UsageError(f"{text!r} is no state of an alert; there are {', '.join(get_args(AlertState))}")
    return text


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
