"""A forecaster follows a pointer to its bundle, refuses a bad one, and answers callers together and each on its own."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import BundleError, IncompatibleError
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import MANIFEST
from fleetcast.model.registry import CURRENT, promote
from fleetcast.windows.arrays import arrays_from_table
from serve_app.forecaster import Shard, forecast_shards
from serve_app.slot import ModelSlot, OtherModelError
from serve_app.windows import TooLateError, Window, WindowForecast, forecast_windows
from tests.unit.test_model import bundle_of

ORIGIN = datetime(2026, 1, 12, 10, tzinfo=UTC)
STEPS = 100_000


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two runs, the first of which is current."""
    for number, run in enumerate(("first", "second")):
        bundle_of(seed=number).save(tmp_path / run / "bundle")
    promote(tmp_path, "first")
    return tmp_path


def loaded(models: Path, steps: int = STEPS) -> ModelSlot:
    slot = ModelSlot(steps)
    slot.load(str(models / CURRENT))
    return slot


def digest_of(models: Path, run: str) -> str:
    return Bundle.load(models / run / "bundle").manifest.weights_sha256


def test_a_promoted_bundle_is_taken_the_one_before_stays_at_hand_and_back_is_the_same_way(models: Path) -> None:
    slot, pointer = loaded(models), str(models / CURRENT)
    first, second = digest_of(models, "first"), digest_of(models, "second")
    assert not slot.has_moved(pointer)
    for run, wanted, other in (("second", second, first), ("first", first, second)):
        promote(models, run)
        assert slot.has_moved(pointer)
        slot.load(pointer)
        assert not slot.has_moved(pointer)
        assert slot.current.manifest.weights_sha256 == wanted
        assert slot.of(None) is slot.of(wanted) is slot.current
        assert slot.of(other).manifest.weights_sha256 == other
    with pytest.raises(OtherModelError):
        slot.of("0" * 64)


def damage_weights(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def forget_manifest(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()


def break_numbers(bundle: Path) -> None:
    broken = Bundle.load(bundle)
    shutil.rmtree(bundle)
    weights = {name: torch.full_like(tensor, float("nan")) for name, tensor in broken.weights.items()}
    replace(broken, weights=weights).save(bundle)


@pytest.mark.parametrize("harm", [damage_weights, forget_manifest, break_numbers, shutil.rmtree])
def test_a_bundle_that_fails_its_check_is_refused_and_the_old_one_stays(models: Path, harm: object) -> None:
    slot, pointer = loaded(models), str(models / CURRENT)
    assert callable(harm)
    harm(models / "second" / "bundle")
    (models / "moved").symlink_to(Path("second") / "bundle")
    os.replace(models / "moved", models / CURRENT)
    slot.load(pointer)
    assert slot.current.manifest.weights_sha256 == digest_of(models, "first")
    assert slot.refused is not None
    assert "second" in slot.refused
    assert not slot.has_moved(pointer), "it is not tried again and again"
    with pytest.raises((BundleError, IncompatibleError)):
        ModelSlot(STEPS).load(pointer)
    promote(models, "first")
    slot.load(pointer)
    assert slot.refused is None


def test_a_model_that_reads_more_history_than_the_service_keeps_is_refused(models: Path) -> None:
    slot = loaded(models)
    needed = slot.current.history_steps
    assert loaded(models, needed).current.history_steps == needed
    with pytest.raises(BundleError, match="start it again"):
        loaded(models, needed - 1)


def samples(server: str, seed: int, hours: int = 30) -> pa.Table:
    metrics = bundle_of().manifest.targets
    count = hours * 12
    times = [ORIGIN - timedelta(minutes=5) * step for step in range(count)]
    values = np.random.default_rng(seed).uniform(0.2, 0.8, (len(metrics), count))
    table = {"server": [server] * count, "profile": ["database"] * count}
    stamps = pa.array(times, pa.timestamp("s", tz="UTC"))
    return pa.table({**table, "timestamp": stamps, **dict(zip(metrics, values, strict=True))})


def test_callers_with_the_same_server_name_share_a_run_and_get_their_own_numbers() -> None:
    forecaster, late = Forecaster(bundle_of()), time.time() + 60
    fleets = [arrays_from_table(samples(*one), end=ORIGIN) for one in (("web1", 1), ("web1", 2), ("db1", 3))]
    windows = [Window(fleet, ORIGIN, late) for fleet in fleets]
    earlier = Window(fleets[0], ORIGIN - timedelta(hours=1), late)
    plan = [{"server": "web1", "start": ORIGIN - timedelta(hours=2), "end": ORIGIN + timedelta(hours=6)}]
    planned = Window(replace(fleets[0], maintenance=pa.Table.from_pylist(plan, MAINTENANCE)), ORIGIN, late)
    asked = [*windows, earlier, planned]
    together = forecast_windows(forecaster, asked)
    for window, found in zip(asked, together, strict=True):
        (alone,) = forecast_windows(forecaster, [window])
        assert isinstance(found, WindowForecast)
        assert isinstance(alone, WindowForecast)
        assert (found.forecast.servers, found.forecast.origin) == (alone.forecast.servers, window.origin)
        np.testing.assert_allclose(found.forecast.quantiles, alone.forecast.quantiles, atol=1e-6)
        assert found.model.digest == forecaster.manifest.weights_sha256
    whole, own = together[0], together[-1]
    assert isinstance(whole, WindowForecast)
    assert isinstance(own, WindowForecast)
    assert (whole.batch, own.batch) == (3, 1)
    assert not np.array_equal(whole.forecast.quantiles, own.forecast.quantiles)


def test_a_bad_window_and_one_that_nobody_waits_for_do_not_harm_the_others() -> None:
    forecaster, late = Forecaster(bundle_of()), time.time() + 60
    table = samples("web1", 1)
    good = arrays_from_table(table)
    poor = arrays_from_table(table.drop_columns([bundle_of().manifest.targets[0]]))
    found = forecast_windows(
        forecaster, [Window(poor, ORIGIN, late), Window(good, ORIGIN, late), Window(good, ORIGIN, time.time() - 1)]
    )
    assert [type(one) for one in found] == [IncompatibleError, WindowForecast, TooLateError]


def test_shards_of_a_batch_are_forecast_each_by_its_own_model() -> None:
    both = [Forecaster(bundle_of(seed=number)) for number in (0, 1)]
    fleet = arrays_from_table(samples("web1", 1, hours=24 * 9), end=ORIGIN)
    shard = Shard(fleet, ORIGIN)
    found = forecast_shards([both[0], both[1], both[0]], [shard, shard, shard])
    assert [one.digest for one in found] == [both[number].manifest.weights_sha256 for number in (0, 1, 0)]
    for one, model in zip(found, (both[0], both[1], both[0]), strict=True):
        np.testing.assert_allclose(one.forecast.quantiles, model.forecast(fleet, ORIGIN).quantiles, atol=1e-6)
