"""Sample fan charts of a backtest."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.thresholds import threshold
from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.evaluation.backtest import MODEL_NAME, BacktestResult, model_forecast
from fleetcast.evaluation.levels import at_levels, column_of
from fleetcast.evaluation.protocol import Forecaster
from fleetcast.evaluation.source import FleetSource
from fleetcast.evaluation.splits import Window
from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays

BANDS = ((0.02, 0.98, 0.16), (0.1, 0.9, 0.28), (0.25, 0.75, 0.45))
PLACES = ("lowest", "median", "highest")
HISTORY_COLOUR, FORECAST_COLOUR, TRUTH_COLOUR = "#3b4252", "#1f77b4", "#111111"
WARNING_COLOUR, CRITICAL_COLOUR = "#d08700", "#c0392b"


def sample_fans(result: BacktestResult, forecaster: Forecaster, source: FleetSource) -> bytes:
    """A PNG: for each metric the servers with the lowest, median and highest loss of the model, in the last window.

    The loss that picks them is the weighted quantile loss over all windows; so the sample is not picked by looks. They
    are read and forecast once more.
    """
    metrics = result.metrics
    figure = Figure(figsize=(5.2 * len(PLACES), 3.1 * len(metrics) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(metrics), len(PLACES), squeeze=False)
    samples = [_sample(result, column) for column in range(len(metrics))]
    rows = sorted({row for sample in samples for _, row in sample})
    shown = _Shown.of(result, forecaster, source.of(rows)) if rows else None
    for column, metric in enumerate(metrics):
        for axes, (place, row) in zip(grid[column], samples[column], strict=False):
            if shown is not None:
                _draw(axes, shown, rows.index(row), column)
                axes.set_title(f"{metric} · {result.servers[row]} · {place} loss", fontsize=9, loc="left")
        for axes in grid[column]:
            axes.set_visible(axes.has_data())
    handles: dict[str, Artist] = {}
    for axes in grid.flat:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles) or 1, frameon=False
    )
    origin = result.origins.times[-1]
    figure.supxlabel(f"hours from the origin, {origin:%Y-%m-%d %H:%M} UTC", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _sample(result: BacktestResult, column: int) -> list[tuple[str, int]]:
    """(place, server position) of up to three different servers with a loss."""
    loss = result.scores[MODEL_NAME].pinball[:, column].sum(axis=(1, 2))
    weight = result.truth.weight[:, column].sum(axis=1)
    ranked = np.flatnonzero(weight > 0)
    ranked = ranked[np.argsort(loss[ranked] / weight[ranked], kind="stable")]
    if not len(ranked):
        return []
    picks = {place: int(ranked[round(at * (len(ranked) - 1))]) for place, at in zip(PLACES, (0, 0.5, 1), strict=True)}
    places = {row: place for place, row in reversed(picks.items())}
    return [(place, row) for row, place in reversed(places.items())]


@dataclass(frozen=True)
class _Shown:
    """The last window of some servers, with the model's forecast of it."""

    window: Window
    forecast: ForecastArrays

    @classmethod
    def of(cls, result: BacktestResult, forecaster: Forecaster, fleet: FleetArrays) -> _Shown:
        window = result.origins.windows(fleet)[-1]
        return cls(window, model_forecast(forecaster, window, result.levels))


def _draw(axes: Axes, shown: _Shown, row: int, column: int) -> None:
    """History of a day, truth, median, bands and thresholds of one server and metric in the last window."""
    window, forecast = shown.window, shown.forecast
    metric, levels = forecast.metrics[column], forecast.levels
    past = window.input().select((metric,))[row, -STEPS_PER_DAY:, 0]
    truth = window.truth((metric,))[row, 0]
    fan = forecast.quantiles[row, column]
    before = np.arange(1 - len(past), 1) / STEPS_PER_HOUR
    after = np.arange(1, window.horizon + 1) / STEPS_PER_HOUR
    axes.plot(before, past, color=HISTORY_COLOUR, linewidth=0.9, label="history")
    for low, high, alpha in BANDS:
        first, last = column_of(levels, low), column_of(levels, high)
        if first is not None and last is not None:
            name = f"{100 * (high - low):.0f} % band"
            axes.fill_between(
                after, fan[:, first], fan[:, last], color=FORECAST_COLOUR, alpha=alpha, linewidth=0, label=name
            )
    axes.plot(after, at_levels(fan, levels, (0.5,))[:, 0], color=FORECAST_COLOUR, linewidth=1.5, label="median")
    axes.plot(after, truth, color=TRUTH_COLOUR, linewidth=0.9, linestyle=(0, (3, 1.5)), label="truth")
    axes.axvline(0, color="0.6", linewidth=0.8)
    known = np.concatenate([past, truth, fan[:, -1]])
    _frame(axes, metric, forecast.profiles[row], float(np.max(known, initial=0.0, where=~np.isnan(known))))


def _frame(axes: Axes, metric: str, profile: str, highest: float) -> None:
    """Thresholds as far as they are near the data, unit, ticks and grid."""
    limits = threshold(metric, profile)
    if limits is not None:
        for value, name, colour in (
            (limits.warning, "warning", WARNING_COLOUR),
            (limits.critical, "critical", CRITICAL_COLOUR),
        ):
            if value <= 2.5 * highest:
                axes.axhline(value, color=colour, linewidth=0.9, linestyle="--", label=name)
    if contract_metric(metric).is_ratio:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MultipleLocator(6))
    axes.spines[["top", "right"]].set_visible(False)
