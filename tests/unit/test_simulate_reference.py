from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fleetcast.contract.vocabulary import QUANTILE_LEVELS, STEPS_PER_DAY, profile_codes
from fleetcast.errors import UsageError
from fleetcast.evaluation.metrics import weighted_quantile_loss
from fleetcast.simulate.reference.learner import ObservationReference

METRICS = ("cpu_utilization", "memory_used")
CONTEXT, HORIZON, DAYS = 3 * STEPS_PER_DAY, 24, 8
ORIGINS = np.array([1000, 1411, 1900])


@dataclass(frozen=True)
class Arrays:
    """A fleet of pure daily sines plus small noise, with gaps; an incident lifts the CPU for an hour beforehand."""

    values: npt.NDArray[np.float32]
    profiles: npt.NDArray[np.int64]
    hour_of_day: npt.NDArray[np.float64]
    weekday: npt.NDArray[np.int64]
    trading: npt.NDArray[np.bool_]
    onsets: npt.NDArray[np.bool_]

    def seen(self) -> tuple[Any, ...]:
        return self.values, self.profiles, *self.calendar()

    def calendar(self) -> tuple[Any, ...]:
        return self.hour_of_day, self.weekday, self.trading


def sines(servers: int, seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    steps = np.arange(DAYS * STEPS_PER_DAY)
    level, phase = generator.uniform(0.3, 0.5, (servers, 1)), generator.uniform(0, STEPS_PER_DAY, (servers, 1))
    wave = level * (1 + 0.5 * np.sin(2 * np.pi * (steps - phase) / STEPS_PER_DAY))
    values = np.stack([wave, 0.5 * wave + 0.2], axis=2) + generator.normal(0, 0.01, (servers, len(steps), 2))
    onsets = generator.random((servers, len(steps))) < 0.002
    for server, onset in np.argwhere(onsets):
        values[server, max(onset - 12, 0) : onset, 0] += 0.3
    values[generator.random(values.shape[:2]) < 0.01] = np.nan
    hour = steps / 12 % 24
    weekday = steps // STEPS_PER_DAY % 7
    profiles = profile_codes(["web_api", "database"] * servers)[:servers]
    return Arrays(values.astype(np.float32), profiles, hour, weekday, weekday < 5, onsets)


def fit(fleet: Arrays, **changes: Any) -> ObservationReference:
    options = {"windows": 8000, "context": CONTEXT, "horizon": HORIZON, "seed": 1, "metrics": METRICS, **changes}
    metrics = options.pop("metrics")
    return ObservationReference.fit(fleet.values, metrics, fleet.profiles, *fleet.calendar(), fleet.onsets, **options)


@pytest.fixture(scope="module")
def reference() -> ObservationReference:
    return fit(sines(60, 1))


@pytest.fixture(scope="module")
def fleet() -> Arrays:
    return sines(8, 2)


def test_quantiles_never_cross_and_have_the_shape_that_was_asked_for(
    reference: ObservationReference, fleet: Arrays
) -> None:
    levels = (0.005, 0.02, 0.3, 0.5, 0.97, 0.999)
    quantiles, probabilities = reference.predict(*fleet.seen(), ORIGINS, levels)
    assert quantiles.shape == (3, 8, 2, HORIZON, len(levels))
    assert quantiles.dtype == np.float32
    assert probabilities.shape == (3, 8, 3)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert (quantiles >= 0).all()
    fitted, _ = reference.predict(*fleet.seen(), ORIGINS)
    inside = (fitted > 0) & (fitted < reference.highest[:, None, None])
    same = inside[..., 0] & inside[..., 3]
    np.testing.assert_allclose(quantiles[..., 1][same], fitted[..., 0][same], rtol=1e-5)
    np.testing.assert_allclose(quantiles[..., 3][same], fitted[..., 3][same], rtol=1e-5)


def test_what_comes_after_the_origin_changes_nothing(reference: ObservationReference, fleet: Arrays) -> None:
    origin = ORIGINS[1]
    expected = reference.predict(*fleet.seen(), ORIGINS[1:2])
    for later in (np.nan, 1e3, 0.0):
        changed = fleet.values.copy()
        changed[:, origin + 1 :] = later
        found = reference.predict(changed, fleet.profiles, *fleet.calendar(), ORIGINS[1:2])
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    cut = reference.predict(fleet.values[:, : origin + 1], fleet.profiles, *fleet.calendar(), ORIGINS[1:2])
    np.testing.assert_array_equal(cut[0], expected[0])


def test_the_sample_at_the_origin_counts(reference: ObservationReference, fleet: Arrays) -> None:
    changed = fleet.values.copy()
    changed[:, ORIGINS[1]] = 0.9
    found, _ = reference.predict(changed, fleet.profiles, *fleet.calendar(), ORIGINS[1:2])
    assert not np.array_equal(found, reference.predict(*fleet.seen(), ORIGINS[1:2])[0])


def test_permuting_servers_permutes_the_forecasts(reference: ObservationReference, fleet: Arrays) -> None:
    order = np.random.default_rng(0).permutation(len(fleet.values))
    expected = reference.predict(*fleet.seen(), ORIGINS)
    found = reference.predict(fleet.values[order], fleet.profiles[order], *fleet.calendar(), ORIGINS)
    np.testing.assert_allclose(found[0], expected[0][:, order], atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1][:, order], rtol=1e-4)


def test_daily_sines_are_forecast_much_better_than_by_the_last_value(
    reference: ObservationReference, fleet: Arrays
) -> None:
    quantiles, _ = reference.predict(*fleet.seen(), ORIGINS)
    truth = np.stack([fleet.values[:, origin + 1 : origin + 1 + HORIZON] for origin in ORIGINS]).swapaxes(2, 3)
    last = np.nan_to_num(fleet.values[:, ORIGINS], nan=0.4).swapaxes(0, 1)[:, :, :, None, None]
    naive = np.broadcast_to(last, quantiles.shape)
    for target in range(2):
        ours = weighted_quantile_loss(truth[:, :, target], quantiles[:, :, target], QUANTILE_LEVELS)
        theirs = weighted_quantile_loss(truth[:, :, target], naive[:, :, target], QUANTILE_LEVELS)
        assert ours < 0.4 * theirs


def test_probabilities_lie_between_0_and_1_grow_with_the_time_and_see_a_precursor(
    reference: ObservationReference, fleet: Arrays
) -> None:
    origins = np.arange(CONTEXT, fleet.values.shape[1] - 100, 7)
    _, probabilities = reference.predict(*fleet.seen(), origins)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert (np.diff(probabilities, axis=-1) >= 0).all()
    soon = np.stack([fleet.onsets[:, origin + 1 : origin + 7].any(axis=1) for origin in origins])
    assert probabilities[..., 0][soon].mean() > 3 * probabilities[..., 0][~soon].mean()


def test_a_corpus_without_onsets_gives_a_small_probability() -> None:
    fleet = sines(4, 3)
    quiet = replace(fleet, onsets=np.zeros_like(fleet.onsets))
    _, probabilities = fit(quiet, windows=256).predict(*fleet.seen(), ORIGINS)
    assert ((probabilities > 0) & (probabilities < 0.01)).all()


def test_the_same_seed_gives_the_same_and_leaves_the_global_random_state_alone() -> None:
    fleet = sines(6, 4)
    state = torch.random.get_rng_state()
    one, other = (fit(fleet, windows=512).predict(*fleet.seen(), ORIGINS) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 100}, "context is 100 steps"),
        ({"horizon": 0}, "horizon is 0 steps"),
        ({"windows": 3}, "windows is 3"),
        ({"metrics": METRICS[:1]}, "values are float32 of shape"),
        ({"context": 2016}, "too few"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(fleet: Arrays, changes: dict[str, Any], message: str) -> None:
    short = replace(fleet, values=fleet.values[:, :2050], onsets=fleet.onsets[:, :2050])
    with pytest.raises(UsageError, match=message) as caught:
        fit(short, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onsets": np.zeros((8, 3), dtype=bool)}, "onsets have shape"),
        ({"profiles": np.zeros(3, np.int64)}, "profiles have shape"),
        ({"profiles": np.full(8, 9)}, "profiles have shape"),
        ({"weekday": np.zeros(7, np.int64)}, "calendar arrays have shapes"),
        ({"values": np.full((8, DAYS * STEPS_PER_DAY, 2), np.nan, np.float32)}, "no sample of cpu_utilization"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(fleet: Arrays, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        fit(replace(fleet, **changes))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_forecast_is_refused(reference: ObservationReference, fleet: Arrays) -> None:
    for origins in ([CONTEXT - 2], [DAYS * STEPS_PER_DAY - 1], []):
        with pytest.raises(UsageError, match="origins must be"):
            reference.predict(*fleet.seen(), np.array(origins, np.int64))
    with pytest.raises(UsageError, match="were not in the corpus"):
        reference.predict(fleet.values, np.full(8, 7), *fleet.calendar(), ORIGINS)
    for levels in ([], [0.5, 0.1], [0.0, 0.5]):
        with pytest.raises(UsageError, match="levels are"):
            reference.predict(*fleet.seen(), ORIGINS, levels)
