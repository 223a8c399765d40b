"""The experiments table: what a variant changes, that a run is scored as a backtest is, and that it is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import results
from benchmarks.accuracy.__main__ import Length, experiment, main
from benchmarks.accuracy.protocol import FLEET, VMS, Bench, MedianForecaster, Protocol, in_megahertz, spread
from benchmarks.accuracy.training import train_members
from benchmarks.accuracy.variants import CATALOGUE, Variant, chosen
from fleetcast.errors import EvaluationError, UsageError
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.rivals import UNTRAINED
from fleetcast.forecast.forecaster import Forecaster

SHORT = Protocol("short", ("cpu_utilization", "memory_used"), 12, (0.1, 0.5, 0.9), 3)
QUICK = Length(1, 64)


@pytest.fixture
def bench(tiny_dataset: Path) -> Callable[[str], Bench]:
    return lambda part: Bench(SHORT, str(tiny_dataset), part)


def test_every_variant_but_the_default_changes_the_plan_and_can_be_had(bench: Callable[[str], Bench]) -> None:
    plan = bench("validation").plan(0)
    same = [variant.name for variant in CATALOGUE if variant.describe(plan) == CATALOGUE[0].describe(plan)]
    assert same[0] == "default"
    assert all(name.startswith(("context_", "hidden_", "batch_")) for name in same[1:]), (
        "a size may be the preset's own"
    )
    assert {variant.name for variant in chosen("no_anchors, default")} == {"default", "no_anchors"}
    with pytest.raises(UsageError, match="unknown variant 'magic'; there are default, no_day_lags"):
        chosen("magic")


def test_parts_end_where_the_next_begins_and_training_ends_before_them(bench: Callable[[str], Bench]) -> None:
    validation, test = bench("validation"), bench("test")
    step = SHORT.horizon * SHORT.windows
    assert test.fleet.steps - validation.fleet.steps == step
    assert (test.cutoff - validation.cutoff).total_seconds() == 300 * step
    for one in (validation, test):
        assert one.plan(0).cutoff == one.cutoff == one.fleet.time_at(one.fleet.steps - 1 - step)
    assert (VMS.horizon, VMS.windows, len(VMS.levels), FLEET.horizon) == (48, 18, 9, 96)


def test_servers_of_a_large_fleet_are_scored_evenly_spread(bench: Callable[[str], Bench]) -> None:
    fleet = bench("test").fleet
    assert spread(fleet, 9) is fleet
    some = spread(fleet, 3)
    assert some.servers == (fleet.servers[0], fleet.servers[4], fleet.servers[8])
    np.testing.assert_array_equal(some.values[1], fleet.values[4])


def test_a_run_is_kept_resumed_and_shown(bench: Callable[[str], Bench], tmp_path: Path) -> None:
    path, variants = tmp_path / "results.jsonl", chosen("default,original_units")
    experiment([bench("validation")], [variants[0], Variant(name="nothing", what="nothing")], [0], path, QUICK)
    first = path.read_text()
    assert len(first.splitlines()) == 1, "a variant that changes nothing is not trained"
    path.write_text(first + first[:40])  # killed while it wrote by other means
    experiment([bench("validation")], variants, [0, 1], path, QUICK)
    runs = results.read(path)
    assert path.read_text().startswith(first)
    assert [(run.variant, run.seed) for run in runs] == [
        (name, seed) for seed in (0, 1) for name in ("default", "original_units")
    ]
    assert len({run.figures["wql_to_floor"] for run in runs}) > 2
    table = results.table(runs, CATALOGUE)
    assert "short, validation part (9 servers, 3 windows" in table
    assert f"| default | the preset as it is | 2 | {results.spread([runs[0].figures['wql_to_floor'], runs[2].figures['wql_to_floor']])} |" in table  # fmt: skip  # noqa: E501
    path.write_text("nonsense\n" + first)
    with pytest.raises(EvaluationError, match="line 1 is no result"):
        results.read(path)


def test_the_same_seed_gives_the_same_figures_and_training_sees_nothing_after_its_cutoff(
    bench: Callable[[str], Bench],
) -> None:
    one, (variant,) = bench("validation"), chosen("default")
    made = [train_members(one.plan(3, 1, 64), variant)[0] for _ in range(2)]
    assert all(np.array_equal(made[0].weights[name], made[1].weights[name]) for name in made[0].weights)
    assert made[0].manifest.cutoff == one.cutoff
    report, _ = one.score(made[:1])
    other = run_backtest(Forecaster(made[0]), one.fleet, 3, None, rivals=UNTRAINED)
    assert report.origins == list(other.origins.times)
    assert report.origins[0] == one.cutoff


def test_the_median_of_three_models_is_between_them(bench: Callable[[str], Bench]) -> None:
    one, (variant,) = bench("validation"), chosen("median_of_3")
    bundles = train_members(one.plan(0, 1, 64), variant)
    assert len({bundle.manifest.training["seed"] for bundle in bundles}) == 3
    members = tuple(Forecaster(bundle) for bundle in bundles)
    made = np.stack([member.forecast(one.fleet, one.cutoff).quantiles for member in members])
    found = MedianForecaster(members).forecast(one.fleet, one.cutoff).quantiles
    np.testing.assert_array_equal(found, np.median(made, axis=0))
    assert not np.array_equal(made[0], made[1])


def test_a_loss_in_mhz_weighs_servers_by_their_capacity(bench: Callable[[str], Bench]) -> None:
    one, (variant,) = bench("validation"), chosen("default")
    result = run_backtest(Forecaster(train_members(one.plan(0, 1, 64), variant)[0]), one.fleet, 3, None)
    alike = in_megahertz(result, dict.fromkeys(result.servers, 2000.0))
    report, _ = one.score(train_members(one.plan(0, 1, 64), variant))
    row = report.rows_of("cpu_utilization")[0]
    assert row.wql is not None
    assert alike["wql_mhz"] == pytest.approx(row.wql)
    assert alike["wql_mhz_to_best"] == pytest.approx(row.wql_ratio)
    loud = in_megahertz(result, {name: 1e6 if name == result.servers[0] else 1e-6 for name in result.servers})
    own = result.scores["model"].pinball[0, 0].sum() * 2 / len(result.levels) / result.truth.weight[0, 0].sum()
    assert loud["wql_mhz"] == pytest.approx(own)
    with pytest.raises(UsageError, match="no capacity of"):
        in_megahertz(result, {})


def test_the_command_ends_with_its_figures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    monkeypatch.setattr("sys.argv", ["accuracy", "--quick", "--variants", "default", "--results", str(path)])
    main()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["benchmark"], last["runs"]) == ("accuracy", 1)
    assert last["ratio"] == results.read(path)[0].figures["wql_to_floor"]
    monkeypatch.setattr("sys.argv", ["accuracy", "--results", str(path)])
    with pytest.raises(SystemExit, match="error: give --data VMS or --simulated FLEET"):
        main()
