"""The figure of a comparison: each metric's marginal, autocorrelation and increments, and the correlations."""

from __future__ import annotations

import io
from math import erfc, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, LogLocator, StrMethodFormatter

from fleetcast.contract.metrics import DEFAULT_TARGETS, in_contract_order, metric
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.storage import Storage
from fleetcast.simulate.realism.report import Comparison
from fleetcast.simulate.realism.sample import CURVE_LAGS, DatasetStatistics, MetricStatistics
from fleetcast.simulate.realism.statistics import Floats, pooled_quantiles, quartiles

MOST_METRICS = 6
PREFERRED = (*DEFAULT_TARGETS, "network_receive_bytes", "network_transmit_bytes", "disk_io_time")
COLORS = {"A": "tab:blue", "B": "tab:orange"}
SHARES = np.concatenate([[0.0], np.linspace(0.001, 0.999, 999), [1.0]])
DOTS = {
    "autocorrelation_5min": "autocorrelation 5 min",
    "autocorrelation_24h": "autocorrelation 24 h",
    "autocorrelation_168h": "autocorrelation 1 week",
    "hour_of_day": "share of hour of day",
    "hour_of_week": "share of hour of week",
    "burstiness_level": "burstiness of level",
    "burstiness_waits": "burstiness of waits",
}
TITLES = ("levels", "autocorrelation", "5-minute increments", "per server")


def write_figure(comparison: Comparison, path: Path) -> None:
    """Draw a PNG of at most `MOST_METRICS` metrics, the forecast targets first."""
    shown = shown_metrics(comparison)
    sides = {"A": comparison.a, "B": comparison.b}
    low = 1.6 + 0.42 * len(shown)  # height of the correlations, inches
    figure = Figure(figsize=(19, 2.5 * len(shown) + low + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    halves = figure.add_gridspec(2, 1, height_ratios=[2.5 * len(shown), low])
    top, bottom = (figure.add_subfigure(halves[row, 0]) for row in range(2))
    axes = top.subplots(len(shown), 4, squeeze=False, width_ratios=[1, 1, 1, 1])
    for row, name in zip(axes, shown, strict=True):
        found = {word: side.metrics[name] for word, side in sides.items()}
        _draw_levels(row[0], name, found)
        _draw_curves(row[1], found)
        _draw_increments(row[2], found)
        _draw_dots(row[3], found)
    for panel, title in zip(axes[0], TITLES, strict=True):
        panel.set_title(title)
    panels = bottom.subplots(1, 2, squeeze=False)[0]
    for panel, (word, side) in zip(panels, sides.items(), strict=True):
        _draw_correlation(panel, word, side, comparison.metrics, shown)
    top.legend(handles=_legend(sides), loc="outside upper center", ncols=6, frameon=False)
    image = io.BytesIO()
    figure.savefig(image, dpi=80, metadata={"Software": None})
    storage = Storage(path.parent)
    storage.create()
    storage.write_bytes(path.name, image.getvalue())


def shown_metrics(comparison: Comparison) -> tuple[str, ...]:
    """The metrics of the figure, in the contract's order."""
    with_values = [
        name
        for name in comparison.metrics
        if all(len(side.metrics[name].counts) for side in (comparison.a, comparison.b))
    ]
    first = [name for name in PREFERRED if name in with_values]
    return in_contract_order([*first, *(name for name in with_values if name not in PREFERRED)][:MOST_METRICS])


def _legend(sides: dict[str, DatasetStatistics]) -> list[Any]:
    names = {word: Path(side.dataset.location).name for word, side in sides.items()}
    datasets = [
        Line2D([], [], color=COLORS[word], label=f"{word}: {names[word]}, {side.sampled} servers, {side.days:.0f} days")
        for word, side in sides.items()
    ]
    return [
        *datasets,
        Line2D([], [], color="gray", label="all servers pooled, or median over servers"),
        Line2D([], [], color="gray", linestyle="--", label="levels of the median server"),
        Patch(color="gray", alpha=0.25, label="quartiles over servers"),
        Line2D([], [], color="black", linestyle=":", label="normal distribution"),
    ]


def _draw_levels(axes: Axes, name: str, sides: dict[str, MetricStatistics]) -> None:
    """Share of the samples at or below a level: of all servers together, and of the median server."""
    about = metric(name)
    highest, middles = [], []
    for word, found in sides.items():
        pooled = pooled_quantiles(found.sketches, found.counts, SHARES.tolist())
        axes.plot(pooled, SHARES, color=COLORS[word])
        axes.plot(quartiles(found.sketches)[1], np.linspace(0, 1, found.sketches.shape[1]), "--", color=COLORS[word])
        highest.append(pooled[-6])
        middles.append(max(pooled[500], pooled[-6] / 1e6))
    if not about.is_ratio and max(highest) > 0:
        axes.set_xscale("log")
        axes.set_xlim(max(min(middles) / 100, max(highest) / 1e8), 2 * max(highest))
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        large = max(highest) >= 1000
        axes.xaxis.set_major_formatter(EngFormatter(sep="") if large else StrMethodFormatter("{x:g}"))
    elif about.is_ratio:
        axes.set_xlim(0, max(*highest, 0.01) * 1.05)
    axes.set(ylim=(0, 1), ylabel="share of samples below")
    axes.set_xlabel(f"{name} ({unit_text(about.unit)})", fontweight="bold")


def unit_text(unit: str) -> str:
    """A UCUM unit as the figure writes it."""
    return "share of capacity" if unit == "1" else unit.replace("By/", "bytes/").replace("{", "").replace("}", "")


def _draw_curves(axes: Axes, sides: dict[str, MetricStatistics]) -> None:
    hours = np.arange(CURVE_LAGS + 1) * STEP_SECONDS / 3600
    for word, found in sides.items():
        low, middle, high = quartiles(found.curve)
        axes.fill_between(hours, low, high, color=COLORS[word], alpha=0.2, linewidth=0)
        axes.plot(hours, middle, color=COLORS[word])
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set(xlim=(0, 48), ylim=(-0.6, 1.02), xlabel="lag (hours)", ylabel="autocorrelation", xticks=range(0, 49, 8))


def _draw_increments(axes: Axes, sides: dict[str, MetricStatistics]) -> None:
    """Share of the increments that are larger than a number of their own server's standard deviations."""
    for word, found in sides.items():
        moved = ~np.isnan(found.changes).any(axis=1)
        if moved.any():
            sizes = pooled_quantiles(found.changes[moved], found.counts[moved], SHARES.tolist())
            axes.plot(sizes[:-1], 1 - SHARES[:-1], color=COLORS[word])
    normal = np.linspace(0.02, 3.5, 200)
    axes.plot(normal, _normal_tail(normal), ":", color="black")
    axes.set(xscale="log", yscale="log", xlim=(0.02, 30), ylim=(1e-3, 1.2))
    axes.set(xlabel="|increment| / its standard deviation", ylabel="share of increments above")


def _normal_tail(sizes: Floats) -> list[float]:
    """P(|z| > size) of a standard normal z."""
    return [erfc(size / sqrt(2)) for size in sizes]


def _draw_dots(axes: Axes, sides: dict[str, MetricStatistics]) -> None:
    """Medians and quartiles over servers of the statistics that lie between -1 and 1."""
    rows = np.arange(len(DOTS))
    for offset, (word, found) in zip((-0.16, 0.16), sides.items(), strict=True):
        low, middle, high = np.array([quartiles(found.scalars[name]) for name in DOTS]).T
        axes.hlines(rows + offset, low, high, color=COLORS[word], alpha=0.35, linewidth=5)
        axes.plot(middle, rows + offset, "o", color=COLORS[word], markersize=5)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set(xlim=(-1.02, 1.02), ylim=(len(DOTS) - 0.5, -0.5), xlabel="median and quartiles over servers")
    axes.set_yticks(rows, DOTS.values())
    axes.grid(axis="y", alpha=0.3)


def _draw_correlation(
    axes: Axes, word: str, side: DatasetStatistics, metrics: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    places = [metrics.index(name) for name in shown]
    matrix = quartiles(side.correlations)[1][np.ix_(places, places)]
    axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if abs(value) > 0.6 else "black")
    axes.set_xticks(range(len(shown)), [name.replace("_", "\n", 1) for name in shown])
    axes.set_yticks(range(len(shown)), shown)
    axes.set_title(f"{word}: correlation of levels within a server, median over servers", color=COLORS[word])
