"""Digests of simulated values: the same on every machine, whatever the shards and the rest of the fleet."""

from __future__ import annotations

from hashlib import sha256

from fleetcast.simulate.simulator import SimulatedArrays


def server_digests(arrays: SimulatedArrays) -> dict[str, str]:
    """SHA-256 of each server's values (all metrics in the contract's order, gaps included) and states, by name."""
    found = {}
    for row, name in enumerate(arrays.servers):
        digest = sha256()
        for series in arrays.values.values():
            digest.update(series[row].astype(series.dtype.newbyteorder("<")).tobytes())
        digest.update(arrays.states[row].tobytes())
        found[name] = digest.hexdigest()
    return found


def fleet_digest(arrays: SimulatedArrays) -> str:
    """SHA-256 over the servers' digests in the order of their names."""
    each = server_digests(arrays)
    return sha256("".join(each[name] for name in sorted(each)).encode()).hexdigest()
