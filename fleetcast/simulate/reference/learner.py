"""The observations-only reference: how well a strong learner forecasts a simulated fleet without its latent state.

A network that has seen a very large simulated corpus reads what any forecaster may see at an origin: the server's own
samples up to it, the calendar, the profile. It is an upper reference beside an oracle that knows the causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fleetcast.contract.vocabulary import QUANTILE_LEVELS, STEPS_PER_DAY
from fleetcast.errors import UsageError
from fleetcast.simulate.reference.corpus import RISK_STEPS, Corpus, Integers
from fleetcast.simulate.reference.features import DAY, Calendar, Fleet
from fleetcast.simulate.reference.network import BATCH, OnsetNetwork, QuantileNetwork, fit_quantiles, mixing_of
from fleetcast.simulate.reference.scales import CODES, Floats, Scales, highest

CONTEXT = 7 * STEPS_PER_DAY
LONGEST_HORIZON = STEPS_PER_DAY // 2
SAMPLE = 8192  # windows that the features' spread is taken from
CHUNK = 1024  # windows forecast at a time


@dataclass(frozen=True)
class ObservationReference:
    """A fitted reference; `base_rates` are the corpus's shares of windows with an onset within `RISK_STEPS`."""

    metrics: tuple[str, ...]
    targets: tuple[str, ...]
    context: int
    horizon: int
    scales: Scales
    known_profiles: frozenset[int]
    highest: Floats
    base_rates: npt.NDArray[np.float64]
    quantiles: QuantileNetwork
    onsets: OnsetNetwork | None

    @classmethod
    def fit(
        cls,
        values: Floats,
        metrics: tuple[str, ...],
        profiles: Integers,
        hour_of_day: npt.NDArray[np.floating],
        weekday: Integers,
        trading: npt.NDArray[np.bool_],
        onsets: npt.NDArray[np.bool_],
        *,
        windows: int = 1_000_000,
        context: int = CONTEXT,
        horizon: int = 96,
        seed: int,
    ) -> ObservationReference:
        """Fit on `windows` random windows of a corpus; the same arguments and number of threads give the same.

        Args:
            values: [server, time, metric] float32 on the 5-minute grid, NaN where there is no sample.
            metrics: names of the contract in the order of the last axis, a forecast target among them.
            profiles: profile codes [server].
            hour_of_day: 0 to 24 [time], in the fleet's zone.
            weekday: 0 (Monday) to 6 [time].
            trading: whether the day is a trading day [time].
            onsets: True at the first step of an incident [server, time].
            windows: each is an origin of a server, seen once.
            context: steps up to an origin that are read, 288 to 2,016.
            horizon: steps ahead, 1 to 144.
            seed: of the draws.

        Raises:
            UsageError: arrays that do not fit each other, or lengths out of range.
        """
        calendar = (hour_of_day, weekday, trading)
        _check_settings(windows, context, horizon)
        _check_fleet(values, metrics, profiles, calendar)
        last = values.shape[1] - 1 - max(horizon, *RISK_STEPS)
        if onsets.shape != values.shape[:2]:
            raise UsageError(f"onsets have shape {onsets.shape}, expected [server, time] = {values.shape[:2]}")
        if last < context - 1:
            raise UsageError(f"{values.shape[1]} steps are too few for a context of {context} and what follows it")
        limit = highest(values, metrics)
        codes = profiles.astype(np.int64)
        scales = Scales.of(values, metrics, codes)
        fleet = Fleet(scales, values, codes, calendar, context)
        draw = Corpus(fleet, values, onsets, (context - 1, last), horizon, np.random.default_rng(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sample = draw.features(*draw.anywhere(SAMPLE))[0]
            network = QuantileNetwork(sample, (len(scales.targets), horizon, len(QUANTILE_LEVELS)))
            steps = -(-windows // BATCH)
            fit_quantiles(network, draw.batches(steps), steps, torch.tensor(QUANTILE_LEVELS))
            rates, risk = draw.risk(windows, sample)
        return cls(
            metrics=metrics,
            targets=tuple(metrics[position] for position in scales.targets),
            context=context,
            horizon=horizon,
            scales=scales,
            known_profiles=frozenset(codes.tolist()),
            highest=limit,
            base_rates=rates,
            quantiles=network,
            onsets=risk,
        )

    def predict(
        self,
        values: Floats,
        profiles: Integers,
        hour_of_day: npt.NDArray[np.floating],
        weekday: Integers,
        trading: npt.NDArray[np.bool_],
        origins: Integers,
        levels: Sequence[float] = QUANTILE_LEVELS,
    ) -> tuple[Floats, npt.NDArray[np.float64]]:
        """Forecast every server at every origin, from nothing later than the sample at the origin.

        Args:
            values: [server, time, metric] as in `fit`.
            profiles: profile codes [server] that the corpus had.
            hour_of_day: [time'], with `weekday` and `trading`; they must reach a horizon beyond the last origin.
            weekday: [time'].
            trading: [time'].
            origins: indices of the last samples seen [origin], each with the whole context up to it.
            levels: quantile levels, ascending; between the fitted ones they are interpolated.

        Returns:
            Quantiles float32 [origin, server, target, step, level] in the targets' units, and the probabilities
            float64 [origin, server, 3] of an onset within 30 min, 2 h and 8 h.

        Raises:
            UsageError: arrays that do not fit each other or the reference, or an origin that cannot be forecast.
        """
        calendar = (hour_of_day, weekday, trading)
        _check_fleet(values, self.metrics, profiles, calendar)
        self._check_origins(values, profiles, calendar, origins)
        mixing = mixing_of(levels)
        codes = profiles.astype(np.int64)
        fleet = Fleet(self.scales, values, codes, calendar, self.context)
        server = torch.arange(len(values)).repeat(len(origins))
        origin = torch.as_tensor(origins).long().repeat_interleave(len(values))
        cuts = [slice(at, at + CHUNK) for at in range(0, len(server), CHUNK)]
        parts = [self._forecast(fleet, server[cut], origin[cut], mixing) for cut in cuts]
        quantiles = np.concatenate([quantile for quantile, _ in parts])
        probabilities = np.concatenate([probability for _, probability in parts])
        shape = (len(origins), len(values))
        return quantiles.reshape(*shape, *quantiles.shape[1:]), probabilities.reshape(*shape, len(RISK_STEPS))

    @torch.no_grad()
    def _forecast(
        self, fleet: Fleet, server: Tensor, origin: Tensor, mixing: Tensor
    ) -> tuple[Floats, npt.NDArray[np.float64]]:
        features, level, curves = fleet.features(server, origin, self.horizon)
        scaled = self.quantiles(features, level, curves).sort(dim=-1).values @ mixing.T
        row = (fleet.profile[server].numpy()[:, None], np.array(fleet.targets)[None])
        units = scaled.numpy() * self.scales.spread[row][..., None, None] + self.scales.mean[row][..., None, None]
        bounded = np.clip(units, 0.0, self.highest[:, None, None])
        return np.sort(bounded.astype(np.float32), axis=-1), self._probabilities(features)

    def _probabilities(self, features: Tensor) -> npt.NDArray[np.float64]:
        """Within (0, 1), and never smaller for a longer time."""
        if self.onsets is None:
            return np.tile(self.base_rates, (len(features), 1))
        learnt = self.onsets(features).numpy()
        return np.asarray(np.maximum.accumulate(np.clip(learnt, 1e-5, 1 - 1e-5), axis=1))

    def _check_origins(self, values: Floats, profiles: Integers, calendar: Calendar, origins: Integers) -> None:
        strange = sorted(set(profiles.tolist()) - self.known_profiles)
        if strange:
            raise UsageError(f"profile codes {strange} were not in the corpus, which had {sorted(self.known_profiles)}")
        last = min(values.shape[1] - 1, len(calendar[0]) - 1 - self.horizon)
        if origins.ndim != 1 or not len(origins) or origins.min() < self.context - 1 or origins.max() > last:
            raise UsageError(
                f"origins must be a list of indices from {self.context - 1} (a whole context) to {last} "
                f"(the calendar reaches {self.horizon} steps further)"
            )


def _check_settings(windows: int, context: int, horizon: int) -> None:
    if not DAY <= context <= CONTEXT:
        raise UsageError(f"context is {context} steps; give {DAY} to {CONTEXT}")
    if not 1 <= horizon <= LONGEST_HORIZON:
        raise UsageError(f"horizon is {horizon} steps; give 1 to {LONGEST_HORIZON}")
    if windows < BATCH:
        raise UsageError(f"windows is {windows}; give at least {BATCH}")


def _check_fleet(values: Floats, metrics: tuple[str, ...], profiles: Integers, calendar: Calendar) -> None:
    if values.ndim != 3 or values.dtype != np.float32 or not values.size or values.shape[2] != len(metrics):
        raise UsageError(
            f"values are {values.dtype} of shape {values.shape}, expected float32 [server, time, {len(metrics)}]"
        )
    if profiles.shape != values.shape[:1] or profiles.min() < 0 or profiles.max() >= CODES:
        raise UsageError(f"profiles have shape {profiles.shape}; give {len(values)} codes from 0 to {CODES - 1}")
    lengths = [series.shape for series in calendar]
    if len(set(lengths)) != 1 or len(lengths[0]) != 1 or lengths[0][0] < values.shape[1]:
        raise UsageError(f"calendar arrays have shapes {lengths}, expected one length of at least {values.shape[1]}")
