"""The model card says what the kept figures say, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks.model_card.__main__ import CARD, PAGE, main
from benchmarks.model_card.card import make_card, read_card, rounded, write_card
from benchmarks.model_card.page import page
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import EvaluationError
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.rivals import UNTRAINED, BaselineForecaster, BaselineManifest
from fleetcast.evaluation.summary import summarise
from fleetcast.model.baselines import BASELINES
from fleetcast.windows.arrays import FleetArrays
from tests.unit.test_model import bundle_of

START = datetime(2026, 1, 5, tzinfo=UTC)
LEVELS = (0.02, 0.1, 0.5, 0.9, 0.98)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two "seeds" on the same windows and one model on other data."""
    folder, made = tmp_path_factory.mktemp("reports"), []
    for name, servers in (("residual_floor", 3), ("quantiles_last_4h", 3), ("constant_quantiles", 5)):
        values = np.random.default_rng(0).random((servers, 700, 2), np.float32)
        names = tuple(f"vm{number}" for number in range(servers))
        fleet = FleetArrays(
            names, ("generic",) * servers, ("cpu_utilization", "memory_used"), int(START.timestamp()), values,
            MAINTENANCE.empty_table(),
        )  # fmt: skip
        model = BaselineForecaster(name, BASELINES[name], BaselineManifest(fleet.metrics, LEVELS, 24, START))
        rivals = {rival: UNTRAINED[rival] for rival in ("naive", "residual_floor")}
        about = {"model": f"run-{name}", "data": f"/some/where/fleet-{servers} ({servers} servers)"}
        report = summarise(run_backtest(model, fleet, 3, None, rivals=rivals), about, None, f"data-{servers}")
        file = folder / f"{name}.json"
        file.write_text(report.model_dump_json())
        made.append(file)
    return made


def test_the_page_is_what_the_command_makes_of_the_kept_figures() -> None:
    assert PAGE.read_text() == page(read_card(CARD)), "run `python -m benchmarks.model_card`"
    assert CARD.stat().st_size < 200_000


def test_every_figure_of_a_backtest_is_its_reports(reports: list[Path], tmp_path: Path) -> None:
    write_card(tmp_path / "card.json", make_card([], reports))
    card = read_card(tmp_path / "card.json")
    text = page(card)
    assert [found.models for found in card.backtests] == [2, 1], "reports of the same windows are one backtest"
    for found, file in zip(card.backtests, (reports[0], reports[2]), strict=True):
        known = json.loads(file.read_text())
        for kept, row in zip(found.rows, known["rows"], strict=True):
            assert (kept.metric, kept.forecaster) == (row["metric"], row["forecaster"])
            assert kept.wql == pytest.approx(row["wql"], rel=1e-5)
            if kept.forecaster == "model":
                assert f"| {row['metric']} | {row['wql']:.4f} |" in text
        for one in known["comparisons"]:
            assert f"| {one['rival']} | {one['wql_ratio']:.3f} |" in text
    wql = [json.loads(file.read_text())["rows"][0]["wql"] for file in reports[:2]]
    assert f"| cpu_utilization | wql | {np.mean(wql):.4g} | {np.std(wql, ddof=1):.4g} |" in text
    assert "fleet-5 (5 servers)" in text
    assert "/some/where" not in text
    assert "Not on this page, since it was not measured for it: `benchmarks.limits`, `benchmarks.risk`" in text


def test_a_model_that_is_no_full_one_is_said_to_be_none(reports: list[Path], tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    card = make_card([tmp_path / "bundle"], reports[:1])
    assert ("its figures mean nothing" in page(card)) == (card.models[0].preset not in ("default", "reference"))
    full = card.model_copy(update={"models": [card.models[0].model_copy(update={"preset": "default"})]})
    assert "mean nothing" not in page(full)
    small = card.model_copy(update={"models": [card.models[0].model_copy(update={"preset": "tiny"})]})
    assert "preset tiny, to show the form of this page" in page(small)


def test_what_cannot_be_read_is_told_and_nothing_is_written(
    reports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "risk.txt").write_text('{"benchmark": "limits"}\n')
    (tmp_path / "limits.txt").write_text("Traceback\n")
    with pytest.raises(EvaluationError, match=r"is of benchmarks\.limits, not of benchmarks\.risk"):
        make_card([], reports, risk=tmp_path / "risk.txt")
    with pytest.raises(EvaluationError, match=r"does not end with the JSON of `python -m benchmarks\.limits`"):
        make_card([], reports, limits=tmp_path / "limits.txt")
    kept, out = tmp_path / "card.json", tmp_path / "page.md"
    for words in (["--reports", str(tmp_path)], [], ["--risk", str(tmp_path / "risk.txt")]):
        monkeypatch.setattr("sys.argv", ["model_card", *words, "--card", str(kept), "--out", str(out)])
        with pytest.raises(SystemExit, match="error: "):
            main()
        assert not kept.exists()
        assert not out.exists()


def test_numbers_are_kept_to_six_digits() -> None:
    assert rounded({"a": [1 / 3, 7, "x", None, True], "b": 123456.789}) == {
        "a": [0.333333, 7, "x", None, True],
        "b": 123457.0,
    }
