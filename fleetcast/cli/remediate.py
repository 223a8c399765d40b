"""Commands on remediation: plans, approvals, carrying out, the kill switch.

They work on the service's database with the rules of the service. Who decides something gives an API key in
FLEETCAST_API_KEY, whose name and scopes count.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from fleetcast.cli.database import DATABASE, HOME, opened, who
from fleetcast.cli.output import JSON_OPTION, print_json, say, show
from fleetcast.cli.trial import trial

if TYPE_CHECKING:
    from fleetcast.remediation.views import PlanView

PLAN = typer.Argument(help="Number of the plan.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="List, show, approve, reject and execute remediation plans.", no_args_is_help=True)
    commands.command("list")(list_all)
    commands.command("show")(show_one)
    commands.command("approve")(approve)
    commands.command("reject")(reject)
    commands.command("execute")(execute)
    commands.command("rollback")(roll_back)
    commands.command("status")(status)
    commands.command("stop")(stop)
    commands.command("release")(release)
    commands.command("playbooks")(playbooks)
    commands.command("effects")(effects)
    commands.command("trial")(trial)
    app.add_typer(commands, name="remediate")


def list_all(
    status: str | None = typer.Option(None, help="Only plans of this status, for example proposed."),
    limit: int = typer.Option(50, min=1, max=1000, help="The newest so many."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """List plans, newest first."""
    from typing import get_args

    from fleetcast.clock import RealClock
    from fleetcast.errors import UsageError
    from fleetcast.remediation.engine import RemediationEngine
    from fleetcast.remediation.views import PlanStatus

    known = get_args(PlanStatus)
    if status is not None and status not in known:
        raise UsageError(f"unknown status {status!r}; known are {', '.join(known)}")
    with opened(home, database) as (store, settings):
        engine = RemediationEngine(store, RealClock(), settings.remediation)
        found = engine.list_plans(status, limit)  # type: ignore[arg-type]  # checked above
    if as_json:
        print_json([plan.model_dump(mode="json") for plan in found])
        return
    table = Table("plan", "status", "mode", "server", "what", "approver", "expires (UTC)")
    for plan in found:
        row = (plan.status, plan.mode, plan.server, plan.title, plan.approver_role, f"{plan.expires_at:%m-%d %H:%M}")
        table.add_row(str(plan.id), *row)
    Console().print(table)


def show_one(
    plan: int = PLAN, home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION
) -> None:
    """Show everything that a plan says, and what has come of it."""
    from fleetcast.clock import RealClock
    from fleetcast.remediation.engine import RemediationEngine

    with opened(home, database) as (store, settings):
        found = RemediationEngine(store, RealClock(), settings.remediation).get(plan)
    show(found.model_dump(mode="json"), as_json)


def approve(
    plan: int = PLAN,
    plan_hash: str = typer.Option(..., "--hash", help="Hash of the plan that you have read (`remediate show`)."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Approve exactly the plan with this hash. Scope approve; admin for destructive steps."""
    from fleetcast.clock import RealClock
    from fleetcast.remediation.engine import RemediationEngine

    with opened(home, database) as (store, settings):
        by = who(store, "approve")
        engine = RemediationEngine(store, RealClock(), settings.remediation)
        found = engine.approve(plan, plan_hash, by.name, by.scopes)
    _tell(found, as_json)


def reject(
    plan: int = PLAN, home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION
) -> None:
    """Decide against a plan. Scope approve."""
    from fleetcast.clock import RealClock
    from fleetcast.remediation.engine import RemediationEngine

    with opened(home, database) as (store, settings):
        by = who(store, "approve")
        found = RemediationEngine(store, RealClock(), settings.remediation).reject(plan, by.name, by.scopes)
    _tell(found, as_json)


def execute(
    plan: int = PLAN, home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION
) -> None:
    """Carry out an approved plan, or go on with one that was interrupted. Scope operate."""
    from fleetcast.clock import RealClock
    from fleetcast.remediation.build import build_runner

    with opened(home, database) as (store, settings):
        by = who(store, "operate").name
        found = build_runner(store, RealClock(), settings.remediation).execute(plan, by)
    _tell(found, as_json)


def roll_back(
    plan: int = PLAN, home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION
) -> None:
    """Take back what a plan has done. Scope operate."""
    from fleetcast.clock import RealClock
    from fleetcast.remediation.build import build_runner

    with opened(home, database) as (store, settings):
        by = who(store, "operate").name
        found = build_runner(store, RealClock(), settings.remediation).roll_back(plan, by)
    _tell(found, as_json)


def status(home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION) -> None:
    """Show whether actions may start, and the limits."""
    from fleetcast.remediation.control import control_view

    with opened(home, database) as (store, settings), store.reading() as session:
        found = control_view(session).model_dump(mode="json")
        limits = settings.remediation.model_dump(mode="json", exclude={"targets", "kubernetes", "ansible"})
    show({**found, "limits": limits}, as_json)


def effects(home: Path | None = HOME, database: str | None = DATABASE, as_json: bool = JSON_OPTION) -> None:
    """Show which share of incidents each playbook prevents: estimates from past executions and trials."""
    from fleetcast.remediation.effects import estimates

    with opened(home, database) as (store, _), store.reading() as session:
        found = {name: one.model_dump() for name, one in estimates(session).items()}
    show(found, as_json)


def stop(
    reason: str = typer.Option(..., help="Why; it is shown wherever an action is refused."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
) -> None:
    """The kill switch: let no action start any more, not even the next step of a plan under way. Scope operate."""
    from datetime import UTC, datetime

    from fleetcast.remediation import control

    with opened(home, database) as (store, _):
        by = who(store, "operate").name
        with store.session() as session:
            control.stop(session, by, reason, datetime.now(UTC))
    say("Remediation is stopped: no action starts until `fleetcast remediate release`.")


def release(home: Path | None = HOME, database: str | None = DATABASE) -> None:
    """Let actions start again, after the kill switch or the circuit breaker. Scope approve."""
    from datetime import UTC, datetime

    from fleetcast.remediation import control

    with opened(home, database) as (store, _):
        by = who(store, "approve").name
        with store.session() as session:
            control.release(session, by, datetime.now(UTC))
    say("Actions may start again.")


def playbooks(
    folder: Path | None = typer.Argument(None, help="Folder to check; default is that of the settings, or none."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check the playbooks and show which are in force; every fault is named with file and line."""
    from fleetcast.remediation.playbook import load_playbooks
    from fleetcast.settings import Settings

    found = load_playbooks(folder or Settings().remediation.playbooks)
    if as_json:
        print_json({profile: playbook.model_dump(mode="json") for profile, playbook in found.items()})
        return
    table = Table("profile", "what", "steps", "seconds", "approval")
    for profile, one in found.items():
        seconds = sum(step.seconds for step in one.steps)
        table.add_row(profile, one.title, str(len(one.steps)), str(seconds), one.approval_words())
    Console().print(table)


def _tell(found: PlanView, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    say(f"Plan {found.id} ({found.title}, {found.server}) is {found.status.replace('_', ' ')}.")
    for step in found.steps:
        say(f"  {step.name}: {step.wording} [{step.status}]")
    if found.reason:
        say(f"  {found.reason}")
