"""Commands on the audit trail."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from fleetcast.cli.database import DATABASE, HOME, opened
from fleetcast.cli.output import JSON_OPTION, print_json, show


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Who did what when, and whether that was tampered with.", no_args_is_help=True)
    commands.command("list")(list_entries)
    commands.command("verify")(verify_trail)
    app.add_typer(commands, name="audit")


def list_entries(
    limit: int = typer.Option(50, min=1, max=100_000, help="The newest so many."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """List entries, newest first."""
    from fleetcast.store.audit import list_audit

    with opened(home, database) as (store, _), store.reading() as session:
        found = list_audit(session, limit)
    if as_json:
        print_json([vars(entry) for entry in found])
        return
    table = Table("entry", "at (UTC)", "who", "what", "on", "detail")
    for entry in found:
        table.add_row(
            str(entry.id), f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.actor, entry.action, entry.subject, entry.detail
        )
    Console().print(table)


def verify_trail(
    anchor: str | None = typer.Option(None, help="ID:HASH that an earlier run printed and you noted elsewhere."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Check every hash of the trail: what was changed, deleted, moved or put in is named, and the exit code is 1.

    Note the anchor that it prints elsewhere: with it also a trail that was cut off or written anew is found.
    """
    from fleetcast.store.audit import parse_anchor, verify

    noted = None if anchor is None else parse_anchor(anchor)
    with opened(home, database) as (store, _), store.reading() as session:
        head = verify(session, noted)
    show({"sound": True, "entries": head.entries, "anchor": f"{head.last}:{head.hash}"}, as_json)
