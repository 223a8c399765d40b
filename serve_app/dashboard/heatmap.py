"""Tab 2: the forecast median of a metric, server by server, a block for each profile."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.subplots import make_subplots

from serve_app import schemas
from serve_app.dashboard import charts, markup, palette, words
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.view import ClientFactory, View, notice_line, panel_html, plot, refresher, unchanged

ALL = "all"
ROWS_OF_ALL, ROWS_OF_ONE = 15, 80  # servers drawn of each profile: when all are shown, when one is
ROW_HEIGHT = 15
BLOCK_GAP = 26


def build(clients: ClientFactory) -> View:
    """The tab's components and events."""
    notice = notice_line("fc-heatmap-notice")
    with gr.Row(elem_classes="fc-controls"):
        metric = gr.Dropdown([], label="Metric (forecast median)", elem_id="fc-heatmap-metric")
        profile = gr.Dropdown([ALL], value=ALL, label="Profile", elem_id="fc-heatmap-profile")
    note = panel_html("fc-heatmap-note")
    chart = gr.Plot(show_label=False, elem_id="fc-heatmap")
    drawn = gr.State(None)
    view = View(notice, show, [metric, profile, drawn], [metric, profile, note, chart, drawn])
    refresh = refresher(clients, view)
    for choice in (metric, profile):
        choice.input(refresh, view.inputs, [notice, *view.outputs], show_progress="hidden", api_visibility="private")
    return view


def show(api: FleetApi, metric: str | None, profile: str, drawn: object) -> tuple[Any, ...]:
    """The heatmap of the chosen metric, drawn anew once a cycle; the model's first target when none is chosen yet."""
    status = api.status()
    targets = status.model.targets
    chosen = metric if metric and metric in targets else targets[0]
    now = (status.cycle, chosen, profile)
    return unchanged(5) if now == drawn else (*_fresh(api, targets, chosen, profile), now)


def _fresh(api: FleetApi, targets: list[str], chosen: str, profile: str) -> tuple[Any, ...]:
    found = api.heatmap(chosen)
    picker = gr.Dropdown(choices=targets, value=chosen)
    profiles = [ALL, *(name for name, _ in words.by_profile(found.profiles))]
    kept = profile if profile in profiles else ALL
    blocks = {name: block for name, block in words.by_profile(found.profiles) if kept in (ALL, name) and block.servers}
    filters = gr.Dropdown(choices=profiles, value=kept)
    if not blocks:
        why = "No forecast cycle has run yet." if found.origin is None else "The last cycle forecast no server."
        return picker, filters, markup.notice(why), plot(None)
    most = ROWS_OF_ALL if kept == ALL else ROWS_OF_ONE
    return picker, filters, _note(found, blocks, most), plot(heatmap_figure(found, blocks, most))


def _note(found: schemas.Heatmap, blocks: dict[str, schemas.ProfileHeatmap], most: int) -> Markup:
    cut = [name for name, block in blocks.items() if len(block.servers) > most]
    text = f"Forecast from {words.moment(found.origin)}. Servers with the highest forecast come first in each profile."
    if cut:
        text += f" Only the first {most} are drawn of {words.listed(cut)}; choose one to see more."
    return Markup('<p class="fc-text">{}</p>').format(text)


def heatmap_figure(found: schemas.Heatmap, blocks: dict[str, schemas.ProfileHeatmap], most: int) -> go.Figure:
    """Servers x forecast time, one block a profile on a common colour scale; at most `most` servers of each."""
    rows = [min(len(block.servers), most) for block in blocks.values()]
    inner = sum(rows) * ROW_HEIGHT + BLOCK_GAP * len(rows)
    chart = make_subplots(
        rows=len(rows),
        cols=1,
        shared_xaxes=True,
        row_heights=rows,
        vertical_spacing=BLOCK_GAP / inner if len(rows) > 1 else 0,
        subplot_titles=[f"{name} · {words.plural(len(block.servers), 'server')}" for name, block in blocks.items()],
    )
    charts.style(chart, inner + 90, f"{found.metric}/{len(blocks)}")
    chart.update_annotations(x=0, xanchor="left", font={**charts.FONT, "size": 12})
    for row, block in enumerate(blocks.values(), start=1):
        chart.add_trace(_block(block, found.unit, most), row=row, col=1)
    form = charts.axis_format(found.unit)
    scale: dict[str, object] = {"colorscale": [list(stop) for stop in palette.HEAT], "colorbar": _colorbar(form)}
    if found.unit == "1":
        scale |= {"cmin": 0, "cmax": 100}
    chart.update_layout(coloraxis=scale, hovermode="closest", margin={"l": 110})
    chart.update_yaxes(autorange="reversed", showgrid=False, ticks="", tickfont={"size": 10.5}, dtick=1)
    chart.update_xaxes(tickformat="%H:%M", showgrid=False)
    return chart


def _colorbar(form: dict[str, object]) -> dict[str, object]:
    return {
        "thickness": 10,
        "len": 220,
        "lenmode": "pixels",
        "y": 1,
        "yanchor": "top",
        "outlinewidth": 0,
        "tickfont": {"size": 11, "color": palette.MUTED},
        "ticksuffix": form.get("ticksuffix", ""),
        "tickformat": form["tickformat"],
    }


def _block(block: schemas.ProfileHeatmap, unit: str, most: int) -> go.Heatmap:
    scale = charts.factor(unit)
    known = [[value * scale for value in row if value is not None] for row in block.values]
    order = sorted(range(len(known)), key=lambda index: -max(known[index], default=-1.0))[:most]
    values = [[None if value is None else value * scale for value in block.values[index]] for index in order]
    texts = [[words.quantity(value, unit) for value in block.values[index]] for index in order]
    return go.Heatmap(
        x=block.timestamps,
        y=[escape(block.servers[index]) for index in order],
        z=values,
        text=texts,
        coloraxis="coloraxis",
        ygap=1,
        hovertemplate="%{y}<br>%{x|%d %b %H:%M} UTC<br><b>%{text}</b><extra></extra>",
    )
