"""Figures of a report: calibration, and the loss along the horizon."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import BacktestReport

COLUMNS = 3
MODEL_COLOUR, IDEAL_COLOUR = "#1f77b4", "#c0392b"
RIVAL_COLOURS = ("#7f8c8d", "#d08700", "#2e8b57", "#8e44ad", "#a0522d", "#16a085", "#3b4252", "#e377c2", "#bcbd22")


def calibration_figure(report: BacktestReport) -> bytes:
    """A PNG: the PIT histogram of the model by metric, as densities; 1 everywhere is calibrated."""
    figure, grid = _grid(report)
    edges = np.concatenate([[0.0], report.levels, [1.0]])
    for axes, scope in zip(grid, report.scopes, strict=False):
        row = next(row for row in report.rows_of(scope.metric) if row.forecaster == MODEL_NAME)
        if row.pit is None:
            continue
        density = np.asarray(row.pit) / np.asarray(report.pit_expected)
        axes.bar(edges[:-1], density, np.diff(edges), align="edge", color=MODEL_COLOUR, alpha=0.6, edgecolor="white")
        axes.axhline(1, color=IDEAL_COLOUR, linewidth=1, linestyle="--", label="calibrated")
        covered = "" if row.coverage_80 is None else f" · {100 * row.coverage_80:.1f} % in the 80 % band"
        axes.set_title(f"{scope.metric}{covered}", fontsize=9, loc="left")
        axes.set_xlim(0, 1)
    figure.supxlabel("level of the truth in the forecast", fontsize=9)
    figure.supylabel("share of points / that of a calibrated forecast", fontsize=9)
    return _png(figure)


def horizon_figure(report: BacktestReport) -> bytes:
    """A PNG: weighted quantile loss by bucket of leads, the model beside every rival, by metric."""
    figure, grid = _grid(report)
    for axes, scope in zip(grid, report.scopes, strict=False):
        found = report.slices_of("lead", scope.metric)
        names = list(dict.fromkeys(one.name for one in found))
        for number, forecaster in enumerate(dict.fromkeys(one.forecaster for one in found)):
            losses = [one.wql for one in found if one.forecaster == forecaster]
            ours = forecaster == MODEL_NAME
            colour = MODEL_COLOUR if ours else RIVAL_COLOURS[(number - 1) % len(RIVAL_COLOURS)]
            values = [np.nan if loss is None else loss for loss in losses]
            width, above = (2.2, 3) if ours else (1.0, 2)
            axes.plot(names, values, color=colour, linewidth=width, zorder=above, marker=".", label=forecaster)
        axes.set_title(scope.metric, fontsize=9, loc="left")
        axes.set_yscale("log")
    figure.supxlabel("time from the origin", fontsize=9)
    figure.supylabel("weighted quantile loss, log scale", fontsize=9)
    return _png(figure)


def _grid(report: BacktestReport) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a panel for each metric."""
    count = len(report.scopes)
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(4.6 * columns, 6.0), 3.2 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for number, axes in enumerate(grid):
        axes.set_visible(number < count)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid


def _png(figure: Figure) -> bytes:
    """The figure with one legend for all panels."""
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper center", frameon=False, fontsize=8,
            ncols=max(int(figure.get_figwidth() // 2), 1),
        )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
