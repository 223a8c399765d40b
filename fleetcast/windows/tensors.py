"""From the samples of a batch of windows to the network's tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.fill_days import fill_days
from fleetcast.windows.fill_decoder import fill_base, fill_truth
from fleetcast.windows.fill_encoder import fill_encoder
from fleetcast.windows.fill_known import fill_known, fill_planned
from fleetcast.windows.horizon import Horizon
from fleetcast.windows.spec import ANCHORS, OBSERVED_SHARE, POSITION, WindowSpec

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Samples:
    """Where the samples of a batch lie: those of the encoder's features, and the longer history of the targets.

    Window i has its origin at `values[rows[i], ends[i]]` and at `history[rows[i], origins[i]]`. `values` is
    [series, time, metric] with NaN gaps, `history` [series, time, target], and what lies outside their time axes is
    missing; `columns` are the features' metrics, -1 for one that is missing altogether; those of targets are not read.
    `states` are state codes [series, time] on the axis of `values`. The series `rows[i]` exists from step `begins[i]`
    of the history on.
    """

    values: Floats
    columns: Ints
    states: npt.NDArray[np.number]
    rows: Ints
    ends: Ints
    history: Floats
    origins: Ints
    begins: Ints


class WindowBuilder:
    """Builds the tensors of windows of one fleet; all that does not depend on the samples is made once."""

    def __init__(self, spec: WindowSpec, known: Horizon) -> None:
        self.spec, self.known = spec, known
        self.pad = spec.history_steps
        times = known.start + STEP_SECONDS * np.arange(-self.pad, known.steps + spec.horizon, dtype=np.int64)
        self.calendar = calendar_features(times, known.timezone, spec.calendar)
        self.targets = np.array([spec.features.index(name) for name in spec.targets])
        self.pools = np.array(spec.pools)
        self.encoder_offsets = np.cumsum(self.pools) - self.pools - spec.context + 1
        self.decoder_offsets = 1 + spec.decoder_pool * np.arange(spec.decoder_tokens)
        self.lags = STEPS_PER_DAY * np.array(spec.lag_days)
        self.alike = self._alike()
        self._place()

    def inputs(self, samples: Samples, servers: Ints, origins: Ints, base: Floats | None) -> Batch:
        """The network's inputs for windows with these servers and origins (steps of the fleet's axis).

        Nothing after the origins is read but what is known ahead. `base` holds untrained quantiles
        [batch, horizon, target, level].
        """
        spec, size = self.spec, len(servers)
        encoder = np.empty((size, len(self.pools), len(self.reals)), np.float32)
        decoder = np.empty((size, spec.decoder_tokens, len(self.reals)), np.float32)
        scales = np.empty((size, 3, len(spec.features)), np.float32)
        observed = np.empty((size, len(self.targets) + 1), np.int64)
        fill_encoder(
            samples.values, samples.columns, samples.rows, samples.ends, samples.history, samples.origins,
            self.pools, self.targets, self.feature_slots, self.peak_slots, self.share_slot,
            encoder, scales, observed,
        )  # fmt: skip
        center, scale, magnitude = (scales[:, kind][:, self.targets] for kind in range(3))
        self._fill_known(servers, origins, self._statics(observed, center, scale), encoder, decoder)
        anchors = np.empty((0 if base is None else size, spec.horizon, len(self.targets), len(ANCHORS)), np.float32)
        if spec.day_lags:
            fill_days(
                samples.history, samples.rows, samples.origins, self.lags, self.alike, self.pad + origins, scales,
                self.targets, spec.decoder_pool, self.lag_slots, decoder, anchors,
            )  # fmt: skip
        if base is not None and spec.floor_inputs:
            median = spec.levels.index(0.5)
            fill_base(base, median, scales, self.targets, spec.decoder_pool, self.floor_slots, decoder)
        elif spec.floor_inputs:
            decoder[:, :, self.floor_slots] = 0
        batch = {"encoder_cont": encoder, "decoder_cont": decoder, **self._categories(samples, servers)}
        batch |= {"center": center, "scale": scale, "loss_scale": scale + magnitude}
        batch["observed"] = observed[:, :-1] / spec.context >= OBSERVED_SHARE
        if base is not None:
            batch["base"] = base
            if spec.day_lags:
                batch["anchors"] = anchors
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def truth(self, samples: Samples) -> torch.Tensor:
        """What came after the origins, [batch, horizon, target]; NaN where there was no sample."""
        found = np.empty((len(samples.rows), self.spec.horizon, len(self.targets)), np.float32)
        fill_truth(samples.history, samples.rows, samples.origins, found)
        return torch.from_numpy(found)

    def _alike(self) -> Ints:
        """Bit i of a step is set where it and the one `lags[i]` back are both of a weekend or both not, [time]."""
        weekend = self.calendar[:, self.spec.calendar.index("is_weekend")] > 0
        alike = np.zeros(len(weekend), np.int64)
        for day, lag in enumerate(self.lags if self.spec.day_lags else ()):
            alike[lag:] |= (weekend[lag:] == weekend[:-lag]).astype(np.int64) << day
        return alike

    def _place(self) -> None:
        """The variables' places in the tensors."""
        spec, variables = self.spec, self.spec.variables
        self.reals = variables.reals
        place = {name: number for number, name in enumerate(self.reals)}

        def slots(*names: str) -> Ints:
            return np.array([place[name] for name in names if name in place], np.int64)

        def of_targets(*kinds: str) -> Ints:
            return slots(*(f"{name}_{kind}" for name in spec.targets for kind in kinds)).reshape(-1, len(kinds))

        self.feature_slots = slots(*spec.features)
        self.peak_slots = slots(*(f"{name}_max" for name in spec.targets)) if spec.fine_steps else slots()
        self.share_slot = place.get("observed_share", -1)
        self.calendar_slots, self.position_slot = slots(*spec.calendar), place[POSITION]
        self.planned_slot = place.get("maintenance", -1)
        self.lag_slots = of_targets(*ANCHORS)
        self.floor_slots = of_targets("floor_median", "floor_band")
        shared = len(variables.static_reals) + spec.shared_reals + (self.planned_slot >= 0)
        decoded = len(variables.static_reals) + len(variables.decoder_reals)
        self.encoder_empty, self.decoder_empty = (shared, decoded), (decoded, len(self.reals))

    def _statics(self, observed: Ints, center: Floats, scale: Floats) -> Floats:
        length = (observed[:, -1:] / self.spec.context).astype(np.float32)
        scales = np.stack([np.log1p(np.maximum(center, 0)), np.log(scale) / 4], axis=2, dtype=np.float32)
        return np.hstack([length, scales.reshape(len(length), -1)])

    def _fill_known(self, servers: Ints, origins: Ints, statics: Floats, encoder: Floats, decoder: Floats) -> None:
        for tensor, offsets, empty, pool in (
            (encoder, self.encoder_offsets, self.encoder_empty, 1),
            (decoder, self.decoder_offsets, self.decoder_empty, self.spec.decoder_pool),
        ):
            positions = (offsets / self.spec.context).astype(np.float32)
            fill_known(
                origins, offsets, self.calendar, self.pad, self.calendar_slots, positions, self.position_slot,
                statics, *empty, tensor,
            )  # fmt: skip
            if self.planned_slot >= 0:
                spans = (self.known.span_starts, self.known.spans)
                fill_planned(servers, origins, offsets, *spans, pool, self.planned_slot, tensor)

    def _categories(self, samples: Samples, servers: Ints) -> dict[str, npt.NDArray[np.int64]]:
        steps = samples.ends[:, None] + (self.encoder_offsets + self.pools - 1)
        inside = (steps >= 0) & (steps < samples.states.shape[1])
        profiles = self.known.profiles[servers]
        encoder = np.empty((*steps.shape, 2), np.int64)
        encoder[:, :, 0] = profiles[:, None]
        encoder[:, :, 1] = np.where(inside, samples.states[samples.rows[:, None], np.where(inside, steps, 0)], 0)
        decoder = np.zeros((len(servers), self.spec.decoder_tokens, 2), np.int64)
        decoder[:, :, 0] = profiles[:, None]
        return {"encoder_cat": encoder, "decoder_cat": decoder}
