"""Tab 3: the servers most at risk, and one of them in detail: fan charts, drivers, time to breach."""

from __future__ import annotations

from typing import Any

import gradio as gr
from markupsafe import Markup

from fleetcast.errors import ServiceError
from fleetcast.forecast.explanation import Explanation
from serve_app import schemas
from serve_app.dashboard import markup, palette, words
from serve_app.dashboard.client import FleetApi, NotFoundError
from serve_app.dashboard.fan import fan_figure
from serve_app.dashboard.view import ClientFactory, View, notice_line, panel_html, plot, refresher, unchanged

TOP = 20
MOST_ROWS = 10_000
HISTORY_HOURS = 24
HIGHEST = "highest risk"
DRIVER = "driver"
MOST_DRIVERS = 5
NOT_A_TARGET = "The model does not forecast this metric."


def build(clients: ClientFactory) -> View:
    """The tab's components and events."""
    notice = notice_line("fc-risks-notice")
    with gr.Row():
        with gr.Column(scale=3, min_width=330):
            ranking = panel_html("fc-ranking")
        with gr.Column(scale=8, min_width=620):
            with gr.Row(elem_classes="fc-controls"):
                server = gr.Dropdown(
                    [HIGHEST], value=HIGHEST, label="Server", allow_custom_value=True, elem_id="fc-server"
                )
                metric = gr.Dropdown([DRIVER], value=DRIVER, label="Metric", elem_id="fc-metric")
            title = panel_html("fc-server-title")
            fan = gr.Plot(show_label=False, elem_id="fc-fan")
            facts = panel_html("fc-server-facts")
    drawn = gr.State(None)
    view = View(
        notice, show, [server, metric, drawn], [ranking, server, metric, title, fan, facts, drawn], opens=[ranking]
    )
    refresh = refresher(clients, view)
    for choice in (server, metric):
        choice.input(refresh, view.inputs, [notice, *view.outputs], show_progress="hidden", api_visibility="private")
    return view


def show(api: FleetApi, server: str | None, metric: str | None, drawn: object) -> tuple[Any, ...]:
    """The ranking and the chosen server; nothing changes between cycles."""
    asked = server or HIGHEST
    status = api.status()
    now = (status.cycle, asked, metric)
    if now == drawn:
        return unchanged(7)
    if status.cycle is None:
        why = "No forecast cycle has run yet." if status.newest_sample else "No server has sent a sample yet."
        return markup.notice(why), gr.skip(), gr.skip(), "", plot(None), "", now
    return *_fresh(api, asked, metric), now


def _fresh(api: FleetApi, asked: str, metric: str | None) -> tuple[Any, ...]:
    page = api.fleet(limit=TOP)
    if not page.items:
        return markup.notice("The last cycle saw no server."), gr.skip(), gr.skip(), "", plot(None), ""
    choices = [HIGHEST, *(item.server for item in page.items)]
    name = page.items[0].server if asked == HIGHEST else asked
    item = next((item for item in page.items if item.server == name), None)
    try:
        forecast = api.forecast(name)
        history = api.history(name, HISTORY_HOURS)
    except NotFoundError as error:
        missing = markup.notice(f"Nothing to show for {name}: {error}", "bad")
        return _ranking(page), gr.Dropdown(choices=choices), gr.skip(), missing, plot(None), ""
    item = item or _find(api, name, forecast.profile)
    shown = _metric(metric, item, forecast, history)
    drivers = [DRIVER, *(forecast.metrics or history.metrics)]
    return (
        _ranking(page),
        gr.Dropdown(choices=choices),
        gr.Dropdown(choices=drivers) if metric in drivers else gr.Dropdown(choices=drivers, value=DRIVER),
        _title(name, item, forecast),
        plot(fan_figure(history, forecast, shown) if shown else None),
        _facts(item, drivers_panel(_explanation(api, name), shown)) if item else "",
    )


def _find(api: FleetApi, name: str, profile: str) -> schemas.FleetItem | None:
    """A server outside the ranking, looked up among those of its profile."""
    return next((item for item in api.fleet(profile, limit=MOST_ROWS).items if item.server == name), None)


def _metric(
    asked: str | None,
    item: schemas.FleetItem | None,
    forecast: schemas.ServerForecast,
    history: schemas.ServerHistory,
) -> str | None:
    """The metric to draw large: the one asked for, else the driver, else the first there is."""
    known = [*forecast.metrics, *history.metrics]
    wanted = [asked, item.metric if item else None]
    return next((name for name in wanted if name in known), known[0] if known else None)


def _ranking(page: schemas.FleetPage) -> Markup:
    rows: list[list[markup.Piece]] = [
        [
            markup.level(item.level),
            markup.score(item.score),
            markup.swatch(palette.profile_color(item.profile)) + markup.server(item.server),
            "open now" if item.open else words.percent(item.p_30m),
            words.percent(item.p_8h),
        ]
        for item in page.items
    ]
    body = markup.table(["Level", "Score", "Server", *markup.CHANCES], rows, numeric=(1, 3, 4))
    return markup.panel("Highest risk", body, f"{len(rows)} of {words.plural(page.total, 'server')}")


def _title(name: str, item: schemas.FleetItem | None, forecast: schemas.ServerForecast) -> Markup:
    pieces: list[markup.Piece] = [
        Markup("<b>{}</b>").format(name),
        markup.profile(forecast.profile),
        Markup("forecast from <b>{}</b>").format(words.moment(forecast.origin)),
    ]
    if item:
        score = Markup("score {}").format(markup.score(item.score))
        pieces[1:1] = [markup.level(item.level), score, markup.state(item.state)]
    if forecast.source == "model":
        pieces.append(markup.chip("model", "good"))
    else:
        pieces.append(markup.chip(forecast.source if forecast.source != "none" else "no forecast", "bad"))
        pieces.append(forecast.reason)
    if item and item.last_sample:
        pieces.append(Markup("last sample <b>{}</b>").format(words.hour(item.last_sample)))
    spans = markup.joined(Markup("<span>{}</span>").format(piece) for piece in pieces)
    return Markup('<div class="fc-head">{}</div>').format(spans)


def _explanation(api: FleetApi, name: str) -> Explanation | str:
    """The explanation of a server's forecast, or why there is none: the rest of the tab can do without."""
    try:
        return api.explain(name)
    except ServiceError as error:
        return str(error)


def _facts(item: schemas.FleetItem, drivers: Markup) -> Markup:
    likely = sorted(item.metric_probabilities.items(), key=lambda pair: -pair[1])
    bars = markup.table(
        ["Metric", "P(incident ≤ 8 h)"], [[name, markup.probability(chance)] for name, chance in likely], numeric=(1,)
    )
    chances = markup.facts(
        [
            ("within 30 min", markup.probability(item.p_30m)),
            ("within 2 h", markup.probability(item.p_2h)),
            ("within 8 h", markup.probability(item.p_8h)),
            ("open now", "yes" if item.open else "no"),
        ]
    )
    return Markup('<div class="fc-columns">{}{}{}{}</div>').format(
        markup.panel("P(incident)", chances, "on this server"),
        markup.panel("By metric", bars, "which metric would be it"),
        drivers,
        markup.panel("Time to breach", markup.facts(_breach(item)), "first critical threshold, from the origin"),
    )


def drivers_panel(explanation: Explanation | str, shown: str | None) -> Markup:
    """What moved the peak of the metric that is shown: the model run again with each metric as usual."""
    if isinstance(explanation, str):
        return markup.panel("Drivers", markup.notice(explanation, "bad"))
    found = next((one for one in explanation.drivers if one.target == shown), None)
    if found is None:
        return markup.panel("Drivers", markup.notice(explanation.note if not explanation.drivers else NOT_A_TARGET))
    rows: list[list[markup.Piece]] = [
        [one.metric, words.change(one.effect, found.unit)] for one in found.drivers[:MOST_DRIVERS]
    ]
    note = f"of the peak of {found.target}: the model again, each metric as usual for {found.hours:g} h"
    return markup.panel("Drivers", markup.table(["Metric", "Moves the peak by"], rows, numeric=(1,)), note)


def _breach(item: schemas.FleetItem) -> list[tuple[str, markup.Piece]]:
    return [
        (what, "not within the forecast" if seconds is None else words.ahead(seconds))
        for what, seconds in (
            ("median", item.breach_s),
            ("high quantile (earliest)", item.breach_low_s),
            ("low quantile (latest)", item.breach_high_s),
        )
    ]
