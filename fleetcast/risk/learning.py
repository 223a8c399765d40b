"""Fitting a risk model: gradient-boosted trees on what was forecast and seen, then a line on servers held out.

The trees (Ke and others, "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", 2017) are fitted with the
logarithmic loss, so that they answer with probabilities, and never fall when a feature that a higher forecast raises
is raised. Servers are dealt into folds; the trees of the other folds answer for each, and a logistic line fitted to
those answers corrects the probabilities (Platt 1999). The final trees see all servers.

Windows with an onset are few. All of them are taken, of the others some, with weights that undo it, so probabilities
are those of the fleet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import lightgbm
import numpy as np
import numpy.typing as npt

from fleetcast.risk.calibration import FLOOR, fit_line
from fleetcast.risk.model import HorizonModel, RiskModel
from fleetcast.risk.probability import HORIZONS

FEWEST_EVENTS = 60  # distinct incidents within a horizon: with fewer the line alone is used
FOLDS = 4
TREES = {"30m": 150, "2h": 220, "8h": 260}
TREE = {
    "objective": "binary",
    "learning_rate": 0.04,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.15,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "max_bin": 63,
    "lambda_l2": 10.0,
    "verbose": -1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
}

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RiskSamples:
    """Server windows to learn from.

    `features` is [window, feature] with their `names` and which are `rising`; `outcomes` is [window, horizon], NaN
    where it is censored; `servers` numbers the server of each window and `weights` says for how many windows it
    stands; `events` counts the distinct incidents within each horizon.
    """

    names: tuple[str, ...]
    rising: npt.NDArray[np.bool_]
    features: npt.NDArray[np.float32]
    outcomes: Doubles
    servers: npt.NDArray[np.int64]
    weights: Doubles
    events: Mapping[str, int] = field(default_factory=dict)


def fit_risk_model(samples: RiskSamples, seed: int = 0) -> RiskModel | None:
    """Fit the model of each horizon that has enough distinct incidents; None when none has."""
    models = {
        name: _fit_horizon(samples, place, name, seed)
        for place, name in enumerate(HORIZONS)
        if samples.events.get(name, 0) >= FEWEST_EVENTS
    }
    return RiskModel(samples.names, models) if models else None


def _fit_horizon(samples: RiskSamples, place: int, name: str, seed: int) -> HorizonModel:
    known = ~np.isnan(samples.outcomes[:, place])
    x, y = samples.features[known], samples.outcomes[known, place]
    weights = samples.weights[known] / samples.weights[known].mean()
    identities, dealt = np.unique(samples.servers[known], return_inverse=True)
    folds = (np.random.default_rng(seed).permutation(len(identities)) % FOLDS)[dealt]
    answers = np.empty(len(y))
    for fold in range(FOLDS):
        here = folds == fold
        answers[here] = _trees(x[~here], y[~here], weights[~here], samples.rising, name, seed).predict(x[here])
    line = fit_line(np.clip(answers, FLOOR, 1 - FLOOR), y > 0.5, weights)
    text = _trees(x, y, weights, samples.rising, name, seed).model_to_string()
    return HorizonModel(
        trees=text,
        slope=line.slope,
        intercept=line.intercept,
        events=samples.events[name],
        windows=int(known.sum()),
    )


def _trees(
    x: npt.NDArray[np.float32], y: Doubles, weights: Doubles, rising: npt.NDArray[np.bool_], name: str, seed: int
) -> lightgbm.Booster:
    parameters = {**TREE, "seed": seed, "monotone_constraints": rising.astype(int).tolist()}
    return lightgbm.train(parameters, lightgbm.Dataset(x, y, weight=weights), TREES[name])
