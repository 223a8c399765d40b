"""A backtest as text, Markdown, JSON, figure and forecast table."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyarrow as pa
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.dataset.storage import Storage
from fleetcast.evaluation.backtest import MODEL_NAME, BacktestResult
from fleetcast.evaluation.fans import sample_fans
from fleetcast.evaluation.summary import BacktestReport, Comparison, Row, Scope, summarise

HEADINGS = (
    "forecaster",
    "WQL",
    "WQL / best rival",
    "pinball",
    "MASE mean",
    "MASE / best rival",
    "MASE median",
    "in 80 % band",
    "in 96 % band",
    "fallback",
)
COMPARISON_HEADINGS = ("model / rival, geometric mean over metrics", "WQL", "MASE")
EXPLANATION = (
    "WQL: 2 x pinball over all points and levels / (levels x sum of |truth|). MASE: error of the median / that of the "
    "seasonal naive forecast (1 day) in the past; mean over server windows, median over servers. Below 1 against a "
    "rival is better."
)


def write_report(
    result: BacktestResult, out: str | os.PathLike[str], about: dict[str, str] | None = None
) -> BacktestReport:
    """Write `report.json`, `report.md`, `fans.png` and `forecasts.parquet` into the folder `out`, each whole or not.

    `about` names the model and the data and is shown as it is. Returns the figures.
    """
    report = summarise(result, about)
    storage = Storage(out)
    storage.create()
    storage.write_table("forecasts.parquet", pa.concat_tables([forecast.to_table() for forecast in result.forecasts]))
    storage.write_bytes("fans.png", sample_fans(result))
    storage.write_bytes("report.md", markdown(report).encode())
    storage.write_bytes("report.json", (report.model_dump_json(indent=1) + "\n").encode())
    return report


def tables(report: BacktestReport) -> Group:
    """The report for a terminal: a table for each metric, the comparison and the notes."""
    parts: list[Table | Text] = [Text(line) for line in _facts(report)]
    for scope in report.scopes:
        rows = report.rows_of(scope.metric)
        parts.append(_rich_table(_title(scope), HEADINGS, [_cells(row) for row in rows], bold=_model_position(rows)))
    parts.append(_rich_table(None, COMPARISON_HEADINGS, [_comparison_cells(item) for item in report.comparisons]))
    parts += [Text(line, style="dim") for line in (EXPLANATION, *report.notes)]
    return Group(*parts)


def markdown(report: BacktestReport) -> str:
    """The same as a Markdown document."""
    lines = ["# Backtest", ""]
    lines += [f"- {line}" for line in _facts(report)]
    for scope in report.scopes:
        lines += ["", f"## {_title(scope)}", ""]
        lines += _markdown_table(HEADINGS, [_cells(row) for row in report.rows_of(scope.metric)])
    lines += ["", "## Against each rival", ""]
    lines += _markdown_table(COMPARISON_HEADINGS, [_comparison_cells(item) for item in report.comparisons])
    lines += ["", EXPLANATION]
    lines += [line for note in report.notes for line in ("", note)]
    lines += ["", "![sample fans](fans.png)", ""]
    return "\n".join(lines)


def _facts(report: BacktestReport) -> list[str]:
    """The scope of the backtest in lines."""
    first, last = (moment.strftime("%Y-%m-%d %H:%M UTC") for moment in (report.origins[0], report.origins[-1]))
    lines = [f"{key}: {value}" for key, value in report.about.items()]
    lines.append(
        f"{report.windows} windows of {report.horizon} steps every {report.stride} steps, origins {first} to {last}, "
        f"{report.servers} servers"
    )
    lines.append("quantile levels " + ", ".join(f"{level:g}" for level in report.levels))
    lines.append(
        "forecasts of server windows by source: "
        + ", ".join(f"{name} {count}" for name, count in report.sources.items())
    )
    lines += [f"{count} x {reason}" for reason, count in report.reasons.items()]
    return lines


def _title(scope: Scope) -> str:
    unit = contract_metric(scope.metric).unit
    kind = "ratio" if unit == "1" else unit
    return f"{scope.metric} ({kind}): {scope.points:,} points of {scope.servers} servers"


def _cells(row: Row) -> list[str]:
    return [
        row.forecaster,
        _number(row.wql),
        _number(row.wql_ratio, 3),
        _significant(row.pinball),
        _number(row.mase_mean, 3),
        _number(row.mase_ratio, 3),
        _number(row.mase_median, 3),
        _percent(row.coverage_80),
        _percent(row.coverage_96),
        _percent(row.fallback_share),
    ]


def _comparison_cells(item: Comparison) -> list[str]:
    return [item.rival, _number(item.wql_ratio, 3), _number(item.mase_ratio, 3)]


def _model_position(rows: Sequence[Row]) -> int | None:
    return next((number for number, row in enumerate(rows) if row.forecaster == MODEL_NAME), None)


def _rich_table(title: str | None, headings: Sequence[str], rows: list[list[str]], bold: int | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=number == 0)
    for number, row in enumerate(rows):
        table.add_row(*row, style="bold" if number == bold else None)
    return table


def _markdown_table(headings: Sequence[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(headings) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows)]


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _significant(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
