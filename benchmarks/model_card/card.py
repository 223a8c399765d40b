"""The figures that the page is made of, small enough to be kept beside the code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetcast.errors import EvaluationError
from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import BacktestReport, Interval
from fleetcast.evaluation.incident_section import IncidentSection
from fleetcast.evaluation.profiles import profile_coverage
from fleetcast.evaluation.spread import Spread, load_report, spread_of
from fleetcast.model.manifest import load_manifest

SEEDS_FIGURES = ("wql", "mase_mean", "coverage_80")
DIGITS = 6  # significant ones that are kept


class Facts(BaseModel):
    """What a bundle's manifest says of the model."""

    run: str
    preset: str
    parameters: int
    members: int = 1
    targets: tuple[str, ...]
    features: tuple[str, ...]
    levels: tuple[float, ...]
    context: int
    horizon: int
    cutoff: datetime
    contract_version: str
    data_fingerprint: str
    training: dict[str, Any]


class Line(BaseModel):
    """One forecaster on one metric."""

    model_config = ConfigDict(extra="ignore")

    metric: str
    forecaster: str
    wql: float | None
    wql_ratio: float | None
    mase_mean: float | None
    mase_median: float | None
    mase_ratio: float | None
    coverage_80: float | None
    coverage_96: float | None
    peak_wql: float | None
    peak_ratio: float | None


class Part(Line):
    """The model on one metric in a profile, a bucket of leads, or for seen or unseen servers."""

    axis: str
    name: str


class Against(BaseModel):
    """The model against one rival, geometric means over the metrics."""

    model_config = ConfigDict(extra="ignore")

    rival: str
    is_limit: bool
    wql_ratio: float | None
    wql_interval: Interval | None
    mase_ratio: float | None
    mase_interval: Interval | None
    peak_ratio: float | None
    closed: float | None


class Backtest(BaseModel):
    """The backtest of one model, and the spread over others of the same training with other seeds."""

    about: dict[str, str]
    windows: int
    stride: int
    horizon: int
    purge: int
    servers: int
    unseen_share: float | None
    first: datetime
    last: datetime
    levels: list[float]
    best_rival: str | None
    rows: list[Line]
    parts: list[Part]
    profiles: dict[str, float] = Field(description="share of points in the 80 % band over all metrics")
    comparisons: list[Against]
    models: int = Field(description="of different seeds")
    spread: list[Spread]
    incidents: IncidentSection | None


class Card(BaseModel):
    """All that the page says in figures."""

    models: list[Facts]
    backtests: list[Backtest]
    limits: dict[str, Any] | None = Field(description="the line of JSON of `benchmarks.limits --model`")
    risk: dict[str, Any] | None = Field(description="of `benchmarks.risk --model`")


def make_card(
    models: Sequence[Path], reports: Sequence[Path], limits: Path | None = None, risk: Path | None = None
) -> Card:
    """Gather the figures. Reports of the same windows are one backtest; the first of them is the model that is shown.

    Raises `EvaluationError` and `BundleError` for files that cannot be read.
    """
    groups: dict[tuple[Any, ...], list[BacktestReport]] = {}
    for path in reports:
        report = load_report(path)
        groups.setdefault((report.fingerprint, report.servers, tuple(report.origins)), []).append(report)
    return Card(
        models=[Facts.model_validate(load_manifest(path).model_dump()) for path in models],
        backtests=[_backtest(group) for group in groups.values()],
        limits=None if limits is None else _last_line(limits, "limits", LIMIT_FIELDS),
        risk=None if risk is None else _last_line(risk, "risk", RISK_FIELDS),
    )


LIMIT_FIELDS = (
    "weighted_quantile_loss",
    "relative_to_floor",
    "coverage_80",
    "coverage_80_by_profile",
    "closes_overall",
    "model_closes",
    "cases",
    "oracle_samples",
    "reference_windows",
)
RISK_FIELDS = ("section", "oracle_share", "fitted_on", "flaps_per_server_day")


def read_card(path: Path) -> Card:
    """Raises `EvaluationError` when it is not there or damaged."""
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read ({error.strerror}): give --reports to make it") from error
    except ValidationError as error:
        raise EvaluationError(f"{path} is not what this FleetCast makes: give --reports to make it anew") from error


def write_card(path: Path, card: Card) -> None:
    """Write the figures, rounded to `DIGITS` significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(card.model_dump(mode="json")), indent=1) + "\n")


def rounded(value: Any) -> Any:
    """Plain data with its floats rounded."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def _backtest(reports: Sequence[BacktestReport]) -> Backtest:
    first = reports[0]
    found = next((one.data for one in first.sections if one.title == "Incidents"), None)
    named = [f"{ratio} to {first.best_rival}" for ratio in ("wql_ratio", "mase_ratio")]
    spread = spread_of(reports).figures if len(reports) > 1 else []
    return Backtest(
        about={name: _short(text) for name, text in first.about.items()},
        windows=first.windows,
        stride=first.stride,
        horizon=first.horizon,
        purge=first.purge,
        servers=first.servers,
        unseen_share=first.unseen_share,
        first=first.origins[0],
        last=first.origins[-1],
        levels=first.levels,
        best_rival=first.best_rival,
        rows=[Line.model_validate(row.model_dump()) for row in first.rows],
        parts=[Part.model_validate(one.model_dump()) for one in first.slices if one.forecaster == MODEL_NAME],
        profiles=profile_coverage(first),
        comparisons=[Against.model_validate(one.model_dump()) for one in first.comparisons],
        models=len(reports),
        spread=[one for one in spread if one.figure in (*SEEDS_FIGURES, *named)],
        incidents=None if found is None else IncidentSection.model_validate(found),
    )


def _short(text: str) -> str:
    """Without the folders above a dataset."""
    head, *rest = text.split(" ", 1)
    return " ".join([head.rstrip("/").rsplit("/", 1)[-1], *rest])


def _last_line(path: Path, name: str, fields: Sequence[str]) -> dict[str, Any]:
    """Some fields of the line of JSON that a benchmark ended with, from a file of what it printed."""
    try:
        found = json.loads(path.read_text().splitlines()[-1])
        if found["benchmark"] == name:
            return {field: found[field] for field in fields if field in found}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EvaluationError(f"{path} does not end with the JSON of `python -m benchmarks.{name}`") from error
    raise EvaluationError(f"{path} is of benchmarks.{found['benchmark']}, not of benchmarks.{name}")
