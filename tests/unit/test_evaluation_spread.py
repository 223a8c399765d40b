"""Several models' reports as one table of mean and spread."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fleetcast.cli import main
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import EvaluationError
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.figures import BacktestReport
from fleetcast.evaluation.rivals import BaselineForecaster, BaselineManifest
from fleetcast.evaluation.spread import load_report, spread_of
from fleetcast.evaluation.summary import summarise
from fleetcast.model.baselines import BASELINES
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)


def make_report(name: str, windows: int = 2) -> BacktestReport:
    values = np.random.default_rng(0).random((4, 400, 1), np.float32)
    names = tuple(f"web{number}" for number in range(4))
    fleet = FleetArrays(
        names, ("web_api",) * 4, ("cpu_utilization",), int(START.timestamp()), values, MAINTENANCE.empty_table()
    )
    model = BaselineForecaster(
        name, BASELINES[name], BaselineManifest(("cpu_utilization",), (0.1, 0.5, 0.9), 24, START)
    )
    return summarise(run_backtest(replace(model), fleet, windows, None), {"model": name})


def test_mean_and_spread_are_those_of_the_reports() -> None:
    reports = [make_report(name) for name in ("naive", "quantiles_last_4h", "quantiles_last_24h")]
    found = spread_of(reports)
    losses = [report.rows_of("cpu_utilization")[0].wql for report in reports]
    one = next(one for one in found.figures if (one.scope, one.figure) == ("cpu_utilization", "wql"))
    assert one.values == losses
    assert one.mean == pytest.approx(np.mean(losses))
    assert one.deviation == pytest.approx(np.std(losses, ddof=1))
    assert (one.lowest, one.highest) == (min(losses), max(losses))
    ratio = next(one for one in found.figures if one.figure == "wql_ratio to naive")
    assert ratio.values[0] == pytest.approx(1.0)
    assert not found.notes
    assert spread_of(reports[:2]).notes, "two models say little of the spread"


def test_reports_of_other_windows_or_of_one_model_are_refused() -> None:
    one = make_report("naive")
    with pytest.raises(EvaluationError, match="origins differ"):
        spread_of([one, make_report("naive", windows=3)])
    with pytest.raises(EvaluationError, match="fingerprint differ"):
        spread_of([one, one.model_copy(update={"fingerprint": "other"})])
    with pytest.raises(EvaluationError, match="at least two"):
        spread_of([one])


def test_the_command_joins_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("naive", "quantiles_last_4h", "quantiles_last_24h"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(make_report(name).model_dump_json())
    places = [str(tmp_path / "naive"), str(tmp_path / "quantiles_last_4h"), str(tmp_path / "quantiles_last_24h")]
    with pytest.raises(SystemExit) as end:
        main(["spread", f"{places[0]}/report.json", *places[1:], "--out", str(tmp_path / "out")])
    assert not end.value.code
    assert "cpu_utilization" in capsys.readouterr().out
    text = (tmp_path / "out" / "spread.md").read_text()
    assert "| cpu_utilization | wql |" in text
    assert "3 models" in text
    assert (tmp_path / "out" / "spread.json").is_file()


def test_what_is_no_report_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="fleetcast backtest"):
        load_report(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(EvaluationError, match="no report"):
        load_report(tmp_path)
