"""Which servers a model was trained on: the second axis of the split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.dataset.manifest import Manifest
from fleetcast.errors import EvaluationError
from fleetcast.model.manifest import BundleManifest

SIMULATED = "simulated"
ANY_LENGTH = {"hours", "servers"}  # of a simulation: another length or number of servers is the same fleet


def seen_servers(
    model: BundleManifest, scored: Manifest, trained_on: Manifest | None = None
) -> npt.NDArray[np.bool_] | None:
    """Of each server of the scored dataset, in its manifest's order, whether training saw it; None where not known.

    Known are: the dataset that was trained on itself; one given as `trained_on`, whose fingerprint must be the
    bundle's; and a list `servers` in the bundle's `training`. A server is the same when it has the same name and, in
    simulated fleets, the fleets have the same specification. Raises `EvaluationError` when `trained_on` is other data.
    """
    names = scored.servers
    if trained_on is not None and trained_on.fingerprint != model.data_fingerprint:
        raise EvaluationError(
            f"the bundle {model.run} was trained on data with the fingerprint {model.data_fingerprint[:12]}, "
            f"--trained-on has {trained_on.fingerprint[:12]}: give the dataset that it was trained on"
        )
    same_data = scored.fingerprint == model.data_fingerprint
    listed = model.training.get("servers")
    if trained_on is not None and not _same_fleet(trained_on, scored):
        return np.zeros(len(names), bool)
    if trained_on is None and not same_data and (listed is None or scored.source.get("kind") == SIMULATED):
        return None
    known = set(listed if listed is not None else names if trained_on is None else trained_on.servers)
    return np.array([name in known for name in names])


def unseen_only(seen: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    """The servers that training never saw; raises `EvaluationError` where that is not known or there are none."""
    if seen is None:
        raise EvaluationError(
            "which servers training saw is not known: name the dataset that the bundle was trained on with --trained-on"
        )
    if seen.all():
        raise EvaluationError("training saw every server of the data: bring others, or leave out --unseen")
    return ~seen


def _same_fleet(one: Manifest, other: Manifest) -> bool:
    """Whether the same name means the same server: always on real data, for one specification where simulated."""
    specs = [
        {key: value for key, value in manifest.source.get("spec", {}).items() if key not in ANY_LENGTH}
        if manifest.source.get("kind") == SIMULATED
        else None
        for manifest in (one, other)
    ]
    return specs[0] == specs[1]
