"""What a dense window holds, in the words of pytorch-forecasting's `TimeSeriesDataSet`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetcast.contract.vocabulary import PROFILES, STATES
from fleetcast.windows.spec import POSITION

ENCODER_LENGTH = "encoder_length"
CONTRACT_VOCABULARIES = {"profile": PROFILES, "state": STATES}


class TargetNormaliser(BaseModel):
    """How targets are normalised: `by="server"` is `GroupNormalizer(groups=[server])`, `by="window"` is
    `EncoderNormalizer()`, both with method "standard".

    `transformation="softplus"` takes the inverse softplus of a target first; `center=False` only scales. The library's
    "relu" transforms outputs alone: windows are those of `None`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["server", "window"] = "server"
    transformation: Literal["softplus"] | None = None
    center: bool = True


class DenseSpec(BaseModel):
    """Variables and lengths of dense windows; a field does what the library's argument of that name does.

    The decoder always has `max_prediction_length` steps. Code 0 of a categorical is unknown, word i of its vocabulary
    has code i + 1. Without `min_encoder_length` every encoder is full. Raises ValueError where fields contradict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[str, ...] = Field(min_length=1, description="one gives tensors, several give lists of tensors")
    max_encoder_length: int = Field(288, ge=1)
    min_encoder_length: int | None = Field(None, ge=1)
    max_prediction_length: int = Field(96, ge=1)
    static_categoricals: tuple[str, ...] = ()
    static_reals: tuple[str, ...] = ()
    time_varying_known_categoricals: tuple[str, ...] = ()
    time_varying_known_reals: tuple[str, ...] = ()
    time_varying_unknown_categoricals: tuple[str, ...] = ()
    time_varying_unknown_reals: tuple[str, ...] = ()
    vocabularies: dict[str, tuple[str, ...]] = Field(CONTRACT_VOCABULARIES, description="words of each categorical")
    normaliser: TargetNormaliser = TargetNormaliser()
    add_relative_time_idx: bool = False
    add_target_scales: bool = False
    add_encoder_length: bool = False
    server: str = Field("server", description="column that names the series")
    time_idx: str = Field("time_idx", description="column of whole steps")

    @model_validator(mode="after")
    def _check(self) -> DenseSpec:
        if self.shortest_encoder > self.max_encoder_length:
            raise ValueError(
                f"min_encoder_length {self.min_encoder_length} exceeds max_encoder_length {self.max_encoder_length}"
            )
        if self.normaliser.by == "window" and self.shortest_encoder < 2:
            raise ValueError("a normaliser by window needs min_encoder_length of at least 2, for a standard deviation")
        names = (*self.categoricals, *self.reals)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"each variable has one role and is named once: {repeated or list(self.targets)}")
        known = set(self.targets) & {*self.static_reals, *self.time_varying_known_reals}
        if known:
            raise ValueError(f"targets {sorted(known)} are not known ahead: name them in time_varying_unknown_reals")
        wordless = [name for name in self.categoricals if name not in self.vocabularies]
        if wordless:
            raise ValueError(f"categoricals {wordless} need a frozen vocabulary")
        return self

    @property
    def shortest_encoder(self) -> int:
        """Fewest steps of an encoder."""
        return self.max_encoder_length if self.min_encoder_length is None else self.min_encoder_length

    @property
    def categoricals(self) -> tuple[str, ...]:
        """Categoricals in the order of the last axis of `encoder_cat`."""
        return (
            *self.static_categoricals,
            *self.time_varying_known_categoricals,
            *self.time_varying_unknown_categoricals,
        )

    def scales_of(self, target: str) -> tuple[str, ...]:
        """Reals that hold center and scale of a target; none without `add_target_scales`."""
        return (f"{target}_center", f"{target}_scale") if self.add_target_scales else ()

    @property
    def computed(self) -> tuple[str, ...]:
        """Reals that no column holds: length, scales and position."""
        length = (ENCODER_LENGTH,) if self.add_encoder_length else ()
        position = (POSITION,) if self.add_relative_time_idx else ()
        return (*length, *(name for target in self.targets for name in self.scales_of(target)), *position)

    @property
    def reals(self) -> tuple[str, ...]:
        """Reals in the order of the last axis of `encoder_cont`."""
        statics = (*self.static_reals, *(name for name in self.computed if name != POSITION))
        known = (*self.time_varying_known_reals, *(name for name in self.computed if name == POSITION))
        return (*statics, *known, *self.time_varying_unknown_reals)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the data must have."""
        read = (*self.categoricals, *(name for name in self.reals if name not in self.computed), *self.targets)
        return tuple(dict.fromkeys((self.server, self.time_idx, *read)))
