"""Tab 7: alerts, what is sent to whom, the routing matrix and the escalation ladder."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
from markupsafe import Markup

from fleetcast.alerting.views import AlertView, NotificationView, RoutingRow, SilenceView
from serve_app.dashboard import markup, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import ClientFactory, View, html_action, notice_line, panel_html, refresher

STATES = ("all", "open", "acknowledged", "mitigating", "pending", "resolved", "expired")
SILENCE_HOURS = 2
SHOWN = 100
KINDS = {"open": "bad", "acknowledged": "good", "mitigating": "good"}
LIVE = frozenset({"open", "acknowledged", "mitigating"})


def build(clients: ClientFactory) -> View:
    """The tab's components and events."""
    notice = notice_line("fc-alerting-notice")
    with gr.Row(elem_classes="fc-controls"):
        state = gr.Radio(list(STATES), value="all", show_label=False, container=False, elem_id="fc-alert-state")
    alerts = panel_html("fc-alerts")
    detail = panel_html("fc-alert-detail")
    silences = panel_html("fc-silences")
    routing = panel_html("fc-routing")
    chosen = gr.State(None)
    view = View(notice, show, [state, chosen], [alerts, detail, silences, routing], opens=[alerts])
    refresh = refresher(clients, view)
    filled = [notice, *view.outputs]
    state.input(refresh, view.inputs, filled, show_progress="hidden", api_visibility="private")
    alerts.input(_choose, None, chosen, api_visibility="private").then(
        refresh, view.inputs, filled, show_progress="hidden", api_visibility="private"
    )
    for panel in (alerts, silences):
        panel.click(html_action(clients, press), None, None, api_visibility="private").then(
            refresh, view.inputs, filled, show_progress="hidden", api_visibility="private"
        )
    return view


def press(api: FleetApi, action: str, value: str) -> str:
    """A button: `acknowledge`, `resolve` or `silence` with an alert's id, `unsilence` with a silence's."""
    if action == "silence":
        alert = api.alert(value)
        matchers = [f"{name}={json.dumps(getattr(alert, name))}" for name in ("server", "metric")]
        found = api.silence(matchers, SILENCE_HOURS, f"alert {alert.id}")
        return f"Silence {found.id}: nothing is sent of {alert.key} for {SILENCE_HOURS} h."
    if action == "unsilence":
        return f"Silence {api.end_silence(value).id} is over."
    alert = api.acknowledge(value) if action == "acknowledge" else api.resolve(value)
    return f"Alert {alert.id} on {alert.server} is {alert.state}."


def _choose(event: gr.EventData) -> int | None:
    return int(event.value)


def show(api: FleetApi, state: str, chosen: int | None) -> tuple[Any, ...]:
    """The alerts of a state, one of them in detail, the silences, and the routing matrix."""
    found = api.alerts(None if state == "all" else state)
    quiet = _silences(api.silences().items)
    matrix = _matrix(api.routing().items, found.shadow)
    if not found.items:
        where = "" if state == "all" else f" in state {state}"
        return (
            markup.notice(f"No alert{where}. An alert opens when a server's level stays at P1–P3."),
            "",
            quiet,
            matrix,
        )
    detail = next((alert for alert in found.items if alert.id == chosen), found.items[0])
    return _list(found.items, detail.id), _detail(detail), quiet, matrix


def _list(alerts: list[AlertView], chosen: int) -> Markup:
    headers = ["Id", "Level", "State", "Server", "Metric", *markup.CHANCES, "Since", "Message", "To", ""]
    rows = [_row(alert, alert.id == chosen) for alert in alerts[:SHOWN]]
    note = words.plural(len(alerts), "alert")
    return markup.panel("Alerts", markup.table(headers, rows, numeric=(0, 5, 6)), note)


def _row(alert: AlertView, chosen: bool) -> list[markup.Piece]:
    buttons = []
    if alert.state == "open":
        buttons.append(markup.button("Acknowledge", "acknowledge", str(alert.id)))
    if alert.state in LIVE:
        buttons.append(markup.button("Resolve", "resolve", str(alert.id)))
        buttons.append(markup.button(f"Silence {SILENCE_HOURS} h", "silence", str(alert.id)))
    buttons.append(markup.button("Shown below" if chosen else "Details", "detail", str(alert.id), event="input"))
    state = markup.chip(alert.state, KINDS.get(alert.state, "quiet"))
    if alert.parts:
        state += " " + markup.chip(f"+{words.plural(alert.parts, 'alert')}", "quiet", "of the same incident")
    if alert.inhibited_by:
        state += " " + markup.chip("inhibited", "quiet", alert.inhibited_by)
    return [
        str(alert.id),
        markup.level(alert.level),
        state,
        markup.server(alert.server),
        alert.metric,
        words.percent(alert.p_30m),
        words.percent(alert.p_8h),
        markup.word(words.hour(alert.opened_at or alert.first_seen_at)),
        alert.message,
        words.listed(alert.route),
        Markup('<span class="fc-actions">{}</span>').format(markup.joined(buttons)),
    ]


def _detail(alert: AlertView) -> Markup:
    sent = [[words.moment(note.at), note.channel, note.to, _status(note), note.text] for note in alert.notifications]
    steps = [
        [
            f"after {words.duration(step.after_s)}",
            step.to,
            words.moment(step.due_at) if step.due_at else "not sent yet",
            "done" if step.done else "waiting",
        ]
        for step in alert.escalation
    ]
    events = [[words.moment(event.at), event.event, event.detail] for event in alert.timeline]
    held = f"nothing: held back by {alert.inhibited_by}" if alert.inhibited_by else "nothing so far"
    shadow = all(note.status == "would have sent" for note in alert.notifications)
    title = "What would have been sent" if shadow else "What was sent"
    parts = [
        markup.panel(title, _or(sent, ["At", "Channel", "To", "Status", "Text"], held), f"alert {alert.id}"),
        markup.panel("Escalation unless acknowledged", _or(steps, ["When", "To", "Due", ""], "none for this level")),
        markup.panel("Timeline", _or(events, ["At", "Event", "Detail"], "empty")),
    ]
    return Markup('{}<div class="fc-columns">{}{}</div>').format(*parts)


def _status(note: NotificationView) -> str:
    tries = f" after {words.plural(note.attempts, 'attempt')}" if note.attempts > 1 else ""
    return f"{note.status}{tries}" + (f": {note.error}" if note.error else "")


def _silences(silences: list[SilenceView]) -> Markup:
    rows: list[list[markup.Piece]] = [
        [
            str(one.id),
            ", ".join(one.matchers),
            words.moment(one.starts_at),
            words.moment(one.ends_at),
            one.created_by,
            one.comment,
            markup.button("End", "unsilence", str(one.id)),
        ]
        for one in silences
    ]
    headers = ["Id", "Alerts that fit", "From", "Until", "By", "Why", ""]
    body = markup.table(headers, rows) if rows else Markup('<p class="fc-text">none</p>')
    return markup.panel("Silences", body)


def _or(rows: list[list[str]], headers: list[str], empty: str) -> Markup:
    return markup.table(headers, rows) if rows else Markup('<p class="fc-text">{}</p>').format(empty)


def _matrix(rows: list[RoutingRow], shadow: bool) -> Markup:
    body = markup.table(
        ["Level", "Meaning", "Sent to", "Respond within", "Escalation"],
        [
            [
                markup.level(row.level),
                row.meaning,
                words.listed(row.route),
                row.respond_within,
                "; ".join(f"after {words.duration(step.after_s)} {step.to}" for step in row.escalation) or "none",
            ]
            for row in rows
        ],
    )
    some = "messages of some routes are sent" if any(row.shadow for row in rows) else "messages are sent"
    note = "shadow mode: messages are recorded as “would have sent”" if shadow else some
    return markup.panel("Routing", body, note)
