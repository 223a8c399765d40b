"""Windows as tensors, made plainly with NumPy from a padded copy of the fleet: what the compiled way must equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY
from fleetcast.model.base import ResidualBase
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.scaling import center_and_scale, masked_mean, normalise
from fleetcast.windows.spec import OBSERVED_SHARE, POSITION, STALE_STEPS, WindowSpec

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Batch = dict[str, torch.Tensor]


class PlainBatcher:
    """Builds batches of windows of one fleet.

    A window is (row, end): a server and the step of its origin, the last one it may read. The fleet is padded with
    missing steps in front, so that short histories need no special case.
    """

    def __init__(self, fleet: FleetArrays, spec: WindowSpec, base: ResidualBase | None) -> None:
        self.spec, self.base = spec, base
        self.pad = spec.history_steps
        features = fleet.select(spec.features)
        self.values = np.pad(features, ((0, 0), (self.pad, 0), (0, 0)), constant_values=np.nan)
        self.states = np.pad(fleet.states(), ((0, 0), (self.pad, 0)))
        self.profiles = fleet.profile_codes
        self.target_columns = [spec.features.index(name) for name in spec.targets]
        total = fleet.steps + spec.horizon
        times = fleet.start + STEP_SECONDS * np.arange(-self.pad, total, dtype=np.int64)
        self.calendar = calendar_features(times, fleet.timezone, spec.calendar)
        self.maintenance = np.pad(fleet.maintenance_mask(0, total), ((0, 0), (self.pad, 0))).astype(np.float32)
        self._token_starts = np.concatenate([[0], np.cumsum(spec.pools)[:-1]]).astype(np.int64)

    def inputs(self, rows: Ints, ends: Ints) -> Batch:
        """The network's inputs for windows (rows[i], ends[i]); reads nothing after `ends` but what is known ahead."""
        spec, size = self.spec, len(rows)
        at = ends + self.pad
        past_steps = at[:, None] + np.arange(1 - spec.context, 1)
        future_steps = at[:, None] + np.arange(1, spec.horizon + 1)
        context = self.values[rows[:, None], past_steps]
        center, scale, magnitude = center_and_scale(context)
        targets = self.target_columns
        target_center, target_scale = center[:, targets], scale[:, targets]
        base = None if self.base is None else self.base.at(rows, ends)
        named: dict[str, Floats] = {}
        self._add_encoder(named, context, center, scale)
        self._add_known(named, rows, past_steps, future_steps)
        self._add_statics(named, context, target_center, target_scale)
        if spec.day_lags:
            self._add_lags(named, rows, at, target_center, target_scale)
        if base is not None:
            self._add_base(named, base, target_center, target_scale)
        batch = self._tensors(named, rows, past_steps, size)
        batch["center"] = torch.from_numpy(target_center)
        batch["scale"] = torch.from_numpy(target_scale)
        batch["observed"] = torch.from_numpy((~np.isnan(context[:, :, targets])).mean(axis=1) >= OBSERVED_SHARE)
        batch["loss_scale"] = torch.from_numpy(target_scale + magnitude[:, targets])
        if base is not None:
            batch["base"] = torch.from_numpy(base)
            if spec.day_lags:
                batch["anchors"] = torch.from_numpy(self.anchors)
        return batch

    def truth(self, rows: Ints, ends: Ints) -> torch.Tensor:
        """What came after the origins, [batch, horizon, target]; NaN where there was no sample."""
        steps = (ends + self.pad)[:, None] + np.arange(1, self.spec.horizon + 1)
        return torch.from_numpy(self.values[rows[:, None], steps][:, :, self.target_columns])

    def _add_encoder(self, named: dict[str, Floats], context: Floats, center: Floats, scale: Floats) -> None:
        spec, starts = self.spec, self._token_starts
        scaled = normalise(context, center[:, None], scale[:, None])
        if not spec.fine_steps:
            for column, name in enumerate(spec.features):
                named[f"encoder:{name}"] = scaled[:, :, column]
            return
        seen = ~np.isnan(context)
        counts = np.asarray(np.add.reduceat(seen, starts, axis=1), dtype=np.float32)
        means = np.add.reduceat(scaled * seen, starts, axis=1, dtype=np.float32) / np.maximum(counts, 1)
        for column, name in enumerate(spec.features):
            named[f"encoder:{name}"] = np.asarray(means[:, :, column], dtype=np.float32)
        peaks = np.maximum.reduceat(scaled[:, :, self.target_columns], starts, axis=1)
        for column, name in enumerate(spec.targets):
            named[f"encoder:{name}_max"] = peaks[:, :, column]
        share = counts[:, :, self.target_columns].mean(axis=2) / np.array(spec.pools)
        named["encoder:observed_share"] = np.asarray(share, dtype=np.float32)

    def _add_known(self, named: dict[str, Floats], rows: Ints, past: Ints, future: Ints) -> None:
        spec = self.spec
        tokens = past[:, self._token_starts]
        heads = future[:, :: spec.decoder_pool]
        for column, name in enumerate(spec.calendar):
            named[f"encoder:{name}"] = self.calendar[tokens, column]
            named[f"decoder:{name}"] = self.calendar[heads, column]
        position = np.concatenate(
            [self._token_starts - spec.context + 1, np.arange(1, spec.horizon + 1, spec.decoder_pool)]
        )
        relative = np.broadcast_to((position / spec.context).astype(np.float32), (len(rows), len(position)))
        named[f"encoder:{POSITION}"] = relative[:, : len(self._token_starts)]
        named[f"decoder:{POSITION}"] = relative[:, len(self._token_starts) :]
        named["encoder:maintenance"] = self.maintenance[rows[:, None], tokens]
        named["decoder:maintenance"] = self._pool_decoder(self.maintenance[rows[:, None], future])

    def _add_statics(self, named: dict[str, Floats], context: Floats, center: Floats, scale: Floats) -> None:
        observed = (~np.isnan(context[:, :, self.target_columns])).any(axis=2).sum(axis=1) / self.spec.context
        named["static:encoder_length"] = observed.astype(np.float32)
        for column, name in enumerate(self.spec.targets):
            named[f"static:{name}_center"] = np.log1p(np.maximum(center[:, column], 0)).astype(np.float32)
            named[f"static:{name}_scale"] = (np.log(scale[:, column]) / 4).astype(np.float32)

    def _add_lags(self, named: dict[str, Floats], rows: Ints, at: Ints, center: Floats, scale: Floats) -> None:
        days = STEPS_PER_DAY * np.array(self.spec.lag_days)
        steps = at[:, None, None] + np.arange(1, self.spec.horizon + 1) - days[None, :, None]
        slots = self.values[rows[:, None, None], steps][:, :, :, self.target_columns]
        slots = (slots - center[:, None, None]) / scale[:, None, None]
        yesterday = normalise(slots[:, 0])
        weekend = self.calendar[:, self.spec.calendar.index("is_weekend")] > 0
        alike = weekend[steps] == weekend[steps + days[None, :, None]]
        like = np.where(alike[..., None], slots, np.float32(np.nan))
        slots = np.where(np.isnan(like).all(axis=1)[:, None], slots, like)
        average = np.where(np.isnan(slots).all(axis=1), np.float32(np.nan), masked_mean(slots, 1))
        mean = normalise(average)
        raw = self.values[rows[:, None], steps[:, 0]][:, :, self.target_columns]
        rise = np.stack([self._rise(row, end, days, like) for row, end, like in zip(rows, at, alike, strict=True)])
        self.anchors = np.stack([raw, center[:, None] + scale[:, None] * average, rise], axis=3)
        rise = normalise((rise - center[:, None]) / scale[:, None])
        for column, name in enumerate(self.spec.targets):
            named[f"decoder:{name}_yesterday"] = self._pool_decoder(yesterday[:, :, column])
            named[f"decoder:{name}_slot_mean"] = self._pool_decoder(mean[:, :, column])
            named[f"decoder:{name}_rise"] = self._pool_decoder(rise[:, :, column])

    def _rise(self, row: int, at: int, days: Ints, alike: npt.NDArray[np.bool_]) -> Floats:
        """Latest value of the last half hour plus the trimmed mean of the days' changes, [step, target]."""
        found = np.full((self.spec.horizon, len(self.target_columns)), np.nan, np.float32)
        for number, column in enumerate(self.target_columns):
            series = self.values[row, :, column]
            low, high = self._marks(series[at + 1 - days[-1] : at + 1])
            seen = [step for step in range(at, at - STALE_STEPS, -1) if not np.isnan(series[step])]
            for step in range(self.spec.horizon if seen else 0):
                changes = series[at + 1 + step - days] - series[seen[0] - days]
                changes = np.where(changes < -np.float32(0.1) * (high - low), changes + (high - low), changes)
                changes = np.float64(changes)
                known = ~np.isnan(changes)
                use = known & alike[:, step] if (known & alike[:, step]).sum() >= 3 else known
                kept = changes[use].tolist()
                if len(kept) >= 3:
                    mean = (sum(kept) - min(kept) - max(kept)) / (len(kept) - 2)
                    found[step, number] = np.float32(mean) + series[seen[0]]
                elif kept:
                    found[step, number] = np.float32(sum(kept) / len(kept)) + series[seen[0]]
            found[:, number] = np.where(
                found[:, number] > high, np.minimum(low + (found[:, number] - high), high), found[:, number]
            )
        return found

    @staticmethod
    def _marks(past: Floats) -> tuple[np.float32, np.float32]:
        """Where a sawtooth turns, else infinite."""
        falls = past[:-1] - past[1:]
        known = falls[~np.isnan(falls)]
        low, high = np.float32(-np.inf), np.float32(np.inf)
        if not len(known) or known.max() <= np.float32(32) * np.abs(known).mean():
            return low, high
        deep = np.flatnonzero(falls > np.float32(32) * np.abs(known).mean())
        if falls[deep].sum() < np.float32(0.8) * known[known > 0].sum():
            return low, high
        latest = past[~np.isnan(past)][-1]
        for step in deep:
            if latest <= past[step] < high:
                low, high = past[step + 1], past[step]
        return low, high

    def _add_base(self, named: dict[str, Floats], base: Floats, center: Floats, scale: Floats) -> None:
        levels = self.spec.levels
        median = (base[..., levels.index(0.5)] - center[:, None]) / scale[:, None]
        band = (base[..., -1] - base[..., 0]) / scale[:, None]
        for column, name in enumerate(self.spec.targets):
            for kind, values in (("floor_median", median), ("floor_band", band)):
                clipped = normalise(values[:, :, column])
                named[f"decoder:{name}_{kind}"] = self._pool_decoder(clipped)

    def _pool_decoder(self, values: Floats) -> Floats:
        pool = self.spec.decoder_pool
        if pool == 1:
            return values
        return np.asarray(values.reshape(len(values), -1, pool).mean(axis=2), dtype=np.float32)

    def _tensors(self, named: dict[str, Floats], rows: Ints, past: Ints, size: int) -> Batch:
        variables, tokens = self.spec.variables, len(self._token_starts)
        encoder = np.zeros((size, tokens, len(variables.reals)), np.float32)
        decoder = np.zeros((size, self.spec.decoder_tokens, len(variables.reals)), np.float32)
        for column, name in enumerate(variables.reals):
            for part, prefix in ((encoder, "encoder"), (decoder, "decoder")):
                if f"static:{name}" in named:
                    part[:, :, column] = named[f"static:{name}"][:, None]
                elif f"{prefix}:{name}" in named:
                    part[:, :, column] = named[f"{prefix}:{name}"]
        last = self._token_starts + np.array(self.spec.pools) - 1
        states = self.states[rows[:, None], past[:, last]].astype(np.int64)
        profile = self.profiles[rows]
        encoder_cat = np.stack([np.broadcast_to(profile[:, None], states.shape), states], axis=2)
        decoder_cat = np.zeros((size, self.spec.decoder_tokens, 2), np.int64)
        decoder_cat[:, :, 0] = profile[:, None]
        return {
            "encoder_cont": torch.from_numpy(encoder),
            "decoder_cont": torch.from_numpy(decoder),
            "encoder_cat": torch.from_numpy(encoder_cat),
            "decoder_cat": torch.from_numpy(decoder_cat),
        }
