"""Commands on what avoided incidents are worth."""

from __future__ import annotations

from pathlib import Path

import typer

from fleetcast.cli.database import DATABASE, HOME, opened, who
from fleetcast.cli.output import JSON_OPTION, print_json, show


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="What avoided incidents are worth, and on what assumptions.", no_args_is_help=True)
    commands.command("report")(report)
    commands.command("assumptions")(assumptions)
    commands.command("assume")(assume)
    app.add_typer(commands, name="cost")


def report(home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION) -> None:
    """Show the report over all incidents in the database, each counted once, with 90 % intervals."""
    from datetime import UTC, datetime

    from fleetcast.cost.report import cost_report

    with opened(home, database) as (store, settings):
        found = cost_report(store, settings.cost, datetime.now(UTC))
    show(found.model_dump(mode="json"), as_json)


def assumptions(home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION) -> None:
    """Show every set of assumptions with its author and time, newest first; the first is in force."""
    from fleetcast.cost.assumptions import list_assumptions

    with opened(home, database) as (store, settings), store.reading() as session:
        found = [
            {"author": one.author, "at": one.at, "values": one.values.model_dump(mode="json")}
            for one in list_assumptions(session, settings.cost)
        ]
    if as_json:
        print_json(found)
    else:
        show({"assumptions": found}, False)


def assume(
    values: list[str] = typer.Argument(help="name=value, or profile.name=value for what differs for a profile."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Change assumptions: the others stay. Your API key (FLEETCAST_API_KEY, scope operate) says who did."""
    from datetime import UTC, datetime

    from pydantic import ValidationError

    from fleetcast.cost.assumptions import load_assumptions, save_assumptions
    from fleetcast.errors import UsageError
    from fleetcast.settings import CostSettings

    with opened(home, database) as (store, settings):
        by = who(store, "operate").name
        with store.session() as session:
            plain = load_assumptions(session, settings.cost).values.model_dump()
            for value in values:
                _set(plain, value)
            try:
                changed = CostSettings.model_validate(plain)
            except ValidationError as error:
                faults = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
                raise UsageError("; ".join(faults)) from error
            save_assumptions(session, changed, by, datetime.now(UTC))
    show(changed.model_dump(mode="json"), as_json)


def _set(plain: dict[str, object], text: str) -> None:
    """Set one value of the assumptions as plain data."""
    from fleetcast.errors import UsageError
    from fleetcast.settings import CostSettings, ProfileCost

    name, equals, value = text.partition("=")
    profile, dot, own = name.rpartition(".")
    known = ProfileCost.model_fields if dot else CostSettings.model_fields
    if not equals or own not in known or own == "profiles":
        raise UsageError(f"{text!r} is not name=value; names are {', '.join(CostSettings.model_fields)}")
    if dot:
        profiles = plain["profiles"]
        assert isinstance(profiles, dict)
        profiles.setdefault(profile, {})[own] = value
    else:
        plain[own] = value
