"""A picture of an explanation: attention over the past, and the drivers of each target."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.forecast.explanation import Attribution, Drivers, Explanation

SHOWN = 6
UP, DOWN, ATTENTION = "#c0392b", "#1f77b4", "#3b4252"


def explanation_figure(explanation: Explanation) -> bytes:
    """A PNG; of a forecast that the model did not make it holds that note alone."""
    rows = 1 + len(explanation.drivers)
    figure = Figure(figsize=(8, 2.2 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, 1, squeeze=False)[:, 0]
    figure.suptitle(
        f"{explanation.server} · {explanation.profile} · from {explanation.origin:%Y-%m-%d %H:%M} UTC", fontsize=10
    )
    if explanation.weights is None:
        grid[0].text(0.5, 0.5, explanation.note, ha="center", va="center", fontsize=9, wrap=True)
        grid[0].set_axis_off()
    else:
        _attention(grid[0], explanation.weights)
    for axes, drivers in zip(grid[1:], explanation.drivers, strict=True):
        _drivers(axes, drivers)
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _attention(axes: Axes, weights: Attribution) -> None:
    """Attention an hour of the past, so that tokens of different length compare."""
    edges = [
        (weights.past[0].first_step - 1) / STEPS_PER_HOUR,
        *(one.last_step / STEPS_PER_HOUR for one in weights.past),
    ]
    density = [100 * one.share * STEPS_PER_HOUR / one.steps for one in weights.past]
    axes.stairs(density, edges, fill=True, color=ATTENTION, alpha=0.7)
    axes.set_title(f"attention, % an hour of the past; {100 * weights.ahead:.0f} % ahead", fontsize=9, loc="left")
    axes.set_xlabel("hours from the origin", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)


def _drivers(axes: Axes, drivers: Drivers) -> None:
    """The largest effects on the peak, red up and blue down."""
    shown = drivers.drivers[:SHOWN][::-1]
    effects = [one.effect for one in shown]
    axes.barh([one.metric for one in shown], effects, color=[UP if effect > 0 else DOWN for effect in effects])
    axes.axvline(0, color="0.6", linewidth=0.8)
    unit = "" if drivers.unit == "1" else f" {drivers.unit}"
    axes.set_title(
        f"{drivers.target}: what moved the peak of {drivers.peak:.4g}{unit} ({drivers.level:g} quantile)",
        fontsize=9,
        loc="left",
    )
