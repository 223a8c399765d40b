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
from scipy.special import expit, logit

from fleetcast.risk.calibration import FLOOR, fit_line
from fleetcast.risk.model import HorizonModel, RiskModel
from fleetcast.risk.probability import HORIZONS

FEWEST_EVENTS = 60  # distinct incidents within a horizon: with fewer the line alone is used
FOLDS = 2
TREES = {"30m": 200, "2h": 300, "8h": 350}
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
    stands (0: it is not learnt from); `events` counts the distinct incidents within each horizon.
    """

    names: tuple[str, ...]
    rising: npt.NDArray[np.bool_]
    features: npt.NDArray[np.float32]
    outcomes: Doubles
    servers: npt.NDArray[np.int64]
    weights: Doubles
    events: Mapping[str, int] = field(default_factory=dict)


def fit_risk_model(samples: RiskSamples, seed: int = 0) -> tuple[RiskModel | None, Doubles]:
    """Fit the model of each horizon that has enough distinct incidents; None when none has.

    With it comes what the trees that did not see a window's server say of it, after the line: [window, horizon], NaN
    for a horizon without a model. What follows the model is fitted on these.
    """
    models, held_out = {}, np.full(samples.outcomes.shape, np.nan)
    for place, name in enumerate(HORIZONS):
        if samples.events.get(name, 0) >= FEWEST_EVENTS:
            models[name], held_out[:, place] = _fit_horizon(samples, place, name, seed)
    return (RiskModel(samples.names, models) if models else None), held_out


def _fit_horizon(samples: RiskSamples, place: int, name: str, seed: int) -> tuple[HorizonModel, Doubles]:
    x, y = samples.features, samples.outcomes[:, place]
    known = ~np.isnan(y) & (samples.weights > 0)
    weights = samples.weights / samples.weights[known].mean()
    identities, dealt = np.unique(samples.servers, return_inverse=True)
    folds = (np.random.default_rng(seed).permutation(len(identities)) % FOLDS)[dealt]
    answers = np.empty(len(y))
    for fold in range(FOLDS):
        here, others = folds == fold, (folds != fold) & known
        answers[here] = _trees(x[others], y[others], weights[others], samples.rising, name, seed).predict(x[here])
    answers = np.clip(answers, FLOOR, 1 - FLOOR)
    line = fit_line(answers[known], y[known] > 0.5, samples.weights[known])
    text = _trees(x[known], y[known], weights[known], samples.rising, name, seed).model_to_string()
    model = HorizonModel(
        trees=text,
        slope=line.slope,
        intercept=line.intercept,
        events=samples.events[name],
        windows=int(known.sum()),
    )
    return model, np.asarray(expit(line.intercept + line.slope * logit(answers)))


def _trees(
    x: npt.NDArray[np.float32], y: Doubles, weights: Doubles, rising: npt.NDArray[np.bool_], name: str, seed: int
) -> lightgbm.Booster:
    parameters = {**TREE, "seed": seed, "monotone_constraints": rising.astype(int).tolist()}
    return lightgbm.train(parameters, lightgbm.Dataset(x, y, weight=weights), TREES[name])
