"""Coverage of the 80 % band in each profile, beside what is asked."""

from __future__ import annotations

from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import BacktestReport, Slice
from fleetcast.evaluation.wording import percent

ASKED = (0.7, 0.9)  # of the points of each profile


def profile_coverage(report: BacktestReport, forecaster: str = MODEL_NAME) -> dict[str, float]:
    """Share of a profile's points, over all metrics, within the 80 % band; profiles without points are left out."""
    inside: dict[str, float] = {}
    points: dict[str, int] = {}
    for one in report.slices:
        if one.axis == "profile" and one.forecaster == forecaster and one.coverage_80 is not None:
            inside[one.name] = inside.get(one.name, 0.0) + one.coverage_80 * one.points
            points[one.name] = points.get(one.name, 0) + one.points
    return {name: inside[name] / count for name, count in points.items() if count}


def coverage_table(report: BacktestReport) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: the model's coverage in each profile, over all metrics and by metric, and whether as asked.

    No rows where the model's levels have no 80 % band.
    """
    metrics = [scope.metric for scope in report.scopes]
    low, high = ASKED
    asked = f"{100 * low:.0f}-{100 * high:.0f} %"
    rows = []
    for profile, share in profile_coverage(report).items():
        own = {one.metric: one.coverage_80 for one in report.slices if _of_model(one, profile)}
        verdict = "yes" if low <= share <= high else "no"
        rows.append([profile, percent(share), verdict, *(percent(own.get(metric)) for metric in metrics)])
    return ["profile", "all metrics", f"within {asked}", *metrics], rows


def _of_model(one: Slice, profile: str) -> bool:
    return (one.axis, one.name, one.forecaster) == ("profile", profile, MODEL_NAME)
