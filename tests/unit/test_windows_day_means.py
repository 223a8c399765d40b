"""Means over former days are those of a plain loop over steps and days, gaps and borders of weekends included."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.windows.day_means import SUMS, mean_of_days


def plain_mean(values: npt.NDArray[np.float32], alike: npt.NDArray[np.int64], least: int, trimmed: int) -> list[float]:
    """What `mean_of_days` says it fills."""
    found = []
    for step, days in enumerate(alike.tolist()):
        known = [(day, float(value)) for day, value in enumerate(values[:, step]) if not np.isnan(value)]
        like = [value for day, value in known if days >> day & 1]
        kept = like if len(like) >= least else [value for _, value in known]
        if len(kept) >= trimmed:
            found.append((sum(kept) - min(kept) - max(kept)) / (len(kept) - 2))
        else:
            found.append(sum(kept) / len(kept) if kept else np.nan)
    return found


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000), days=st.integers(1, 8), steps=st.integers(1, 300),
    gaps=st.sampled_from([0.0, 0.05, 0.5, 0.95]), borders=st.integers(0, 3),
    rule=st.sampled_from([(1, 2**62), (3, 3), (2, 4)]),
)  # fmt: skip
def test_means_are_those_of_a_plain_loop(
    seed: int, days: int, steps: int, gaps: float, borders: int, rule: tuple[int, int]
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(days, steps)).astype(np.float32)
    values[generator.random(values.shape) < gaps] = np.nan
    cuts = np.sort(generator.integers(0, steps + 1, borders))
    alike = generator.integers(0, 2**days, borders + 1)[np.searchsorted(cuts, np.arange(steps), side="right")]
    found, sums = np.full(steps, 7, np.float32), np.full((SUMS, steps), 7.0)
    mean_of_days(values, alike, *rule, sums, found)
    np.testing.assert_array_equal(found, np.array(plain_mean(values, alike, *rule), np.float32))
