"""Calibration of incident probabilities: a logistic line in the log odds, held near the identity.

    logit(calibrated) = intercept + slope x logit(raw)         (Platt 1999, on log odds)

The slope is positive, so that the order of servers never changes. The fit is the maximum of the likelihood with normal
priors on the intercept (around 0) and on the log of the slope (around 0): a few events move it a little, many decide.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from scipy.special import expit, logit

from fleetcast.risk.probability import HORIZONS
from fleetcast.risk.spread import Spread

FLOOR = 1e-6
RIDGE = 10.0
SLOPE_RANGE = (0.2, 5.0)


class Line(BaseModel):
    """The calibration of one horizon, with what it was fitted on."""

    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0
    events: int = Field(0, ge=0, description="windows in which an incident began")
    windows: int = Field(0, ge=0, description="server windows that were scored")


class Calibration(BaseModel):
    """A line for each horizon of `HORIZONS`; a horizon without one stays as it is."""

    horizons: dict[str, Line] = Field(default_factory=dict)
    spread: dict[str, Spread] = Field(default_factory=dict, description="what comes from upstream (`risk.spread`)")
    incidents: dict[str, int] = Field(
        default_factory=dict, description="distinct incidents by horizon that all of it was fitted on"
    )
    shared: dict[str, float] = Field(default_factory=dict, description="exponent of P(any) by horizon (`risk.fleet`)")

    def apply(self, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of raw ones [..., 3], horizons in the order of `HORIZONS`; NaN stays NaN.

        Lines of different horizons may cross, so the result is made non-decreasing over the horizons.
        """
        columns = [_apply_line(self.horizons.get(name), raw[..., index]) for index, name in enumerate(HORIZONS)]
        return np.maximum.accumulate(np.stack(columns, axis=-1), axis=-1)


def fit(samples: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]) -> Calibration:
    """Fit a line to (raw probabilities, whether an incident began) of each horizon, both shape [window]."""
    return Calibration(horizons={name: fit_line(raw, events) for name, (raw, events) in samples.items()})


def _apply_line(line: Line | None, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if line is None or (line.slope == 1.0 and line.intercept == 0.0):
        return raw
    return np.asarray(expit(line.intercept + line.slope * _log_odds(raw)))


def _log_odds(raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(logit(np.clip(raw, FLOOR, 1.0 - FLOOR)))


def fit_line(
    raw: npt.NDArray[np.float64], events: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64] | None = None
) -> Line:
    """The line of one horizon, from raw probabilities (NaN is left out), outcomes and weights, all [window]."""
    from scipy.optimize import minimize  # noqa: PLC0415  # only fitting needs it

    known = ~np.isnan(raw)
    odds, hit = _log_odds(raw[known]), events[known].astype(np.float64)
    weight = np.ones(len(hit)) if weights is None else weights[known]

    def objective(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        intercept, log_slope = parameters
        slope = np.exp(log_slope)
        score = intercept + slope * odds
        residual = weight * (expit(score) - hit)
        loss = float((weight * (np.logaddexp(0.0, score) - hit * score)).sum())
        gradient = np.array([residual.sum(), slope * (residual * odds).sum()]) + RIDGE * parameters
        return loss + RIDGE / 2 * float(parameters @ parameters), gradient

    low, high = np.log(SLOPE_RANGE)
    best = minimize(objective, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(None, None), (low, high)])
    return Line(
        slope=float(np.exp(best.x[1])), intercept=float(best.x[0]), events=int(hit.sum()), windows=int(known.sum())
    )
