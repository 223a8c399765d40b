"""The catalogue of variants: what each changes of the `default` preset, one thing at a time."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleetcast.errors import UsageError
from fleetcast.model.config import PRESETS
from fleetcast.training.plan import TrainPlan, network_for
from fleetcast.windows.spec import WindowSpec

PRESET = "default"


class Variant(BaseModel):
    """Changes of fields of the windows, the network and the training; what is not named is the preset's."""

    model_config = ConfigDict(frozen=True)

    name: str
    what: str = Field(description="what is changed, for the table")
    window: dict[str, Any] = Field(default_factory=dict, description="fields of `WindowSpec`")
    network: dict[str, Any] = Field(default_factory=dict, description="fields of `NetworkConfig`")
    training: dict[str, Any] = Field(default_factory=dict, description="fields of `TrainPlan`")
    times: dict[str, float] = Field(default_factory=dict, description="fields of `TrainPlan` that are multiplied")
    loss: Literal["window", "original"] = Field(
        "window", description="unit of the loss: the window's own scale or none"
    )
    keep: Literal["best", "last"] = Field("best", description="which epoch's weights become the model")
    members: int = Field(1, ge=1, description="models of different seeds, whose median forecast counts")

    def apply(self, plan: TrainPlan) -> TrainPlan:
        """The plan of the preset with this variant's changes. Raises `ValidationError` for what cannot be."""
        window = WindowSpec(**{**plan.window.model_dump(), **self.window})
        preset = PRESETS[plan.preset]
        given = {name: value for name, value in self.network.items() if name != "anchors"}
        network = network_for(window, preset.model_copy(update={"network": {**preset.network, **given}}))
        if "anchors" in self.network:
            network = network.model_copy(update={"anchors": self.network["anchors"]})
        multiplied = {name: type(value)(value * self.times[name]) for name, value in plan if name in self.times}
        return plan.model_copy(update={**self.training, **multiplied, "window": window, "network": network})

    def describe(self, plan: TrainPlan) -> dict[str, Any]:
        """All that fixes a run of this variant but its seed and the place of its data, as plain data."""
        fixed = self.apply(plan).model_dump(mode="json", exclude={"data", "seed", "checkpoint_seconds"})
        found = {**fixed, "loss": self.loss, "keep": self.keep, "members": self.members}
        return dict(json.loads(json.dumps(found)))


CATALOGUE = (
    Variant(name="default", what="the preset as it is"),
    Variant(name="no_day_lags", what="no day lags among the inputs, so no anchors", window={"day_lags": False}),
    Variant(name="no_anchors", what="day lags as inputs, but the head cannot repeat them", network={"anchors": 0}),
    Variant(
        name="no_floor_inputs", what="the head corrects the floor without seeing it", window={"floor_inputs": False}
    ),
    Variant(name="floor_leads_8", what="spread of the floor from 8 leads a bucket", window={"floor_leads": 8}),
    Variant(
        name="plain_head",
        what="quantiles from the encoder's scale instead of the floor",
        window={"floor_inputs": False},
        network={"head": "softplus"},
    ),
    Variant(name="original_units", what="loss in the metric's unit, not in the window's scale", loss="original"),
    Variant(name="dropout", what="dropout 0.1", network={"dropout": 0.1}),
    Variant(name="no_averaging", what="the last weights, not their moving average", training={"average_decay": 0.0}),
    Variant(name="low_rate", what="half the learning rate", times={"learning_rate": 0.5}),
    Variant(name="high_rate", what="twice the learning rate", times={"learning_rate": 2.0}),
    Variant(name="half_epochs", what="half the epochs", times={"epochs": 0.5}),
    Variant(name="batch_128", what="batches of 128 windows", training={"batch_size": 128}),
    Variant(name="context_96", what="encoder of 8 h", window={"context": 96}),
    Variant(name="context_288", what="encoder of 1 day", window={"context": 288}),
    Variant(name="context_576", what="encoder of 2 days", window={"context": 576}),
    Variant(name="hidden_16", what="hidden size 16", network={"hidden_size": 16}),
    Variant(name="hidden_32", what="hidden size 32", network={"hidden_size": 32}),
    Variant(name="hidden_64", what="hidden size 64", network={"hidden_size": 64}),
    Variant(name="last_epoch", what="the last epoch's weights, not the best one's", keep="last"),
    Variant(name="median_of_3", what="the median of three models of different seeds", members=3),
)


def chosen(names: str | None) -> tuple[Variant, ...]:
    """The variants named between commas, in the order of the catalogue; None is all. Raises `UsageError`."""
    known = {variant.name: variant for variant in CATALOGUE}
    wanted = list(known) if names is None else [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"unknown variant {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(variant for name, variant in known.items() if name in wanted)
