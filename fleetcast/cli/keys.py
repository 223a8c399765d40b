"""Commands on API keys, in the database of the service; the service itself need not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from fleetcast.cli.database import DATABASE, HOME, opened
from fleetcast.cli.output import JSON_OPTION, print_json, say

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NAME = typer.Argument(help="Name of the key: it is shown wherever the key acts.")
BY = "command line"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="List, create, rotate and revoke API keys.", no_args_is_help=True)
    commands.command("list")(list_all)
    commands.command("create")(create)
    commands.command("rotate")(rotate_one)
    commands.command("revoke")(revoke_one)
    app.add_typer(commands, name="keys")


def list_all(home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION) -> None:
    """List the keys, revoked ones too: never the keys themselves, which are not stored."""
    from fleetcast.store.keys import list_keys

    with _session(home, database) as session:
        found = list_keys(session)
    if as_json:
        print_json([vars(key) for key in found])
        return
    table = Table("name", "begins with", "scopes", "created", "revoked")
    for key in found:
        revoked = "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%d %H:%M}"
        table.add_row(key.name, key.prefix, ", ".join(key.scopes), f"{key.created_at:%Y-%m-%d %H:%M}", revoked)
    Console().print(table)


def create(
    name: str = NAME,
    scope: list[str] = typer.Option(..., help="read, write, operate, approve or admin; may be given several times."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
) -> None:
    """Make a key and print it; it cannot be shown again."""
    from fleetcast.store.keys import create_key

    with _session(home, database) as session:
        key = create_key(session, name, scope, datetime.now(UTC), BY)
    typer.echo(key)


def rotate_one(name: str = NAME, home: Path | None = HOME, database: str | None = DATABASE) -> None:
    """Put a new key with the same scopes in place of one and print it; the old one is refused after at most 5 s."""
    from fleetcast.store.keys import rotate

    with _session(home, database) as session:
        key = rotate(session, name, datetime.now(UTC), BY)
    typer.echo(key)


def revoke_one(name: str = NAME, home: Path | None = HOME, database: str | None = DATABASE) -> None:
    """Revoke a key: it is refused after at most 5 s."""
    from fleetcast.store.keys import revoke

    with _session(home, database) as session:
        revoke(session, name, datetime.now(UTC), BY)
    say(f"The key {name!r} is revoked.")


@contextmanager
def _session(home: Path | None, database: str | None) -> Iterator[Session]:
    with opened(home, database) as (store, _), store.session() as session:
        yield session
