"""Tab 1: the fleet at a glance, its servers by risk, the scenario chooser of the live demo."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import gradio as gr
from markupsafe import Markup

from fleetcast.contract.vocabulary import PROFILES
from serve_app import schemas
from serve_app.dashboard import markup, palette, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import ClientFactory, View, action, notice_line, panel_html, refresher

PAGE_SIZE = 50
ALL = "all"
SCENARIOS: tuple[str, ...] = get_args(schemas.ScenarioName)


def build(clients: ClientFactory) -> View:
    """The tab's components and events."""
    notice = notice_line("fc-overview-notice")
    cards = panel_html("fc-overview-cards")
    with gr.Row():
        with gr.Column(scale=1, min_width=640):
            with gr.Row(elem_classes="fc-controls"):
                profile = _picker([("all profiles", ALL), *PROFILES], ALL, "Profile", "fc-filter-profile")
                level = _picker([("all levels", ALL), *palette.LEVELS], ALL, "Level", "fc-filter-level")
                sort = _picker([("by risk", "score"), ("by name", "server")], "score", "Order", "fc-sort")
            servers = panel_html("fc-servers")
        with gr.Column(scale=0, min_width=310):
            with gr.Column(elem_classes="fc-panel", scale=0):
                demo = panel_html("fc-demo")
                with gr.Row() as chooser:
                    buttons = [
                        gr.Button(name, size="sm", min_width=120, elem_id=f"fc-scenario-{name}") for name in SCENARIOS
                    ]
            side = panel_html("fc-overview-side")
    offset = gr.State(0)
    view = View(
        notice, show, [profile, level, sort, offset], [cards, servers, side, demo, chooser, *buttons], opens=[servers]
    )
    refresh = refresher(clients, view)
    filled = [notice, *view.outputs]
    for choice in (profile, level, sort):
        choice.input(lambda: 0, None, offset, api_visibility="private").then(
            refresh, view.inputs, filled, show_progress="hidden", api_visibility="private"
        )
    servers.click(_turn_page, None, offset, api_visibility="private").then(
        refresh, view.inputs, filled, show_progress="hidden", api_visibility="private"
    )
    for name, press in zip(SCENARIOS, buttons, strict=True):
        press.click(action(clients, partial(switch, name)), None, None, api_visibility="private").then(
            refresh, view.inputs, filled, show_progress="hidden", api_visibility="private"
        )
    return view


def _picker(choices: list[Any], value: str, label: str, elem_id: str) -> gr.Dropdown:
    """A dropdown without a frame; its label is for screen readers."""
    return gr.Dropdown(choices, value=value, label=label, container=False, show_label=False, elem_id=elem_id)


def switch(name: str, api: FleetApi) -> str:
    """Ask for a scenario."""
    api.switch_scenario(name)
    return f"The demo feed is asked to play “{name}”."


def show(api: FleetApi, profile: str, level: str, sort: str, offset: int) -> tuple[Any, ...]:
    """What the API says now, for the filters of the page."""
    status, demo = api.status(), api.demo()
    page = api.fleet(_chosen(profile), _chosen(level), sort, PAGE_SIZE, offset)
    buttons = [gr.Button(variant="primary" if demo.scenario == name else "secondary") for name in SCENARIOS]
    return (
        _cards(page),
        _servers(page, status, offset),
        _side(page, status),
        _demo(demo),
        gr.Row(visible=demo.enabled),
        *buttons,
    )


def _chosen(word: str) -> str | None:
    return None if word == ALL else word


def _turn_page(event: gr.EventData) -> int:
    return max(0, int(event.value)) if event.action == "page" else 0


def _cards(page: schemas.FleetPage) -> Markup:
    summary = page.summary
    items: list[tuple[str, markup.Piece, str]] = [("servers", f"{summary.servers:,}", "in the last cycle")]
    items += [
        (f"{name} {palette.LEVEL_WORDS[name]}", _count(name, summary.by_level.get(name, 0)), "servers")
        for name in palette.LEVELS
    ]
    within = "on any server"
    items += [
        ("P(incident ≤ 30 min)", words.percent(summary.p_any_30m), within),
        ("P(incident ≤ 8 h)", words.percent(summary.p_any_8h), within),
    ]
    return markup.cards(items)


def _count(level: str, count: int) -> Markup:
    color = palette.LEVELS[level] if count else palette.QUIET
    return Markup('<span data-level="{}" style="color:{}">{:,}</span>').format(level, color, count)


def _servers(page: schemas.FleetPage, status: schemas.Status, offset: int) -> Markup:
    if not page.items:
        return markup.notice(_why_empty(page, status))
    shown = [name for name in status.model.targets if any(name in item.latest for item in page.items)]
    headers = ["Level", "Score", "Server", "Profile", "State", *markup.CHANCES, "Driver", "Critical in"]
    headers += [*shown, "Forecast"]
    rows = [_row(item, shown) for item in page.items]
    first, last = offset + 1, offset + len(page.items)
    title = f"Servers {first}–{last} of {page.total:,}"
    numeric = [1, 5, 6, *range(9, 9 + len(shown))]
    body = markup.table(headers, rows, numeric) + _pager(offset, page.total)
    return markup.panel(title, body, f"forecast from {words.moment(page.origin)}")


def _why_empty(page: schemas.FleetPage, status: schemas.Status) -> str:
    if status.newest_sample is None:
        return "No server has sent a sample yet. Samples come in through POST /v1/samples."
    if page.origin is None:
        return "No forecast cycle has run yet: " + ("; ".join(status.reasons) or "the first one is under way")
    return "No server matches the filter."


def _row(item: schemas.FleetItem, shown: list[str]) -> list[markup.Piece]:
    source: markup.Piece = item.source
    if item.source != "model":
        source = markup.chip(item.source, "bad", item.reason)
    return [
        markup.level(item.level),
        markup.score(item.score),
        markup.server(item.server),
        markup.profile(item.profile),
        markup.state(item.state),
        markup.chip("open", "p1", "an incident is open now") if item.open else words.percent(item.p_30m),
        markup.probability(item.p_8h),
        item.metric or words.MISSING,
        "now" if item.open else (words.ahead(item.breach_s)),
        *(words.metric_value(name, item.latest.get(name)) for name in shown),
        source,
    ]


def _pager(offset: int, total: int) -> Markup:
    buttons = []
    if offset:
        buttons.append(markup.button("← previous", "page", str(max(0, offset - PAGE_SIZE))))
    if offset + PAGE_SIZE < total:
        buttons.append(markup.button("next →", "page", str(offset + PAGE_SIZE)))
    return Markup('<div class="fc-actions">{}</div>').format(markup.joined(buttons)) if buttons else Markup("")


def _side(page: schemas.FleetPage, status: schemas.Status) -> Markup:
    summary = page.summary
    if not summary.servers:
        return _model(status)
    sources = ", ".join(f"{name} {count}" for name, count in summary.by_source.items() if count)
    risks = markup.table(
        ["Profile", "Servers", "Mean score", "Highest score"],
        [
            [
                markup.profile(name),
                f"{found.servers:,}",
                markup.score(found.mean_score),
                markup.score(found.max_score) + markup.bar((found.max_score or 0.0) / 100, palette.INK),
            ]
            for name, found in words.by_profile(summary.by_profile)
        ],
        numeric=(1, 2, 3),
    )
    return markup.joined(
        [
            markup.panel("States now", markup.states(summary.by_state)),
            markup.panel("Risk by profile", risks, "score 0–100"),
            markup.panel("Forecasts", markup.facts([("source", sources), *_model_facts(status.model)])),
        ]
    )


def _model(status: schemas.Status) -> Markup:
    return markup.panel("Model", markup.facts(_model_facts(status.model)))


def _model_facts(model: schemas.ModelInfo) -> list[tuple[str, markup.Piece]]:
    return [
        ("model", Markup('{} <span class="fc-mono">{}</span>').format(model.run, model.digest[:12])),
        ("preset", f"{model.preset}, {model.parameters:,} parameters"),
        ("targets", words.listed(model.targets)),
        ("trained to", words.moment(model.cutoff)),
        ("backtest", _evaluation(model.evaluation)),
    ]


def _evaluation(figures: dict[str, Any]) -> str:
    plain = [f"{name} {value:.3g}" for name, value in figures.items() if isinstance(value, int | float)]
    return words.listed(plain) if plain else ("see the model card" if figures else "none of this bundle yet")


def _demo(demo: schemas.DemoInfo) -> Markup:
    if not demo.enabled:
        return Markup('<h3>Scenario</h3><p class="fc-text">{}</p>').format(
            "Scenarios need a simulated clock; this service runs on the real one."
        )
    playing = f"{demo.scenario} since {words.moment(demo.since)}" if demo.scenario else "none chosen"
    target = f" on {words.listed(demo.servers)}" if demo.servers else ""
    return Markup("<h3>Scenario<small>{}{}</small></h3>").format(playing, target)
