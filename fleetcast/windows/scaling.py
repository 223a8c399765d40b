"""Normalisation of a window by what was observed in its own encoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

RELATIVE_SCALE = 0.02  # of the mean absolute value: keeps nearly constant series from being blown up
SMALLEST_SCALE = 1e-3
CLIP = 8.0  # normalised inputs beyond this say no more


def masked_mean(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """Mean of the values that are not NaN; 0 where there is none."""
    seen = ~np.isnan(values)
    count = seen.sum(axis=axis)
    total = np.where(seen, values, 0).sum(axis=axis, dtype=np.float64)
    return np.asarray(total / np.maximum(count, 1), dtype=np.float32)


def center_and_scale(context: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, scale and mean absolute value of [batch, time, metric] over time, each [batch, metric].

    The scale is the standard deviation plus 2 % of the mean absolute value plus 0.001.
    """
    center = masked_mean(context, 1)
    deviation = np.sqrt(masked_mean((context - center[:, None]) ** 2, 1))
    magnitude = masked_mean(np.abs(context), 1)
    return center, deviation + RELATIVE_SCALE * magnitude + SMALLEST_SCALE, magnitude


def normalise(values: Floats, center: Floats | float = 0.0, scale: Floats | float = 1.0) -> Floats:
    """(values - center) / scale, clipped; 0 for missing values. Center and scale broadcast."""
    scaled = np.clip((values - center) / scale, -CLIP, CLIP)
    return np.asarray(np.nan_to_num(scaled, nan=0.0), dtype=np.float32)
