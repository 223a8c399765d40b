"""Fan charts: what a server did, the median of what comes, the bands around it, and the thresholds."""

from __future__ import annotations

from datetime import datetime

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from serve_app import schemas
from serve_app.dashboard import charts, palette


def bands(levels: list[float]) -> list[tuple[float, float, str]]:
    """Pairs of levels that lie symmetrically around the median, widest first, with their names ("80 % band")."""
    pairs = [(low, high) for low in levels for high in levels if low < 0.5 and abs(low + high - 1) < 1e-6]
    return [(low, high, f"{round((high - low) * 100)} % band") for low, high in sorted(pairs)]


def fan_figure(history: schemas.ServerHistory, forecast: schemas.ServerForecast, metric: str) -> go.Figure:
    """The metric large, the other forecast metrics small below it."""
    others = [name for name in forecast.metrics if name != metric]
    columns = max(1, len(others))
    rows = 2 if others else 1
    layout = [[{"colspan": columns}, *([None] * (columns - 1))], [{} for _ in others]][:rows]
    chart = make_subplots(
        rows=rows,
        cols=columns,
        specs=layout,
        row_heights=[0.66, 0.34][:rows],
        vertical_spacing=0.13,
        horizontal_spacing=0.045,
        subplot_titles=[metric, *others],
    )
    charts.style(chart, 560 if others else 400, f"{history.server}/{metric}")
    chart.update_annotations(font={**charts.FONT, "size": 12}, xanchor="left")
    for place, name in enumerate([metric, *others]):
        row, column = (1, 1) if place == 0 else (2, place)
        _draw(chart, history, forecast, name, row, column)
        chart.layout.annotations[place].update(x=chart.get_subplot(row, column).xaxis.domain[0])
    chart.update_layout(legend={"x": 1, "xanchor": "right"})
    return chart


def _draw(
    chart: go.Figure,
    history: schemas.ServerHistory,
    forecast: schemas.ServerForecast,
    metric: str,
    row: int,
    column: int,
) -> None:
    large = row == 1
    found = forecast.metrics.get(metric)
    unit = found.unit if found else "1"
    scale = charts.factor(unit)
    place = {"row": row, "col": column}
    if found:
        _forecast(chart, found, forecast.levels, large, place)
    past = [None if value is None else value * scale for value in history.metrics.get(metric, [])]
    if past:
        line = {"color": palette.HISTORY, "width": 1.6 if large else 1.2}
        chart.add_scatter(
            x=history.timestamps, y=past, mode="lines", line=line, name="history", showlegend=large, **place
        )
    if found:
        _thresholds(chart, found, large, place)
    chart.add_vline(x=_milliseconds(forecast.origin), line={"color": palette.QUIET, "width": 1}, **place)
    chart.update_yaxes(**charts.axis_format(unit), rangemode="tozero", nticks=6 if large else 4, **place)
    chart.update_xaxes(tickformat="%H:%M", hoverformat="%d %b %H:%M UTC", nticks=12 if large else 4, **place)


def _forecast(
    chart: go.Figure, found: schemas.MetricForecast, levels: list[float], large: bool, place: dict[str, int]
) -> None:
    scale = charts.factor(found.unit)
    paths = {float(level): [value * scale for value in path] for level, path in found.quantiles.items()}
    pairs = bands(levels)
    for (low, high, name), color in zip(pairs, palette.BANDS[-len(pairs) :] if pairs else (), strict=False):
        edge = {"width": 0, "color": color}
        chart.add_scatter(
            x=[*found.timestamps, *reversed(found.timestamps)],
            y=[*paths[high], *reversed(paths[low])],
            fill="toself",
            fillcolor=color,
            line=edge,
            mode="lines",
            name=name,
            hoverinfo="skip",
            showlegend=large,
            **place,
        )
    for level, path in paths.items():
        middle = level == 0.5
        line = {"color": palette.MEDIAN, "width": 2 if large else 1.4} if middle else {"width": 0}
        chart.add_scatter(
            x=found.timestamps,
            y=path,
            mode="lines",
            line=line,
            name="median" if middle else f"q{level:g}",
            showlegend=large and middle,
            hoverinfo="all" if large else "skip",
            **place,
        )


def _thresholds(chart: go.Figure, found: schemas.MetricForecast, large: bool, place: dict[str, int]) -> None:
    scale = charts.factor(found.unit)
    for name, value, color in (
        ("warning", found.warning, palette.WARNING),
        ("critical", found.critical, palette.CRITICAL),
    ):
        if value is not None:
            font = {"size": 11, "color": color}
            label = {"annotation_text": name, "annotation_position": "top left", "annotation_font": font}
            chart.add_hline(
                y=value * scale,
                line={"color": color, "width": 1.2, "dash": "dash" if name == "warning" else "solid"},
                **(label if large else {}),
                **place,
            )


def _milliseconds(moment: datetime) -> float:
    """A time as Plotly's date axes count it where a plain number is needed."""
    return moment.timestamp() * 1000
