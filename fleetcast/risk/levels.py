"""The one ladder of levels, and the score that displays it.

| level | holds when                             | score      |
|-------|----------------------------------------|------------|
| P1    | incident open, or P(30 min) > 0.7      | (85, 100]  |
| P2    | P(30 min) > 0.4                        | (70, 85]   |
| P3    | P(8 h) > 0.5                           | (40, 70]   |
| P4    | else                                   | [0, 40]    |

Levels follow from the probabilities alone. Inside its level's band the score rises with the probabilities, linearly
between P(8 h) = 0.5 at 40, P(30 min) = 0.4 at 70, P(30 min) = 0.7 at 85 and an open incident at 95; so a higher
probability never has a lower score, and a score never says another level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEVELS = ("P1", "P2", "P3", "P4")
P1_30M, P2_30M, P3_8H = 0.7, 0.4, 0.5
SCORE_P1, SCORE_P2, SCORE_P3, SCORE_OPEN, SCORE_MAX = 85.0, 70.0, 40.0, 95.0, 100.0

Floats = npt.NDArray[np.float64]


def level_codes(p_30m: Floats, p_8h: Floats, open_: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Positions in `LEVELS`, shape as given; a NaN probability raises no level."""
    held: Sequence[npt.NDArray[np.bool_]] = [open_ | (p_30m > P1_30M), p_30m > P2_30M, p_8h > P3_8H]
    return np.asarray(np.select(held, [0, 1, 2], default=3))


def scores(p_30m: Floats, p_8h: Floats, open_: npt.NDArray[np.bool_]) -> Floats:
    """Risk scores 0-100, shape as given; NaN where there is neither a probability nor an open incident."""
    notice = np.maximum((p_8h - P3_8H) / (1 - P3_8H), p_30m / P2_30M)
    score = np.select(
        [p_30m > P1_30M, p_30m > P2_30M, p_8h > P3_8H],
        [
            _band(SCORE_P1, SCORE_OPEN, (p_30m - P1_30M) / (1 - P1_30M)),
            _band(SCORE_P2, SCORE_P1, (p_30m - P2_30M) / (P1_30M - P2_30M)),
            _band(SCORE_P3, SCORE_P2, notice),
        ],
        default=SCORE_P3 * p_8h / P3_8H,
    )
    opened = SCORE_OPEN + (SCORE_MAX - SCORE_OPEN) * np.nan_to_num(p_30m, nan=0.0)
    return np.asarray(np.where(open_, opened, score))


def _band(low: float, high: float, share: Floats) -> Floats:
    """From just above `low` to `high` as the share goes from 0 to 1."""
    return np.clip(low + (high - low) * share, np.nextafter(low, np.inf), high)
