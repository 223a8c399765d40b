"""Statistics that compare datasets: known answers, gaps, constant servers, sampling, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from fleetcast.cli import main
from fleetcast.contract.schema import sample_schema
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.errors import DatasetError, UsageError
from fleetcast.simulate.realism import statistics as realism
from fleetcast.simulate.realism.report import compare_datasets
from fleetcast.simulate.realism.sample import DatasetStatistics, describe, sample_servers

Floats = npt.NDArray[np.float64]

MONDAY = 1_767_571_200  # 2026-01-05T00:00Z
DAYS = 28
STEPS = DAYS * STEPS_PER_DAY


def noise(steps: int = STEPS, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=steps)


def autoregression(coefficient: float, steps: int = STEPS, seed: int = 1) -> Floats:
    """AR(1) of unit variance: r(k) = coefficient ** k."""
    series = noise(steps, seed) * np.sqrt(1 - coefficient**2)
    for step in range(1, steps):
        series[step] += coefficient * series[step - 1]
    return series


def daily_sine(steps: int = STEPS) -> Floats:
    return np.asarray(np.sin(2 * np.pi * np.arange(steps) / STEPS_PER_DAY))


def hours(steps: int = STEPS) -> npt.NDArray[np.int64]:
    return np.arange(steps, dtype=np.int64) // 12


def with_holes(series: Floats, share: float = 0.3, seed: int = 2) -> Floats:
    return np.where(np.random.default_rng(seed).random(len(series)) < share, np.nan, series)


def write(folder: Path, fleet: dict[str, dict[str, Floats]], servers_a_part: int = 2) -> Dataset:
    """A dataset of series from `MONDAY` on: {server: {metric: series}}; a step without any value has no row."""
    storage = Storage(folder)
    storage.create()
    metrics = list(next(iter(fleet.values())))
    names = sorted(fleet)
    parts = []
    for first in range(0, len(names), servers_a_part):
        tables = [_table(name, fleet[name]) for name in names[first : first + servers_a_part]]
        parts.append(write_part(storage, len(parts), pa.concat_tables(tables), metrics))
    write_manifest(storage, parts, metrics)
    return Dataset.open(folder)


def _table(server: str, series: dict[str, Floats]) -> pa.Table:
    schema = sample_schema(list(series))
    values = np.stack(list(series.values()))
    steps = np.flatnonzero(~np.isnan(values).all(axis=0))
    columns: dict[str, Any] = {
        "server": [server] * len(steps),
        "profile": ["generic"] * len(steps),
        "timestamp": pa.array(MONDAY + STEP_SECONDS * steps).cast(schema.field("timestamp").type),
        "state": ["healthy"] * len(steps),
        **{name: pa.array(values[row, steps], from_pandas=True) for row, name in enumerate(series)},
    }
    return pa.table({field.name: columns[field.name] for field in schema}).cast(schema)


def describe_all(dataset: Dataset) -> DatasetStatistics:
    return describe(dataset, dataset.manifest.metrics, dataset.manifest.servers)


def test_white_noise_is_uncorrelated_and_an_autoregression_decays() -> None:
    curve = realism.autocorrelation(noise(), 288)
    assert curve[0] == 1
    assert np.abs(curve[1:]).max() < 0.06
    expected = 0.9 ** np.arange(25)
    np.testing.assert_allclose(realism.autocorrelation(autoregression(0.9), 24), expected, atol=0.05)


def test_a_daily_sine_comes_again_after_a_day_and_turns_after_half() -> None:
    curve = realism.autocorrelation(daily_sine(), 288)
    assert curve[288] == pytest.approx(1, abs=1e-6)
    assert curve[144] == pytest.approx(-1, abs=0.03)
    assert realism.seasonal_share(daily_sine(), hours(), 24) == pytest.approx(1, abs=0.02)
    assert realism.seasonal_share(daily_sine(), hours(), 168) == pytest.approx(1, abs=0.02)


def test_autocorrelation_is_that_of_the_pairs_in_plain_words() -> None:
    series = with_holes(autoregression(0.8, 400))
    centred = series - np.nanmean(series)
    found = realism.autocorrelation(series, 20)
    for lag in (1, 7, 20):
        products = centred[:-lag] * centred[lag:]
        assert found[lag] == pytest.approx(np.nanmean(products) / np.nanmean(centred**2))


@pytest.mark.parametrize(
    "statistic",
    [
        lambda series: realism.autocorrelation(series, 288)[[1, 12, 288]],
        lambda series: realism.seasonal_share(series, hours(), 24),
        lambda series: realism.correlation(np.stack([series, daily_sine()], axis=1))[0, 1],
        lambda series: realism.kurtosis(realism.increments(series)),
    ],
    ids=["autocorrelation", "season", "correlation", "kurtosis"],
)
def test_gaps_keep_their_time(statistic: Callable[[Floats], Any]) -> None:
    """Missing steps change what is known little; rows counted without their times would shift the day."""
    whole = daily_sine() + 0.5 * autoregression(0.9)
    np.testing.assert_allclose(statistic(with_holes(whole)), statistic(whole), atol=0.12)
    outage = whole.copy()
    outage[1000:1150] = np.nan
    np.testing.assert_allclose(statistic(outage), statistic(whole), atol=0.05)


def test_an_increment_spans_exactly_one_step() -> None:
    np.testing.assert_array_equal(realism.increments(np.array([1, 2, np.nan, 10, 13])), [1, 3])


def test_a_long_lag_needs_enough_pairs() -> None:
    curve = realism.autocorrelation(noise(1000), 2016)
    assert not np.isnan(curve[:751]).any()
    assert np.isnan(curve[751:]).all()


def test_the_share_of_the_season_is_not_taken_in_by_slow_noise() -> None:
    half = daily_sine() * np.sqrt(2) + noise()
    assert realism.seasonal_share(half, hours(), 24) == pytest.approx(0.5, abs=0.03)
    slow = [realism.seasonal_share(autoregression(0.995, 4032, seed), hours(4032), 168) for seed in range(8)]
    assert np.median(slow) < 0.15, "two weeks of hourly means would explain about half"
    assert np.isnan(realism.seasonal_share(noise(3000), hours(3000), 168)), "one week tells nothing"


def test_burstiness_is_minus_one_for_a_clock_and_zero_for_a_poisson_process() -> None:
    assert realism.burstiness(np.full(50, 7.0)) == -1
    assert realism.burstiness(np.random.default_rng(0).exponential(size=50_000)) == pytest.approx(0, abs=0.02)
    assert realism.burstiness(np.random.default_rng(0).pareto(1.2, size=50_000)) > 0.5
    assert np.isnan(realism.burstiness(np.empty(0)))
    assert np.isnan(realism.burstiness(np.zeros(5)))


def test_waits_between_bursts_leave_out_what_a_long_gap_may_hide() -> None:
    series = np.zeros(4000)
    series[50::100] = 1.0
    np.testing.assert_array_equal(realism.burst_waits(series), np.full(39, 100.0))
    series[1000:1005] = np.nan
    series[2010:2040] = np.nan
    np.testing.assert_array_equal(realism.burst_waits(series), np.full(38, 100.0))
    assert len(realism.burst_waits(series[:900])) == 0, "too few"


def test_tails_of_a_normal_distribution() -> None:
    sample = noise(200_000)
    assert realism.kurtosis(sample) == pytest.approx(3, abs=0.05)
    assert realism.jump_share(sample) == pytest.approx(0.00075, abs=0.0003)
    assert np.isnan(realism.jump_share(np.array([0.0, 0.0, 0.0, 1.0])))
    assert realism.peak_to_mean(np.full(10, 3.0)) == 1


def test_a_sketch_is_the_quantiles_of_what_is_known() -> None:
    series = with_holes(noise(1500))
    np.testing.assert_allclose(realism.sketch(series), np.nanquantile(series, np.linspace(0, 1, realism.POINTS)))


def test_pooled_quantiles_weigh_a_server_by_its_values() -> None:
    parts = [noise(9000, 3), noise(1000, 4) + 5]
    sketches, counts = np.stack([realism.sketch(part) for part in parts]), np.array([9000.0, 1000.0])
    whole = np.concatenate(parts)
    levels = (0.02, 0.25, 0.5, 0.85, 0.95)
    np.testing.assert_allclose(
        realism.pooled_quantiles(sketches, counts, levels), np.quantile(whole, levels), atol=0.03
    )
    np.testing.assert_array_equal(realism.pooled_quantiles(sketches, counts, (0, 1)), [whole.min(), whole.max()])
    assert realism.ks_distance(sketches, counts, sketches, counts) == 0
    assert realism.ks_distance(sketches[:1], counts[:1], sketches[:1] + 100, counts[:1]) == pytest.approx(1)


def test_constant_is_what_float32_cannot_tell_apart() -> None:
    assert realism.is_constant(np.full(9, 0.1))
    assert realism.is_constant(np.array([1.0, np.nan]))
    assert realism.is_constant(np.zeros(3))
    assert not realism.is_constant(np.array([0.0, 1e-9]))


def test_constant_and_missing_servers_are_counted_and_said(tmp_path: Path) -> None:
    level = 0.5 + 0.1 * daily_sine(4032) + 0.01 * noise(4032)
    fleet = {
        "live": {"cpu_utilization": level, "memory_used": level},
        "still": {"cpu_utilization": level, "memory_used": np.full(4032, 0.25)},
        "void": {"cpu_utilization": level, "memory_used": np.full(4032, np.nan)},
    }
    dataset = write(tmp_path, fleet)
    summary = compare_datasets(dataset, dataset).summary()
    memory = summary["metrics"]["memory_used"]["a"]
    assert memory["servers"] == {"with_values": 2, "without_values": 1, "constant": 1}
    assert (memory["mean"]["servers"], memory["autocorrelation"]["24h"]["servers"]) == (2, 1)
    assert memory["autocorrelation"]["24h"]["median"] > 0.9
    assert summary["correlation"]["servers_a"] == [[3, 1], [1, 1]]
    assert (
        "A: memory_used is constant on 1 of 3 servers: they count in its quantiles and means only" in summary["notes"]
    )
    assert "A: memory_used has no value on 1 of 3 servers" in summary["notes"]
    json.dumps(summary, allow_nan=False)


def test_a_metric_that_no_server_varies_in_is_null_not_nan(tmp_path: Path) -> None:
    dataset = write(tmp_path, {"one": {"cpu_utilization": np.full(300, 0.5), "swap_used": np.full(300, np.nan)}})
    summary = compare_datasets(dataset, dataset).summary()
    assert summary["metrics"]["cpu_utilization"]["a"]["autocorrelation"]["1h"]["median"] is None
    assert summary["metrics"]["swap_used"]["a"]["quantiles"]["pooled"] is None
    assert any("too short or too even for autocorrelation_5min" in note for note in summary["notes"])
    json.dumps(summary, allow_nan=False)


def test_rows_are_laid_out_by_time(tmp_path: Path) -> None:
    """A day without rows leaves the daily autocorrelation where it was."""
    level = 0.5 + 0.3 * daily_sine() + 0.01 * noise()
    level[2000:2150] = np.nan
    found = describe_all(write(tmp_path, {"one": {"cpu_utilization": level}})).metrics["cpu_utilization"]
    assert found.scalars["autocorrelation_24h"][0] > 0.99
    assert found.scalars["coverage"][0] == pytest.approx(1 - 150 / STEPS)


def test_a_dataset_is_equal_to_itself(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    summary = compare_datasets(dataset, dataset).summary()
    assert summary["a"] == summary["b"]
    for entry in summary["metrics"].values():
        assert entry["a"] == entry["b"]
        assert entry["difference"]["marginal_ks"] == 0
    assert summary["correlation"]["difference"] == 0


def test_unlike_datasets_are_apart(tmp_path: Path) -> None:
    calm = write(tmp_path / "calm", {"a": {"cpu_utilization": 0.3 + 0.1 * daily_sine(4032)}})
    wild = write(tmp_path / "wild", {"b": {"cpu_utilization": 2 + 0.1 * noise(4032)}})
    apart = compare_datasets(calm, wild).summary()["metrics"]["cpu_utilization"]["difference"]
    assert apart["marginal_ks"] == pytest.approx(1)
    assert apart["autocorrelation"] > 0.5


def test_the_sample_depends_on_names_count_and_seed_alone(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    chosen = sample_servers(dataset, 4, seed=0)
    assert chosen == sample_servers(dataset, 4, seed=0)
    assert len(set(chosen)) == 4
    assert any(sample_servers(dataset, 4, seed) != chosen for seed in range(1, 5))
    assert sample_servers(dataset, 200, seed=0) == sorted(dataset.manifest.servers)
    first, again = (compare_datasets(dataset, dataset, 4).summary() for _ in range(2))
    assert first == again
    assert first["a"]["sampled"] == 4


def test_only_parts_with_chosen_servers_and_needed_columns_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = {"cpu_utilization": noise(300) + 9, "memory_used": noise(300) + 9}
    dataset = write(tmp_path, {f"s{number}": series for number in range(8)})
    read, real = [], dataset.read
    monkeypatch.setattr(dataset, "read", lambda part, columns: read.append((part.name, columns)) or real(part, columns))
    describe(dataset, ["memory_used"], ["s2", "s3", "s7"])
    columns = ["server", "timestamp", "memory_used"]
    assert read == [("part-00001.parquet", columns), ("part-00003.parquet", columns)]


def test_what_cannot_be_compared_is_said(tmp_path: Path, tiny_dataset: Path) -> None:
    one = write(tmp_path / "one", {"a": {"cpu_utilization": noise(300) + 9}})
    other = write(tmp_path / "other", {"a": {"memory_used": noise(300) + 9}})
    with pytest.raises(UsageError, match=r"no common metric: .*cpu_utilization.*memory_used"):
        compare_datasets(one, other)
    with pytest.raises(UsageError, match="0 servers"):
        compare_datasets(one, one, servers=0)
    with pytest.raises(DatasetError, match="no dataset"):
        Dataset.open(tmp_path / "nothing")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_command_prints_json_and_draws(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "new" / "figure.png"
    data = str(tiny_dataset)
    code, out, _ = run(capsys, "compare", data, data, "--servers", "3", "--out", str(figure), "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["a"]["sampled"], result["figure"]) == (3, str(figure))
    assert set(result["metrics"]["cpu_utilization"]["a"]["autocorrelation"]) == {"5min", "1h", "8h", "24h", "168h"}
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in figure.parent.iterdir()] == ["figure.png"]


def test_the_command_prints_a_table(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "compare", str(tiny_dataset), str(tiny_dataset), "--servers", "2")
    assert code == 0
    assert "cpu_utilization" in out
    assert "2 of 9 servers" in err


def test_the_command_ends_with_one_line_of_error(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tiny_dataset)
    code, out, err = run(capsys, "compare", data, str(tmp_path / "nothing"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")
    for wrong in (["--out", "figure.doc"], ["--servers", "0"]):
        code, out, err = run(capsys, "compare", data, data, *wrong)
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith("error: ")


def test_the_figure_draws_what_hardly_varies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Constant levels, zeros on a logarithmic axis, a metric without values: a figure all the same."""
    still = {"cpu_utilization": np.full(300, 0.5), "network_receive_bytes": np.zeros(300)}
    write(tmp_path / "still", {"a": {**still, "swap_used": np.full(300, np.nan)}})
    code, _, _ = run(
        capsys, "compare", str(tmp_path / "still"), str(tmp_path / "still"), "--out", str(tmp_path / "f.png")
    )
    assert code == 0
    assert (tmp_path / "f.png").exists()
