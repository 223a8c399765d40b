"""Commands that look after an installation: status, doctor, reset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table

from fleetcast.cli.output import JSON_OPTION, print_json, say, show

COLOURS = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "dim"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command()(doctor)
    app.command()(reset)


def status(
    models: Path | None = typer.Option(None, help="Models folder to look for running trainings in as well."),
    as_json: bool = JSON_OPTION,
) -> None:
    """What is there and what runs: service, trainings, current model, datasets. FLEETCAST_API_KEY shows more."""
    from fleetcast.operate.status import collect_status
    from fleetcast.settings import Settings

    show(collect_status(Settings(), models), as_json)


def doctor(
    data: str | None = typer.Option(None, help="Dataset to check."),
    model: Path | None = typer.Option(None, help="Bundle to check."),
    deep: bool = typer.Option(False, help="Also start Ray."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check the environment and each component against the contract; exit code 1 when something fails."""
    from fleetcast.operate.doctor import run_doctor
    from fleetcast.settings import Settings

    results = list(run_doctor(Settings(), dataset=data, bundle=model, deep=deep))
    if as_json:
        print_json([result.model_dump(mode="json") for result in results])
    else:
        table = Table(
            "check", "verdict", Column("found", overflow="fold"), Column("what to do", overflow="fold"), box=None
        )
        for result in results:
            verdict = str(result.verdict)
            table.add_row(result.name, f"[{COLOURS[verdict]}]{verdict}[/]", result.found, result.advice or "")
        Console().print(table)
    if any(str(result.verdict) == "failure" for result in results):
        raise typer.Exit(1)


def reset(
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be deleted."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Start fresh: delete what FleetCast keeps in its home folder, after saying what that is.

    With --json nothing is asked: without --yes it is a dry run.
    """
    from fleetcast.operate.reset import execute, plan_reset, refuse_in_use
    from fleetcast.settings import Settings

    plan = plan_reset(Settings())
    show(_facts(plan), as_json)
    if dry_run or (as_json and not yes):
        return
    refuse_in_use(plan.home)
    if not plan.items:
        return
    if not yes and not typer.confirm("Delete all of this?", err=True):
        raise typer.Exit(1)
    execute(plan)
    say(f"deleted {plan.files:,} files, {plan.size / 1e6:,.1f} MB")


def _facts(plan: Any) -> dict[str, Any]:
    return {
        "home": str(plan.home),
        "would_delete": [
            f"{item.name}: {item.files} files, {item.size / 1e6:.1f} MB"
            + (f", rows {dict(item.rows)}" if item.rows else "")
            for item in plan.items
        ],
        "files": plan.files,
        "bytes": plan.size,
        "database_rows": plan.rows,
        "stays": plan.stays,
    }
