"""Tab 6: what would be done, by which integration, in what time, with whose approval."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from fleetcast.remediation.views import PlanView
from serve_app.dashboard import markup, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import ClientFactory, View, html_action, notice_line, panel_html, refresher
from serve_app.schemas_remediation import Effects, RemediationStatus

SHOWN = 30
KINDS = {
    "proposed": "p3",
    "executing": "p2",
    "rolling_back": "p2",
    "approved": "good",
    "verifying": "good",
    "executed": "plain",
    "failed": "p1",
    "rolled_back": "p1",
    "rejected": "quiet",
    "expired": "quiet",
}
ORDER = {status: place for place, status in enumerate(KINDS)}
MODES = {
    "dry_run": "dry run: every action only says what it would have done",
    "simulated": "actions change the simulated fleet",
    "live": "actions are carried out on machines",
}


def build(clients: ClientFactory) -> View:
    """The tab's components and events."""
    notice = notice_line("fc-plans-notice")
    plans = panel_html("fc-plans")
    view = View(notice, show, [], [plans], opens=[plans])
    plans.click(html_action(clients, press), None, None, api_visibility="private").then(
        refresher(clients, view), None, [notice, plans], show_progress="hidden", api_visibility="private"
    )
    return view


def press(api: FleetApi, action: str, value: str) -> str:
    """A button: of a plan with its id (`approve`: "id:hash"), or the kill switch."""
    if action in ("stop", "release"):
        found = api.stop("stopped on the dashboard") if action == "stop" else api.release()
        return "Remediation is stopped: no action starts." if found.control.stopped else "Actions may start again."
    number, _, digest = value.partition(":")
    if action == "approve":
        plan = api.approve(number, digest)
    else:
        plan = {"reject": api.reject, "rollback": api.roll_back}.get(action, api.execute)(number)
    status = f"Plan {plan.id} is {words_of(plan.status)}"
    return f"{status} (dry run: its steps say what would have been done)." if plan.dry_run else f"{status}."


def words_of(status: str) -> str:
    """A status for people."""
    return status.replace("_", " ")


def show(api: FleetApi) -> tuple[Any, ...]:
    """The switch, and the plans, those that wait for somebody first."""
    found, status = api.plans(), api.remediation()
    if not found.items:
        none = markup.notice("No plan: a plan is proposed when an alert opens, and none has since the start.")
        return (markup.joined([_switch(status), none]),)
    ordered = sorted(found.items, key=lambda plan: (ORDER[plan.status], -plan.created_at.timestamp()))
    counts = {status: sum(plan.status == status for plan in found.items) for status in ORDER}
    line = ", ".join(f"{count} {words_of(status)}" for status, count in counts.items() if count)
    body = markup.joined(_plan(plan) for plan in ordered[:SHOWN])
    cut = f"; the first {SHOWN} are shown" if len(ordered) > SHOWN else ""
    panel = markup.panel("Plans", body, f"{line}{cut}. {MODES[status.mode]}")
    return (markup.joined([_switch(status), _measured(api.effects()), panel]),)


def _measured(found: Effects) -> Markup:
    if not found.playbooks:
        return Markup("")
    rows: list[list[markup.Piece]] = [
        [
            markup.profile(name),
            words.percent(one.prevented),
            f"{words.percent(max(one.low, -1.0))} to {words.percent(one.high)}",
            f"{one.treated_incidents:,} of {one.treated:,}",
            f"{one.control_incidents:,} of {one.control:,}",
        ]
        for name, one in found.playbooks.items()
    ]
    headers = ["Playbook", "Prevented", "90 % between", "Incidents when acted on", "When left alone"]
    note = "estimated from past executions and trials"
    return markup.panel("Measured effect", markup.table(headers, rows, numeric=(1, 3, 4)), note)


def _switch(found: RemediationStatus) -> Markup:
    control = found.control
    if not control.stopped:
        said: markup.Piece = "Actions may start, within the limits of the settings."
        return Markup('<div class="fc-actions" id="fc-switch">{} {}</div>').format(
            said, markup.button("Stop all", "stop", "all")
        )
    when = words.moment(control.stopped_at) if control.stopped_at else ""
    said = markup.notice(f"Stopped by {control.stopped_by}, {when}: {control.reason}", "bad")
    return Markup('<div class="fc-actions" id="fc-switch">{} {}</div>').format(
        said, markup.button("Release", "release", "all")
    )


def _plan(plan: PlanView) -> Markup:
    head = [
        markup.chip(words_of(plan.status), KINDS[plan.status]),
        Markup("<b>Plan {}: {}</b>").format(plan.id, plan.title),
        markup.server(plan.server),
        markup.profile(plan.profile),
        Markup('<span class="fc-actions">{}</span>').format(_buttons(plan)),
    ]
    steps = markup.table(
        ["Step", "By", "What", "Time", "Status"],
        [[step.name, step.integration, step.wording, words.duration(step.seconds), step.status] for step in plan.steps],
        numeric=(3,),
    )
    return Markup(
        '<article class="fc-plan" data-plan="{}"><header>{}</header><div class="fc-columns">{}{}</div>{}</article>'
    ).format(plan.id, markup.joined(head), markup.facts(_how(plan)), markup.facts(_why(plan)), steps)


def _how(plan: PlanView) -> list[tuple[str, markup.Piece]]:
    radius = plan.blast_radius
    return [
        ("integration", plan.integration),
        ("estimated time", words.duration(plan.estimated_s)),
        ("approval", plan.approval),
        ("approver", "the policy, no person" if plan.automatic else plan.approver_role),
        (
            "blast radius",
            f"{words.plural(radius.servers, 'server')}, {words.percent(radius.share_of_profile)} of the profile, "
            f"{words.percent(radius.share_of_cell)} of the cell",
        ),
        ("before it", "; ".join(plan.pre_checks) or words.MISSING),
        ("after it", "; ".join(plan.post_checks) or words.MISSING),
    ]


def _why(plan: PlanView) -> list[tuple[str, markup.Piece]]:
    done = [
        f"{what} by {who}, {words.moment(at)}"
        for what, who, at in (
            ("approved", plan.approved_by, plan.approved_at),
            ("executed", plan.executed_by, plan.executed_at or plan.started_at),
        )
        if who
    ]
    return [
        ("for", f"alert {plan.alert_id}, playbook {plan.playbook}"),
        ("expected effect", plan.expected_effect),
        ("rollback", plan.rollback),
        (
            "so far",
            "; ".join([f"proposed by {plan.requested_by}, {words.moment(plan.created_at)}", *done, plan.reason or ""]),
        ),
        ("expires", words.moment(plan.expires_at)),
    ]


def _buttons(plan: PlanView) -> Markup:
    number = str(plan.id)
    reject = markup.button("Reject", "reject", number)
    if plan.status == "proposed":
        return markup.joined([markup.button("Approve", "approve", f"{plan.id}:{plan.hash}"), reject])
    if plan.status == "approved":
        execute = "Execute (dry run)" if plan.dry_run else "Execute"
        return markup.joined([markup.button(execute, "execute", number), reject])
    if plan.status in ("executing", "rolling_back"):
        return markup.button("Go on", "execute", number)
    if plan.status in ("verifying", "executed") and not plan.dry_run:
        return markup.button("Take back", "rollback", number)
    return Markup("")
