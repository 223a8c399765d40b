"""Windows read nothing after their origin, and hold what they say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.model.base import ResidualBase
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.sampling import Draw, WindowIndex, WindowLoader, usable_windows
from fleetcast.windows.spec import WindowSpec
from tests.unit.plain_windows import PlainBatcher

TARGETS = ("cpu_utilization", "memory_used")
LEVELS = (0.1, 0.5, 0.9)
START = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
SPEC = WindowSpec(
    targets=TARGETS, features=TARGETS, levels=LEVELS, context=48, horizon=12, fine_steps=24, fine_pool=3, coarse_pool=12
)


def fleet_of(seed: int, steps: int = 900, servers: int = 3, gaps: float = 0.1) -> FleetArrays:
    generator = np.random.default_rng(seed)
    values = generator.random((servers, steps, 2)).astype(np.float32)
    values[generator.random((servers, steps)) < gaps] = np.nan
    names = tuple(f"server{number}" for number in range(servers))
    return FleetArrays(names, ("database",) * servers, TARGETS, START, values, MAINTENANCE.empty_table())


def batcher_of(fleet: FleetArrays, spec: WindowSpec = SPEC) -> WindowBatcher:
    base = ResidualBase(fleet.select(spec.targets), fleet.start, spec.horizon, spec.levels, spec.floor_leads)
    return WindowBatcher(fleet, spec, base)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), end=st.integers(0, 880))
def test_inputs_do_not_change_when_the_future_changes(seed: int, end: int) -> None:
    fleet = fleet_of(seed)
    changed = fleet.values.copy()
    changed[:, end + 1 :] = np.random.default_rng(seed + 1).random(changed[:, end + 1 :].shape) * 3
    rows, ends = np.arange(3), np.full(3, end)
    before = batcher_of(fleet).inputs(rows, ends)
    after = batcher_of(replace(fleet, values=changed)).inputs(rows, ends)
    for name, tensor in before.items():
        torch.testing.assert_close(tensor, after[name], rtol=0, atol=0, equal_nan=True, msg=name)


SPECS = [
    SPEC,
    WindowSpec(targets=TARGETS, features=TARGETS, levels=LEVELS, context=288, horizon=96, decoder_pool=12),
    WindowSpec(
        targets=("memory_used",), features=(*TARGETS, "swap_used"), levels=LEVELS, context=96, horizon=24,
        day_lags=False, floor_inputs=False, cyclic_calendar=False,
    ),
    WindowSpec(
        targets=TARGETS, features=TARGETS, levels=LEVELS, context=368, horizon=16, fine_steps=48, fine_pool=4,
        coarse_pool=160, decoder_pool=4,
    ),
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=["pooled", "tokens of an hour", "reference", "long tokens"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), steps=st.integers(150, 2500), gaps=st.sampled_from([0.0, 0.1, 0.9]))
def test_tensors_are_those_made_plainly_bit_for_bit(spec: WindowSpec, seed: int, steps: int, gaps: float) -> None:
    generator = np.random.default_rng(seed)
    fleet = fleet_of(seed, steps, gaps=gaps)
    fleet.values[generator.random(fleet.values.shape) < gaps / 3] = np.nan
    planned = [
        {
            "server": f"server{number % 3}",
            "start": datetime.fromtimestamp(START + 300 * int(first) + 7, UTC),
            "end": datetime.fromtimestamp(START + 300 * int(first) + 2000, UTC),
        }
        for number, first in enumerate(generator.integers(-10, steps + 20, 12))
    ]
    maintenance = MAINTENANCE.empty_table().from_pylist(planned, schema=MAINTENANCE)
    fleet = replace(fleet, maintenance=maintenance, timezone="America/New_York")
    base = None
    if spec.floor_inputs:
        base = ResidualBase(fleet.select(spec.targets), fleet.start, spec.horizon, spec.levels, spec.floor_leads)
    rows, ends = generator.integers(0, 3, 20), generator.integers(0, steps - spec.horizon - 1, 20)
    ours, plain = WindowBatcher(fleet, spec, base), PlainBatcher(fleet, spec, base)
    found = {**ours.inputs(rows, ends), "truth": ours.truth(rows, ends)}
    expected = {**plain.inputs(rows, ends), "truth": plain.truth(rows, ends)}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.integers(1, 500))
def test_a_window_is_the_same_in_a_longer_history(seed: int, shift: int) -> None:
    """The service keeps days, the batch job months: the same samples give the same inputs."""
    fleet = fleet_of(seed, steps=2016 + 600, gaps=0.0)
    shorter = replace(fleet, start=fleet.start + 300 * (600 - shift), values=fleet.values[:, 600 - shift :])
    end = fleet.steps - 1
    rows = np.arange(3)
    long = batcher_of(fleet).inputs(rows, np.full(3, end))
    short = batcher_of(shorter).inputs(rows, np.full(3, end - 600 + shift))
    for name, tensor in long.items():
        torch.testing.assert_close(tensor, short[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_truth_is_the_steps_after_the_origin() -> None:
    fleet = fleet_of(1)
    truth = batcher_of(fleet).truth(np.array([2]), np.array([100]))
    np.testing.assert_array_equal(truth[0].numpy(), fleet.values[2, 101:113])


def test_tokens_are_means_of_their_steps() -> None:
    fleet = fleet_of(2, gaps=0.0)
    batch = batcher_of(fleet).inputs(np.array([0]), np.array([500]))
    column = SPEC.variables.reals.index("memory_used")
    context = fleet.values[0, 453:501, 1]
    scaled = (context - context.mean()) / batch["scale"][0, 1].item()
    expected = [*scaled[:24].reshape(2, 12).mean(axis=1), *scaled[24:].reshape(8, 3).mean(axis=1)]
    np.testing.assert_allclose(batch["encoder_cont"][0, :, column], expected, atol=1e-5)


def test_yesterday_is_a_known_input_of_each_step() -> None:
    fleet = fleet_of(3, gaps=0.0)
    batch = batcher_of(fleet).inputs(np.array([1]), np.array([600]))
    column = SPEC.variables.reals.index("cpu_utilization_yesterday")
    center, scale = batch["center"][0, 0].item(), batch["scale"][0, 0].item()
    expected = (fleet.values[1, 601 - 288 : 613 - 288, 0] - center) / scale
    np.testing.assert_allclose(batch["decoder_cont"][0, :, column], expected, atol=1e-5)


def test_planned_maintenance_is_known_ahead() -> None:
    fleet = fleet_of(4)
    window = {
        "server": "server1",
        "start": datetime.fromtimestamp(START + 300 * 503, UTC),
        "end": datetime.fromtimestamp(START + 300 * 506, UTC),
    }
    planned = replace(fleet, maintenance=MAINTENANCE.empty_table().from_pylist([window], schema=MAINTENANCE))
    batch = batcher_of(planned).inputs(np.array([0, 1]), np.array([500, 500]))
    column = SPEC.variables.reals.index("maintenance")
    np.testing.assert_array_equal(batch["decoder_cont"][1, :, column], [0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    assert batch["decoder_cont"][0, :, column].sum() == 0


def test_missing_values_never_reach_the_network() -> None:
    fleet = fleet_of(5, gaps=0.9)
    batch = batcher_of(fleet).inputs(np.arange(3), np.array([0, 40, 880]))
    for name in ("encoder_cont", "decoder_cont", "base", "scale", "loss_scale"):
        assert torch.isfinite(batch[name]).all(), name


@settings(max_examples=40, deadline=None)
@given(
    total=st.integers(5, 4000), samples=st.integers(5, 300), world=st.integers(1, 5), batch=st.integers(1, 64),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_each_window_of_an_epoch_is_seen_by_one_worker(
    total: int, samples: int, world: int, batch: int, epoch: int
) -> None:
    windows = WindowIndex(np.array([[0, 400, total // 2], [2, 300, total - total // 2]]))
    fleet = batcher_of(fleet_of(6))
    whole = WindowLoader(fleet, windows, batch, 0, 1, samples, seed=1)
    loaders = [WindowLoader(fleet, windows, batch, rank, world, samples, seed=1) for rank in range(world)]
    for loader in (whole, *loaders):
        loader.epoch = epoch
    parts = [loader.indices() for loader in loaders]
    seen = np.concatenate(parts)
    assert len(seen) == len(set(seen.tolist())) == min(samples, total)
    assert sorted(seen.tolist()) == sorted(whole.indices().tolist())
    assert all(0 <= position < total for position in seen.tolist())
    for part, loader in zip(parts, loaders, strict=True):
        low, high = loader.draw.reach
        assert all(low <= position < high for position in part.tolist())
    assert len({len(loader) for loader in loaders}) == 1, "workers with different numbers of steps wait for ever"


def test_epochs_differ_and_cover_all_windows_alike() -> None:
    draw = Draw(100, 10)
    drawn = np.stack([draw.positions(0, epoch) for epoch in range(2000)])
    counts = np.bincount(drawn.ravel(), minlength=100)
    assert counts.min() > 120, "each of 100 windows is expected 200 times"
    assert counts.max() < 290


def test_a_loader_is_as_long_as_it_says() -> None:
    """Lightning validates and saves at the last batch that the length promises."""
    fleet = fleet_of(6)
    rows, ends = usable_windows(fleet, SPEC, 400, 480).all()
    batcher = batcher_of(fleet)
    for total in range(4, 140, 15):
        windows = WindowIndex(np.stack([rows, ends, np.ones_like(rows)], axis=1)[:total])
        for world in (1, 2, 3, 4):
            for samples, size in ((None, 64), (129, 64), (129, 1)):
                loaders = [WindowLoader(batcher, windows, size, rank, world, samples) for rank in range(world)]
                sizes = [[len(inputs["center"]) for inputs, _ in loader] for loader in loaders]
                assert [len(found) for found in sizes] == [len(loader) for loader in loaders]
                assert len({len(found) for found in sizes}) == 1
                assert min(min(found) for found in sizes) > 0
                assert sum(map(sum, sizes)) == min(samples or total, total)


def test_validation_windows_are_all_seen_once() -> None:
    fleet = fleet_of(7)
    windows = usable_windows(fleet, SPEC, 400, 450)
    loaders = [WindowLoader(batcher_of(fleet), windows, 16, rank, 3) for rank in range(3)]
    seen = np.concatenate([loader.indices() for loader in loaders])
    assert seen.tolist() == list(range(len(windows)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), gaps=st.sampled_from([0.0, 0.3, 0.6, 0.9]))
def test_usable_windows_are_those_that_hold_enough(seed: int, gaps: float) -> None:
    fleet = fleet_of(seed, steps=160, gaps=gaps)
    generator = np.random.default_rng(seed)
    fleet.values[0, int(generator.integers(160)) :] = np.nan
    fleet.values[1, :, 0] = np.nan
    seen = np.isfinite(fleet.values)
    expected = [
        (row, end)
        for row in range(3)
        for end in range(60, 150)
        if any(
            series[max(end - 47, 0) : end + 1].sum() >= 24
            and series[end - 6 : end + 1].any()
            and series[end + 1 : end + 13].any()
            for series in seen[row].T
        )
    ]
    rows, ends = usable_windows(fleet, SPEC, 60, 149).all()
    assert list(zip(rows.tolist(), ends.tolist(), strict=True)) == expected


def test_usable_windows_stay_in_their_part_and_need_samples() -> None:
    fleet = fleet_of(8, gaps=0.0)
    fleet.values[1] = np.nan
    fleet.values[2, 300:] = np.nan
    rows, ends = usable_windows(fleet, SPEC, 47, 700).all()
    assert ends.min() == 47
    assert ends.max() == 700
    assert set(rows.tolist()) == {0, 2}
    assert ends[rows == 2].max() == 298, "a server that fell silent has no truth after its last sample"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"levels": (0.1, 0.9)}, "0.5"),
        ({"levels": (0.9, 0.5)}, "ascend"),
        ({"context": 50}, "multiple"),
        ({"targets": ("swap_used",)}, "swap_used"),
    ],
)
def test_impossible_windows_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WindowSpec.model_validate({**SPEC.model_dump(), **fields})
