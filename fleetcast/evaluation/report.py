"""A backtest as a terminal table, Markdown, JSON and figures."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleetcast.dataset.storage import Storage
from fleetcast.evaluation import wording
from fleetcast.evaluation.backtest import MODEL_NAME, BacktestResult
from fleetcast.evaluation.fans import sample_fans
from fleetcast.evaluation.figures import BacktestReport
from fleetcast.evaluation.plots import calibration_figure, horizon_figure
from fleetcast.evaluation.profiles import coverage_table
from fleetcast.evaluation.protocol import Forecaster, Scoring
from fleetcast.evaluation.source import ArraysSource, FleetSource
from fleetcast.evaluation.summary import summarise
from fleetcast.windows.arrays import FleetArrays

IMAGES = ("calibration.png", "horizon.png", "fans.png")


def write_report(
    result: BacktestResult,
    forecaster: Forecaster,
    fleet: FleetArrays | FleetSource,
    out: str | os.PathLike[str],
    about: dict[str, str] | None = None,
    seen: npt.NDArray[np.bool_] | None = None,
    fingerprint: str = "",
    scorings: Sequence[Scoring] = (),
) -> BacktestReport:
    """Write `report.json`, `report.md` and the PNG figures into the folder `out`, each whole or not at all.

    `forecaster` and `fleet` are those of the backtest: the fans are drawn from them. `scorings` listened to it and add
    their sections and images. The rest is as in `summarise`.
    `report.json` comes last: where it is, the others are. Returns the figures.
    """
    report = summarise(result, about, seen, fingerprint, [scoring.section() for scoring in scorings])
    source = ArraysSource(fleet) if isinstance(fleet, FleetArrays) else fleet
    storage = Storage(out)
    storage.create()
    made = (calibration_figure(report), horizon_figure(report), sample_fans(result, forecaster, source))
    images = dict(zip(IMAGES, made, strict=True))
    for name, content in (pair for some in (images, *(one.images() for one in scorings)) for pair in some.items()):
        storage.write_bytes(name, content)
    storage.write_bytes("report.md", markdown(report).encode())
    storage.write_bytes("report.json", (report.model_dump_json(indent=1) + "\n").encode())
    return report


def tables(report: BacktestReport) -> Group:
    """The report for a terminal: a table for each metric with the main columns, the comparison, sections and notes."""
    parts: list[Table | Text] = [Text(line) for line in wording.facts(report)]
    for scope in report.scopes:
        rows = report.rows_of(scope.metric)
        bold = next((number for number, row in enumerate(rows) if row.forecaster == MODEL_NAME), None)
        cells = [wording.cells(row) for row in rows]
        headings, *shown = [[line[column] for column in wording.ON_TERMINAL] for line in (wording.HEADINGS, *cells)]
        parts.append(_rich_table(wording.title(scope), headings, shown, bold))
    compared = [wording.comparison_cells(item) for item in report.comparisons]
    parts.append(_rich_table(None, wording.COMPARISON_HEADINGS, compared))
    headings, covered = coverage_table(report)
    if covered:
        parts.append(_rich_table("points in the 80 % band by profile", headings, covered))
    for section in report.sections:
        parts += [Text(line) for line in section.text]
        parts.append(_rich_table(section.title, section.headings, section.rows))
    parts += [Text(line, style="dim") for line in (*wording.EXPLANATION, *report.notes)]
    return Group(*parts)


def markdown(report: BacktestReport) -> str:
    """The same as a Markdown document, with the slices by profile, lead and unseen servers and the figures."""
    lines = ["# Backtest", "", *(f"- {line}" for line in wording.facts(report))]
    lines += ["", "## Against each rival", ""]
    lines += _markdown_table(
        wording.COMPARISON_HEADINGS, [wording.comparison_cells(item) for item in report.comparisons]
    )
    headings, covered = coverage_table(report)
    if covered:
        lines += ["", "## Points in the 80 % band by profile", "", *_markdown_table(headings, covered)]
    for scope in report.scopes:
        rows = report.rows_of(scope.metric)
        lines += ["", f"## {wording.title(scope)}", ""]
        lines += _markdown_table(wording.HEADINGS, [wording.cells(row) for row in rows])
        lines += ["", "Pinball loss by level, and of the peak over the horizon:", ""]
        lines += _markdown_table(wording.level_headings(report), [wording.level_cells(row) for row in rows])
        for axis, what in wording.AXES.items():
            found = report.slices_of(axis, scope.metric)
            if found:
                lines += ["", f"By {what}:", ""]
                lines += _markdown_table(wording.slice_headings(what), wording.slice_cells(found))
    for section in report.sections:
        lines += ["", f"## {section.title}", "", *(line for text in section.text for line in (text, ""))]
        lines += _markdown_table(section.headings, section.rows) if section.headings else []
        lines += [line for image in section.images for line in ("", f"![{section.title}]({image})")]
    lines += ["", "## How to read this", ""]
    lines += [line for note in (*wording.EXPLANATION, *report.notes) for line in (note, "")]
    lines += [line for image in IMAGES for line in (f"![{image.removesuffix('.png')}]({image})", "")]
    return "\n".join(lines)


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
