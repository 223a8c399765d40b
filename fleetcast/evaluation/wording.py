"""What a report says in words and cells."""

from __future__ import annotations

from collections.abc import Sequence

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import BacktestReport, Comparison, Interval, Row, Scope, Slice

HEADINGS = (
    "forecaster",
    "WQL",
    "95 %",
    "/ best rival",
    "pinball",
    "MASE mean",
    "95 %",
    "/ best rival",
    "MASE median",
    "in 80 %",
    "width 80 %",
    "in 96 %",
    "width 96 %",
    "peak WQL",
    "/ best rival",
)
ON_TERMINAL = (0, 1, 3, 5, 7, 8, 9, 11, 13, 14)  # columns that fit
COMPARISON_HEADINGS = (
    "model / rival, geometric mean over metrics",
    "WQL",
    "95 %",
    "MASE",
    "95 %",
    "peak WQL",
    "way to the oracle",
)
AXES = {"profile": "profile", "lead": "time from the origin", "servers": "servers"}
EXPLANATION = (
    "WQL: 2 x pinball over all points and levels / (levels x sum of |truth|). MASE: error of the median / that of the "
    "seasonal naive forecast (1 day) in the past; mean over server windows, median over servers. Below 1 against a "
    "rival is better. 95 %: bootstrap over servers.",
    "Peak: the highest value of a window against the highest of each quantile, which is the quantile of the peak if "
    "all steps move together; where they do not, it is too low.",
    "Oracle and reference are limits on simulated data, not rivals. Way to the oracle: (rival - model) / (rival - "
    "oracle) in WQL.",
)


def facts(report: BacktestReport) -> list[str]:
    """The scope of the backtest in lines."""
    first, last = (moment.strftime("%Y-%m-%d %H:%M UTC") for moment in (report.origins[0], report.origins[-1]))
    lines = [f"{key}: {value}" for key, value in report.about.items()]
    unseen = "" if report.unseen_share is None else f", {100 * report.unseen_share:.0f} % of them unseen in training"
    lines.append(
        f"{report.windows} windows of {report.horizon} steps every {report.stride} steps, origins {first} to {last}, "
        f"{report.servers} servers{unseen}; purge gap {report.purge} steps"
    )
    lines.append("quantile levels " + ", ".join(f"{level:g}" for level in report.levels))
    lines.append(
        "forecasts of server windows by source: "
        + ", ".join(f"{name} {count}" for name, count in report.sources.items())
    )
    lines += [f"{count} x {reason}" for reason, count in report.reasons.items()]
    if report.best_rival is not None:
        lines.append(f"best rival in WQL, geometric mean over metrics: {report.best_rival}")
    return lines


def title(scope: Scope) -> str:
    """Heading of a metric."""
    unit = contract_metric(scope.metric).unit
    kind = "ratio" if unit == "1" else unit
    return f"{scope.metric} ({kind}): {scope.points:,} points of {scope.servers} servers"


def cells(row: Row) -> list[str]:
    """A row under `HEADINGS`."""
    return [
        row.forecaster,
        number(row.wql),
        interval(row.wql_interval),
        number(row.wql_ratio, 3),
        significant(row.pinball),
        number(row.mase_mean, 3),
        interval(row.mase_interval),
        number(row.mase_ratio, 3),
        number(row.mase_median, 3),
        percent(row.coverage_80),
        significant(row.width_80),
        percent(row.coverage_96),
        significant(row.width_96),
        number(row.peak_wql),
        number(row.peak_ratio, 3),
    ]


def level_headings(report: BacktestReport) -> list[str]:
    """Headings of the losses by level, of the points and of the peak."""
    levels = [f"{level:g}" for level in report.levels]
    return ["forecaster", *levels, *(f"peak {level}" for level in levels)]


def level_cells(row: Row) -> list[str]:
    """Losses by level under `level_headings`."""
    values = (*row.pinball_by_level.values(), *row.peak_pinball_by_level.values())
    return [row.forecaster, *(significant(value) for value in values)]


def comparison_cells(item: Comparison) -> list[str]:
    """A rival under `ON_TERMINAL = (0, 1, 3, 5, 7, 8, 9, 11, 13, 14)  # columns that fit
    COMPARISON_HEADINGS`."""
    return [
        f"{item.rival} (limit)" if item.is_limit else item.rival,
        number(item.wql_ratio, 3),
        interval(item.wql_interval, 3),
        number(item.mase_ratio, 3),
        interval(item.mase_interval, 3),
        number(item.peak_ratio, 3),
        percent(item.closed),
    ]


def slice_headings(what: str) -> list[str]:
    """Headings of the slices along an axis."""
    return [
        what,
        "points",
        "WQL",
        "/ best rival",
        "MASE mean",
        "/ best rival",
        "MASE median",
        "in 80 %",
        "in 96 %",
        "peak WQL",
    ]


def slice_cells(slices: Sequence[Slice]) -> list[list[str]]:
    """The model's slices under `slice_headings`; the rivals' are in `report.json`."""
    return [
        [
            one.name,
            f"{one.points:,}",
            number(one.wql),
            number(one.wql_ratio, 3),
            number(one.mase_mean, 3),
            number(one.mase_ratio, 3),
            number(one.mase_median, 3),
            percent(one.coverage_80),
            percent(one.coverage_96),
            number(one.peak_wql),
        ]
        for one in slices
        if one.forecaster == MODEL_NAME
    ]


def number(value: float | None, digits: int = 4) -> str:
    """A figure with fixed digits."""
    return "–" if value is None else f"{value:.{digits}f}"


def significant(value: float | None) -> str:
    """A figure in a metric's unit."""
    return "–" if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """A share."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(value: Interval | None, digits: int = 3) -> str:
    """Both ends of an interval."""
    return "–" if value is None else f"{value[0]:.{digits}f}..{value[1]:.{digits}f}"
