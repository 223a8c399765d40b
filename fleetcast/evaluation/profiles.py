"""Coverage of the 80 % band in each profile, beside what is asked."""

from __future__ import annotations

from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import BacktestReport

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
