"""Rivals by the names that `fleetcast backtest --rivals` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from fleetcast.dataset.manifest import Manifest
from fleetcast.errors import UsageError
from fleetcast.evaluation.gradient import GradientRival
from fleetcast.evaluation.limits import REFERENCE_WINDOWS, OracleRival, ReferenceRival
from fleetcast.evaluation.protocol import ForecasterManifest, Rival, Scoring
from fleetcast.evaluation.rivals import ORACLE, REFERENCE, UNTRAINED
from fleetcast.evaluation.sampled import SampledRival, auto_theta_command
from fleetcast.evaluation.source import FleetSource
from fleetcast.evaluation.splits import Origins
from fleetcast.simulate.frozen import frozen_evaluation
from fleetcast.simulate.spec import spec_of_source

LIGHTGBM, AUTO_THETA = "lightgbm", "auto_theta"
GROUPS = {"untrained": tuple(UNTRAINED), "none": ()}
NAMES = (*UNTRAINED, LIGHTGBM, ORACLE, REFERENCE, AUTO_THETA)


def rival_names(words: Sequence[str] | None) -> tuple[str, ...]:
    """The rivals asked for, each once, groups spelt out; None is the untrained ones. Raises `UsageError`."""
    found = [name for word in words or ("untrained",) for name in GROUPS.get(word, (word,))]
    unknown = [name for name in found if name not in NAMES]
    if unknown:
        raise UsageError(f"unknown rival {unknown[0]!r}; there are {', '.join((*GROUPS, *NAMES))}")
    return tuple(name for name in NAMES if name in found)


def make_rivals(
    names: Sequence[str],
    source: FleetSource,
    dataset: Manifest,
    model: ForecasterManifest,
    levels: Sequence[float],
    first_origin: datetime,
    reference_windows: int = REFERENCE_WINDOWS,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Rival]:
    """The rivals of these names, ready to forecast; those that learn are fitted up to the model's cutoff.

    Args:
        names: as `rival_names` gives them.
        source: the servers that are scored.
        dataset: tells whether and how the data was simulated.
        model: tells what is forecast, and the cutoff.
        levels: quantile levels that are scored.
        first_origin: the first origin that is scored.
        reference_windows: windows that the reference learns on.
        say: is told what takes long.

    Raises:
        DatasetError: the oracle or the reference is asked for where the data was not simulated.
        UsageError: a rival that cannot be made here.
    """
    rivals: dict[str, Rival] = {name: UNTRAINED[name] for name in names if name in UNTRAINED}
    if LIGHTGBM in names:
        say("fitting LightGBM on windows before the cutoff")
        rivals[LIGHTGBM] = GradientRival.fit(source, tuple(model.targets), levels, model.horizon, model.cutoff)
    if ORACLE in names or REFERENCE in names:
        spec = spec_of_source(dataset.source)
        if ORACLE in names:
            rivals[ORACLE] = OracleRival(spec)
        if REFERENCE in names:
            say(f"fitting the observations-only reference on {reference_windows:,} windows of a simulated corpus")
            history = int((first_origin - dataset.start).total_seconds()) // dataset.step_seconds + 1
            rivals[REFERENCE] = ReferenceRival.fit(
                spec, frozen_evaluation().corpus, tuple(model.targets), model.horizon, history, reference_windows
            )
    return rivals


def make_scorings(names: Sequence[str], source: FleetSource, origins: Origins) -> list[Scoring]:
    """What is scored besides the forecasts of all servers, a section of the report each.

    `names` are the rivals asked for. Raises `UsageError` when one cannot be had here.
    """
    return [SampledRival(AUTO_THETA, auto_theta_command(), source.servers, origins)] if AUTO_THETA in names else []
