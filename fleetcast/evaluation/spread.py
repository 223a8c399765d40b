"""Several reports of the same windows as one: mean and spread over the models' seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field, ValidationError
from rich.table import Table

from fleetcast.dataset.storage import Storage
from fleetcast.errors import EvaluationError
from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import BacktestReport

REPORT = "report.json"
ENOUGH = 3  # models, for a spread worth the name
FIGURES = ("wql", "mase_mean", "mase_median", "coverage_80", "coverage_96", "width_80", "width_96", "peak_wql")
RATIOS = ("wql_ratio", "mase_ratio", "peak_ratio", "closed")
SAME = ("origins", "horizon", "levels", "servers", "fingerprint")


class Spread(BaseModel):
    """One figure over several models; `deviation` is the sample standard deviation."""

    scope: str = Field(description="a metric, or `geometric mean` for a ratio over all of them")
    figure: str
    mean: float
    deviation: float
    lowest: float
    highest: float
    values: list[float] = Field(description="in the order of the models")


class SpreadReport(BaseModel):
    """Figures of models that differ in their seed, on the same windows."""

    models: list[str]
    windows: int
    servers: int
    figures: list[Spread]
    notes: list[str]


def load_report(path: str | os.PathLike[str]) -> BacktestReport:
    """Read a report from `report.json` or its folder. Raises `EvaluationError`."""
    file = Path(path) / REPORT if Path(path).is_dir() else Path(path)
    try:
        return BacktestReport.model_validate_json(file.read_bytes())
    except OSError as error:
        raise EvaluationError(f"{file} cannot be read ({error.strerror}); `fleetcast backtest` writes it") from error
    except ValidationError as error:
        raise EvaluationError(f"{file} is no report of this FleetCast: run `fleetcast backtest` again") from error


def spread_of(reports: Sequence[BacktestReport]) -> SpreadReport:
    """Mean and spread of the model's figures by metric, and of its geometric mean ratios to each rival.

    Raises `EvaluationError` unless there are two reports or more, of the same windows and data.
    """
    if len(reports) < 2:
        raise EvaluationError("a spread needs the reports of at least two models")
    first = reports[0]
    for report in reports[1:]:
        for name in SAME:
            if getattr(report, name) != getattr(first, name):
                raise EvaluationError(f"the reports are not of the same backtest: their {name} differ")
    found = []
    for scope in first.scopes:
        rows = [_model_row(report, scope.metric) for report in reports]
        found += [_spread(scope.metric, figure, [row.get(figure) for row in rows]) for figure in FIGURES]
    for number, comparison in enumerate(first.comparisons):
        ratios = [report.comparisons[number].model_dump() for report in reports]
        if any(one["rival"] != comparison.rival for one in ratios):
            raise EvaluationError("the reports are not of the same backtest: their rivals differ")
        title = {name: f"{name} to {comparison.rival}" for name in RATIOS}
        found += [_spread("geometric mean", title[name], [one[name] for one in ratios]) for name in RATIOS]
    few = [f"{len(reports)} models: fewer than {ENOUGH} say little of the spread."] if len(reports) < ENOUGH else []
    return SpreadReport(
        models=[report.about.get("model", "") for report in reports],
        windows=first.windows,
        servers=first.servers,
        figures=[one for one in found if one is not None],
        notes=few,
    )


def write_spread(report: SpreadReport, out: str | os.PathLike[str]) -> None:
    """Write `spread.json` and `spread.md` into a folder, each whole or not at all."""
    storage = Storage(out)
    storage.create()
    storage.write_bytes("spread.md", markdown(report).encode())
    storage.write_bytes("spread.json", (report.model_dump_json(indent=1) + "\n").encode())


def table(report: SpreadReport) -> Table:
    """For a terminal."""
    found = Table(*_HEADINGS, title=_title(report), caption=" ".join(report.notes), title_justify="left")
    for one in report.figures:
        found.add_row(*_cells(one))
    return found


def markdown(report: SpreadReport) -> str:
    """The same as Markdown."""
    rows = [_HEADINGS, ("---", "---", *["--:"] * (len(_HEADINGS) - 2)), *(_cells(one) for one in report.figures)]
    lines = ["# Spread over models", "", _title(report), "", *(f"- {model}" for model in report.models), ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([*lines, "", *report.notes, ""])


_HEADINGS = ("metric", "figure", "mean", "standard deviation", "lowest", "highest")


def _title(report: SpreadReport) -> str:
    return f"{len(report.models)} models, {report.windows} windows, {report.servers} servers"


def _cells(one: Spread) -> tuple[str, ...]:
    numbers = (one.mean, one.deviation, one.lowest, one.highest)
    return (one.scope, one.figure.replace("_", " "), *(f"{value:.4g}" for value in numbers))


def _model_row(report: BacktestReport, metric: str) -> dict[str, float | None]:
    row = next((row for row in report.rows_of(metric) if row.forecaster == MODEL_NAME), None)
    if row is None:
        raise EvaluationError(f"the reports are not of the same backtest: one has no {metric}")
    return row.model_dump()


def _spread(scope: str, figure: str, values: Sequence[float | None]) -> Spread | None:
    """None where a model does not have the figure."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return Spread(
        scope=scope,
        figure=figure,
        mean=float(np.mean(known)),
        deviation=float(np.std(known, ddof=1)),
        lowest=min(known),
        highest=max(known),
        values=known,
    )
