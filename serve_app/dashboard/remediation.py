"""Tab 6: what would be done, by which integration, in what time, with whose approval."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from fleetcast.remediation.views import PlanView
from serve_app.dashboard import markup, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import ClientFactory, View, html_action, notice_line, panel_html, refresher

SHOWN = 30
ORDER = {"proposed": 0, "approved": 1, "executed": 2, "rejected": 3, "expired": 4}
KINDS = {"proposed": "p3", "approved": "good", "executed": "plain", "rejected": "quiet", "expired": "quiet"}


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
    """A button of a plan: `approve` with "id:hash", or `execute` with the id."""
    if action == "approve":
        number, _, digest = value.partition(":")
        plan = api.approve(number, digest)
        return f"Plan {plan.id} is {plan.status}."
    plan = api.execute(value)
    what = "dry run: its steps say what would have been done" if plan.dry_run else "carried out"
    return f"Plan {plan.id} is {plan.status} ({what})."


def show(api: FleetApi) -> tuple[Any, ...]:
    """The plans, those that wait for somebody first."""
    found = api.plans()
    if not found.items:
        return (markup.notice("No plan: a plan is proposed when an alert opens, and none has since the start."),)
    ordered = sorted(found.items, key=lambda plan: (ORDER[plan.status], -plan.created_at.timestamp()))
    counts = {status: sum(plan.status == status for plan in found.items) for status in ORDER}
    line = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    mode = "dry run: every action only says what it would have done" if found.dry_run else "actions are carried out"
    body = markup.joined(_plan(plan) for plan in ordered[:SHOWN])
    cut = f"; the first {SHOWN} are shown" if len(ordered) > SHOWN else ""
    return (markup.panel("Plans", body, f"{line}{cut}. {mode}"),)


def _plan(plan: PlanView) -> Markup:
    head = [
        markup.chip(plan.status, KINDS[plan.status]),
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
            f"{words.plural(radius.servers, 'server')}, {words.percent(radius.share_of_profile)} of the profile",
        ),
    ]


def _why(plan: PlanView) -> list[tuple[str, markup.Piece]]:
    done = [
        f"{what} by {who}, {words.moment(at)}"
        for what, who, at in (
            ("approved", plan.approved_by, plan.approved_at),
            ("executed", plan.executed_by, plan.executed_at),
        )
        if who
    ]
    return [
        ("for", f"alert {plan.alert_id}, playbook {plan.playbook}"),
        ("expected effect", plan.expected_effect),
        ("rollback", plan.rollback),
        ("so far", "; ".join([f"proposed {words.moment(plan.created_at)}", *done])),
        ("expires", words.moment(plan.expires_at)),
    ]


def _buttons(plan: PlanView) -> Markup:
    if plan.status == "proposed":
        return markup.button("Approve", "approve", f"{plan.id}:{plan.hash}")
    if plan.status == "approved":
        return markup.button("Execute (dry run)" if plan.dry_run else "Execute", "execute", str(plan.id))
    return Markup("")
