"""The one look of all charts: a Plotly template, and axes in the units that people read."""

from __future__ import annotations

import plotly.graph_objects as go

from serve_app.dashboard import palette

FONT = {"family": palette.FONT, "size": 12, "color": palette.INK}
_AXIS = {
    "gridcolor": "#edf0f3",
    "linecolor": palette.LINE,
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": palette.LINE,
    "ticklen": 4,
    "title": {"font": {"size": 12, "color": palette.MUTED}},
    "tickfont": {"size": 11, "color": palette.MUTED},
}


def figure(height: int, keep: str) -> go.Figure:
    """An empty figure in the house style; zoom and hidden traces survive refreshes while `keep` stays the same."""
    empty = go.Figure()
    style(empty, height, keep)
    return empty


def style(chart: go.Figure, height: int, keep: str) -> None:
    """Give a figure the house style."""
    chart.update_layout(
        template=go.layout.Template(layout={"font": FONT, "xaxis": _AXIS, "yaxis": _AXIS}),
        height=height,
        uirevision=keep,
        paper_bgcolor=palette.PANEL,
        plot_bgcolor=palette.PANEL,
        margin={"l": 60, "r": 16, "t": 34, "b": 36},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11.5}},
        hoverlabel={"font": {"family": palette.FONT, "size": 12}, "bgcolor": "#ffffff"},
        hovermode="x unified",
        modebar={"remove": ["lasso2d", "select2d", "autoscale"], "color": palette.QUIET, "activecolor": palette.ACCENT},
    )


def factor(unit: str) -> float:
    """What a contract unit is multiplied with on an axis: ratios are shown in per cent."""
    return 100.0 if unit == "1" else 1.0


def axis_format(unit: str) -> dict[str, object]:
    """Tick and hover format of an axis for a contract unit, after `factor`."""
    if unit == "1":
        return {"ticksuffix": " %", "tickformat": ".3~g", "hoverformat": ".1f"}
    if unit == "By/s":
        return {"ticksuffix": "B/s", "tickformat": ".3~s", "hoverformat": ".3s"}
    return {"tickformat": ".3~s", "hoverformat": ".3~g"}
