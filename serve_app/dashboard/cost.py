"""Tab 5: what avoided incidents would be worth, and the assumptions behind it, which can be edited."""

from __future__ import annotations

from typing import Any

import gradio as gr
from markupsafe import Markup
from pydantic import ValidationError

from fleetcast.cost.report import CostReport, Estimate
from fleetcast.errors import UsageError
from fleetcast.settings import CostSettings
from serve_app.dashboard import markup, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import ClientFactory, View, action, notice_line, panel_html, refresher

LABELS = {
    "downtime_usd_per_hour": "Downtime, $ an hour",
    "incident_hours": "Mean incident, hours",
    "prevented_share": "Prevented share of predicted incidents, 0–1",
    "false_alarm_usd": "False alarm, $ each",
    "action_usd": "Remediation action, $ each",
    "project_usd": "Project cost, $",
}


def build(clients: ClientFactory) -> View:
    """The tab's components and events."""
    notice = notice_line("fc-cost-notice")
    with gr.Row():
        with gr.Column(scale=1, min_width=560):
            report = panel_html("fc-cost-report")
        with gr.Column(scale=0, min_width=310, elem_classes="fc-panel"):
            author = panel_html("fc-cost-author")
            fields = [
                gr.Number(label=label, minimum=0, interactive=True, elem_id=f"fc-cost-{name}")
                for name, label in LABELS.items()
            ]
            save = gr.Button("Save assumptions", variant="primary", size="sm", elem_id="fc-cost-save")
    shown = gr.State(None)
    view = View(notice, show, [shown], [report, author, shown, *fields])
    refresh = refresher(clients, view)
    save.click(action(clients, store), fields, None, api_visibility="private").then(
        refresh, view.inputs, [notice, *view.outputs], show_progress="hidden", api_visibility="private"
    )
    return view


def store(api: FleetApi, *values: float | None) -> str:
    """Save the assumptions of the form; what differs for single profiles stays as it is."""
    own = api.cost().assumptions.values.profiles
    try:
        assumptions = CostSettings.model_validate({**dict(zip(LABELS, values, strict=True)), "profiles": own})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{LABELS[str(first['loc'][0])]}: {first['msg']}") from error
    api.save_assumptions(assumptions)
    return "The assumptions are saved; the figures below follow them."


def show(api: FleetApi, shown: dict[str, float] | None) -> tuple[Any, ...]:
    """The report; the form is filled again only when the stored assumptions are not those it was filled with."""
    found = api.cost()
    stored = found.assumptions.values.model_dump()
    fields = [gr.skip() if stored == shown else stored[name] for name in LABELS]
    return render(found), _author(found), stored, *fields


def render(found: CostReport) -> Markup:
    """The figures of a report."""
    saving = "Would have saved" if found.shadow else "Saves"
    items = [
        (f"{saving} {span}", words.money(estimate.expected if estimate else None), _between(estimate))
        for span, estimate in (("a day", found.day), ("a month", found.month), ("a year", found.year))
    ]
    months = "never on these figures" if found.payback_months is None else f"{found.payback_months:.1f} months"
    items.append(("Pays back in", months if found.day else words.MISSING, "at the expected saving"))
    notes = markup.joined(Markup('<p class="fc-text">{}</p>').format(note) for note in found.notes)
    return markup.joined(
        [
            markup.notice("Expected values, under the assumptions on the right; each incident counts once."),
            markup.cards(items),
            markup.panel("From forecasts to dollars", markup.facts(_road(found)), _span(found)),
            markup.panel("By profile", _profiles(found)) if found.profiles else Markup(""),
            markup.panel("Read with care", notes) if found.notes else Markup(""),
        ]
    )


def _between(estimate: Estimate | None) -> str:
    if estimate is None:
        return "nothing to estimate from yet"
    return f"90 % between {words.money(estimate.low)} and {words.money(estimate.high)}"


def _span(found: CostReport) -> str:
    if found.since is None:
        return "no forecast cycle has run yet"
    return f"{words.duration(found.observed_hours * 3600)} observed since {words.moment(found.since)}"


def _road(found: CostReport) -> list[tuple[str, markup.Piece]]:
    return [
        ("distinct incidents forecast", f"{found.incidents:,}"),
        ("of these observed / passed without one", f"{found.confirmed:,} / {found.passed:,}"),
        ("already open when first seen (not counted)", f"{found.seen_late:,}"),
        ("incidents expected (sum of probabilities)", f"{found.expected_incidents:.2f}"),
        ("avoided", words.money(found.avoided_usd)),
        ("less false alarms", words.money(-found.false_alarms_usd)),
        ("less actions", words.money(-found.actions_usd)),
        ("net over the time observed", Markup("<b>{}</b>").format(words.money(found.net_usd))),
    ]


def _profiles(found: CostReport) -> Markup:
    own = found.assumptions.values.profiles
    rows: list[list[markup.Piece]] = [
        [
            markup.profile(one.profile),
            f"{one.incidents:,}",
            f"{one.expected_incidents:.2f}",
            words.money(one.avoided_usd),
            words.money(one.net_usd),
            "own" if one.profile in own else "general",
        ]
        for one in found.profiles
    ]
    return markup.table(
        ["Profile", "Incidents", "Expected", "Avoided", "Net", "Assumptions"], rows, numeric=(1, 2, 3, 4)
    )


def _author(found: CostReport) -> Markup:
    who = found.assumptions.author
    when = f", {words.moment(found.assumptions.at)}" if found.assumptions.at else ""
    return Markup("<h3>Assumptions<small>by {}{}</small></h3>").format(who, when)
