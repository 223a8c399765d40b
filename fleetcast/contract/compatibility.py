"""Whether a model fits data: both sides as plain descriptions, every difference named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleetcast.contract.vocabulary import PROFILES, STATES, STEP_SECONDS, VERSION
from fleetcast.errors import IncompatibleError


@dataclass(frozen=True)
class Side:
    """What one side of a comparison has or needs."""

    name: str
    contract_version: str
    step_seconds: int
    metrics: tuple[str, ...]
    profiles: tuple[str, ...] = PROFILES
    states: tuple[str, ...] = STATES


def this_contract(metrics: Sequence[str], name: str = "this FleetCast") -> Side:
    """The running code's own side."""
    return Side(name, VERSION, STEP_SECONDS, tuple(metrics))


def require_fit(model: Side, data: Side) -> None:
    """Raise `IncompatibleError` with all differences unless `data` has what `model` needs.

    Contract versions fit when their major numbers are equal; vocabularies and step must be equal; the data must have
    each metric that the model needs. Which profiles happen to occur in the data does not matter.
    """
    differences: list[tuple[str, object, object]] = []
    if model.contract_version.split(".")[0] != data.contract_version.split(".")[0]:
        differences.append(("contract version", model.contract_version, data.contract_version))
    for what in ("step_seconds", "profiles", "states"):
        left, right = getattr(model, what), getattr(data, what)
        if left != right:
            differences.append((what, left, right))
    missing = [name for name in model.metrics if name not in data.metrics]
    if missing:
        differences.append(("metrics", model.metrics, data.metrics))
    if differences:
        raise IncompatibleError(model.name, data.name, differences)
