"""What a window holds: lengths, tokens and variables, as plain data that a bundle carries."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR

PLAIN_CALENDAR = ("hour", "day_of_week", "month", "is_weekend")
CYCLIC_CALENDAR = ("hour_sin", "hour_cos", "week_sin", "week_cos", "is_weekend")
POSITION = "relative_time_idx"
SLOT_DAYS = 7
LAGS = ("yesterday", "slot_mean")  # of a target and step: the slot a day ago, its mean over the like of SLOT_DAYS days
RISE = "rise"  # the latest value plus the usual change from its slot to the step's, over the same days
ANCHORS = (*LAGS, RISE)
OBSERVED_SHARE = 0.5  # of the encoder, at least, for a target that is learnt or forecast by a model
STALE_STEPS = STEPS_PER_HOUR // 2  # a target silent for longer is neither


class Variables(BaseModel):
    """Names of a network's inputs, in the order of the tensors."""

    model_config = ConfigDict(frozen=True)

    static_categoricals: tuple[str, ...]
    static_reals: tuple[str, ...]
    encoder_categoricals: tuple[str, ...]
    encoder_reals: tuple[str, ...]
    decoder_reals: tuple[str, ...]

    @property
    def reals(self) -> tuple[str, ...]:
        """All reals once, in the order of the last axis of `encoder_cont` and `decoder_cont`."""
        return tuple(dict.fromkeys((*self.static_reals, *self.decoder_reals, *self.encoder_reals)))


class WindowSpec(BaseModel):
    """Inputs and outputs of a forecast window. Lengths are in steps of 5 minutes."""

    model_config = ConfigDict(frozen=True)

    targets: tuple[str, ...]
    features: tuple[str, ...] = Field(description="metrics that the encoder reads, targets included")
    levels: tuple[float, ...]
    context: int = Field(288, ge=6, description="encoder length")
    horizon: int = Field(96, ge=1, description="decoder length")
    fine_steps: int = Field(0, ge=0, description="latest steps of the context that are pooled finely; 0 is no pooling")
    fine_pool: int = Field(3, ge=1, description="steps of a fine token")
    coarse_pool: int = Field(24, ge=1, description="steps of an older token")
    decoder_pool: int = Field(1, ge=1, description="steps of a decoder token")
    day_lags: bool = Field(True, description="yesterday's slot, its 7-day mean and the usual rise are known inputs")
    floor_inputs: bool = Field(
        True, description="the floor's median and band are known inputs, and the head corrects it"
    )
    floor_leads: int = Field(8, ge=2, description="steps ahead of each bucket whose residuals the floor's spread reads")
    cyclic_calendar: bool = True

    @model_validator(mode="after")
    def _check(self) -> WindowSpec:
        if self.fine_steps:
            older = self.context - self.fine_steps
            if older < 0 or older % self.coarse_pool or self.fine_steps % self.fine_pool:
                raise ValueError(
                    f"context {self.context} must be {self.fine_steps} steps more than a multiple of {self.coarse_pool}"
                )
        if self.horizon % self.decoder_pool:
            raise ValueError(f"horizon {self.horizon} must be a multiple of {self.decoder_pool}")
        missing = [name for name in self.targets if name not in self.features]
        if missing or not self.targets:
            raise ValueError(f"targets {missing or 'none'} are not among the features {self.features}")
        if list(self.levels) != sorted(set(self.levels)) or not all(0 < level < 1 for level in self.levels):
            raise ValueError(f"quantile levels {self.levels} must ascend between 0 and 1")
        if 0.5 not in self.levels:
            raise ValueError(f"quantile levels {self.levels} must hold 0.5, the median")
        return self

    @property
    def pools(self) -> tuple[int, ...]:
        """Steps of each encoder token, oldest first; they add up to `context`."""
        if not self.fine_steps:
            return (1,) * self.context
        older = (self.context - self.fine_steps) // self.coarse_pool
        return (self.coarse_pool,) * older + (self.fine_pool,) * (self.fine_steps // self.fine_pool)

    @property
    def decoder_tokens(self) -> int:
        """Number of decoder tokens."""
        return self.horizon // self.decoder_pool

    @property
    def lag_days(self) -> tuple[int, ...]:
        """Days back whose slot is known at every step of the horizon."""
        first = -(-self.horizon // STEPS_PER_DAY)
        return tuple(range(first, first + SLOT_DAYS))

    @property
    def history_steps(self) -> int:
        """Steps up to the origin that a window can make use of."""
        days = self.lag_days[-1] if self.day_lags else 4
        return max(self.context, days * STEPS_PER_DAY)

    @property
    def calendar(self) -> tuple[str, ...]:
        """Calendar inputs, known ahead."""
        return CYCLIC_CALENDAR if self.cyclic_calendar else PLAIN_CALENDAR

    @property
    def shared_reals(self) -> int:
        """So many of the first known reals depend on the time alone: one origin, one value for the whole fleet."""
        return len(self.calendar) + 1

    @property
    def variables(self) -> Variables:
        """Names of the network's inputs."""
        known = (*self.calendar, POSITION)
        if self.floor_inputs:
            known = (*known, "maintenance")
        lags = [f"{target}_{kind}" for target in self.targets for kind in ANCHORS]
        floors = [f"{target}_{kind}" for target in self.targets for kind in ("floor_median", "floor_band")]
        pooled = [f"{target}_max" for target in self.targets] + ["observed_share"] if self.fine_steps else []
        scales = [f"{target}_{kind}" for target in self.targets for kind in ("center", "scale")]
        return Variables(
            static_categoricals=("profile",),
            static_reals=("encoder_length", *scales),
            encoder_categoricals=("state",),
            encoder_reals=(*known, *self.features, *pooled),
            decoder_reals=(*known, *(lags if self.day_lags else ()), *(floors if self.floor_inputs else ())),
        )
