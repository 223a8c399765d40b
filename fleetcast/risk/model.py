"""The fitted risk model: from features to the probability of an incident within each horizon.

Of each horizon: trees, then a line in the log odds. Where the calibrated exceedance of the forecast alone (the line of
`risk.calibration`) is sure of a breach the model does not say less: the probability is the larger of the two once the
line passes `SURE`. So the forecast alone can raise any level. The text is JSON that holds LightGBM's own text form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError
from scipy.special import expit, logit

from fleetcast.errors import BundleError
from fleetcast.risk.calibration import FLOOR
from fleetcast.risk.features import Features
from fleetcast.risk.probability import HORIZONS

if TYPE_CHECKING:
    import lightgbm

FORMAT = 1

Doubles = npt.NDArray[np.float64]


class HorizonModel(BaseModel):
    """Trees of one horizon in LightGBM's text form, the line that follows them, and what they were fitted on."""

    trees: str
    slope: float = Field(gt=0)
    intercept: float
    events: int = Field(ge=0, description="distinct incidents")
    windows: int = Field(ge=0, description="server windows")


class _Text(BaseModel):
    format: int
    features: tuple[str, ...]
    horizons: dict[str, HorizonModel]


@dataclass(frozen=True)
class RiskModel:
    """Models by the names of `HORIZONS`, those that there are, on features of these names."""

    features: tuple[str, ...]
    horizons: Mapping[str, HorizonModel]

    def probabilities(self, features: Features) -> Doubles:
        """P(an incident begins within h), [server, 3] in the order of `HORIZONS`; NaN where there is no model."""
        x = features.select(self.features)
        found = np.full((len(x), len(HORIZONS)), np.nan)
        if not len(x):
            return found
        for place, name in enumerate(HORIZONS):
            if name in self.horizons:
                said = np.clip(np.asarray(self._boosters[name].predict(x, num_threads=1)), FLOOR, 1 - FLOOR)
                model = self.horizons[name]
                found[:, place] = expit(model.intercept + model.slope * logit(said))
        return found

    def contributions(self, features: Features, metrics: tuple[str, ...], horizon: str) -> Doubles:
        """How much each metric's features raise the log odds (negative: lower), [server, len(metrics)].

        Shapley values of the trees (Lundberg and others, "From local explanations to global understanding with
        explainable AI for trees", 2020), summed over the features of a metric.
        """
        x = features.select(self.features)
        values = np.asarray(self._boosters[horizon].predict(x, pred_contrib=True, num_threads=1))
        of = np.array([_metric_of(name, metrics) for name in self.features])
        return np.stack([values[:, :-1][:, of == place].sum(axis=1) for place in range(len(metrics))], axis=1)

    def dumps(self) -> str:
        """The model as text."""
        return _Text(format=FORMAT, features=self.features, horizons=dict(self.horizons)).model_dump_json()

    @classmethod
    def loads(cls, text: str) -> RiskModel:
        """The model of a text. Raises `BundleError` when it is damaged or of another format."""
        import lightgbm  # noqa: PLC0415  # takes seconds; those who only hold risks do without

        try:
            found = _Text.model_validate(json.loads(text))
            if found.format != FORMAT:
                raise BundleError(f"the risk model has format {found.format}; this FleetCast reads {FORMAT}")
            model = cls(found.features, found.horizons)
            _ = model._boosters
        except (json.JSONDecodeError, ValidationError, lightgbm.basic.LightGBMError) as error:
            raise BundleError(f"the risk model is damaged: {str(error).splitlines()[0]}") from error
        return model

    @cached_property
    def _boosters(self) -> dict[str, lightgbm.Booster]:
        import lightgbm  # noqa: PLC0415

        return {name: lightgbm.Booster(model_str=model.trees) for name, model in self.horizons.items()}


def _metric_of(feature: str, metrics: tuple[str, ...]) -> int:
    """Position of the metric that a feature is made of; -1 for none of these."""
    bare = feature.removeprefix("ahead_").removeprefix("band_")
    return next((place for place, metric in enumerate(metrics) if bare.startswith(f"{metric}_")), -1)
