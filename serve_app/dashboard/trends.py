"""Tab 4: how a metric went, by profile: mean and 90th percentile."""

from __future__ import annotations

from typing import Any

import gradio as gr
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.subplots import make_subplots

from serve_app import schemas
from serve_app.dashboard import charts, markup, palette, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import ClientFactory, View, notice_line, panel_html, plot, refresher, unchanged

SPANS = (("6 h", 6), ("24 h", 24), ("3 days", 72))


def build(clients: ClientFactory) -> View:
    """The tab's components and events."""
    notice = notice_line("fc-trends-notice")
    with gr.Row(elem_classes="fc-controls"):
        metric = gr.Dropdown([], label="Metric", elem_id="fc-trends-metric")
        hours = gr.Radio(list(SPANS), value=24, label="Span", elem_id="fc-trends-hours")
    with gr.Row():
        with gr.Column(scale=1, min_width=620):
            chart = gr.Plot(show_label=False, elem_id="fc-trends")
        with gr.Column(scale=0, min_width=310):
            note = panel_html("fc-trends-note")
    drawn = gr.State(None)
    view = View(notice, show, [metric, hours, drawn], [metric, note, chart, drawn])
    refresh = refresher(clients, view)
    for choice in (metric, hours):
        choice.input(refresh, view.inputs, [notice, *view.outputs], show_progress="hidden", api_visibility="private")
    return view


def show(api: FleetApi, metric: str | None, hours: int, drawn: object) -> tuple[Any, ...]:
    """The trend of the chosen metric, drawn anew with new samples; the model's first target when none is chosen."""
    status = api.status()
    targets = status.model.targets
    sample = api.fleet(limit=1).items
    choices = list(dict.fromkeys([*targets, *(sample[0].latest if sample else ())]))
    chosen = metric if metric and metric in choices else targets[0]
    now = (status.newest_sample, chosen, hours)
    if now == drawn:
        return unchanged(4)
    picker = gr.Dropdown(choices=choices, value=chosen)
    if status.newest_sample is None:
        return picker, markup.notice("No server has sent a sample yet."), plot(None), now
    return picker, *_fresh(api, chosen, hours), now


def _fresh(api: FleetApi, chosen: str, hours: int) -> tuple[Any, ...]:
    found = api.trends(chosen, hours)
    known = sum(value is not None for trend in found.profiles.values() for value in trend.mean)
    if not known:
        return markup.notice(f"No server sent {chosen} within the last {hours} h."), plot(None)
    return _note(found), plot(trend_figure(found, hours))


def _note(found: schemas.Trends) -> Markup:
    times = found.timestamps
    latest = markup.table(
        ["Profile", "Mean", "90th percentile"],
        [
            [
                markup.profile(name),
                words.quantity(_last(trend.mean), found.unit),
                words.quantity(_last(trend.p90), found.unit),
            ]
            for name, trend in words.by_profile(found.profiles)
        ],
        numeric=(1, 2),
    )
    return markup.panel("Newest values", latest, words.moment(times[-1]))


def _last(values: list[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def trend_figure(found: schemas.Trends, hours: int) -> go.Figure:
    """Two charts one above the other on a common time axis, a line for each profile."""
    chart = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.09,
        subplot_titles=["mean over the profile's servers", "90th percentile over the profile's servers"],
    )
    charts.style(chart, 560, f"{found.metric}/{hours}")
    chart.update_annotations(x=0, xanchor="left", font={**charts.FONT, "size": 12})
    scale = charts.factor(found.unit)
    for name, trend in words.by_profile(found.profiles):
        for row, values in enumerate((trend.mean, trend.p90), start=1):
            chart.add_scatter(
                x=found.timestamps,
                y=[None if value is None else value * scale for value in values],
                mode="lines",
                line={"color": palette.profile_color(name), "width": 1.7},
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                row=row,
                col=1,
            )
    chart.update_layout(legend={"y": 1.06}, margin={"t": 60})
    chart.update_yaxes(**charts.axis_format(found.unit), rangemode="tozero")
    chart.update_xaxes(tickformat="%H:%M\n%d %b", hoverformat="%d %b %H:%M UTC")
    return chart
