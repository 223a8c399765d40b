"""Who is in the fleet: profile and name of each server, its cell, and what it depends on.

All follow from a server's index, so that any shard knows them without the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fleetcast.contract.vocabulary import PROFILES
from fleetcast.simulate.randomness import named_stream
from fleetcast.simulate.spec import FleetSpec

SHARES = {  # per cent of a fleet
    "ml_compute": 22,
    "database": 17,
    "web_api": 28,
    "conductor_mgmt": 6,
    "data_ingest": 11,
    "risk_analytics": 9,
    "generic": 7,
}
NAME_PREFIXES = dict(zip(PROFILES, ("ppml", "ppdb", "ppweb", "ppcon", "ppetl", "pprisk", "ppgen"), strict=True))
CELL_SERVERS = 25
UPSTREAM_PROFILES: dict[str, tuple[str, ...]] = {
    "web_api": ("database",),
    "data_ingest": ("database",),
    "risk_analytics": ("database",),
    "ml_compute": ("conductor_mgmt", "data_ingest"),
}
STRENGTH = (0.2, 0.6)  # range of a dependency's strength


@dataclass(frozen=True)
class Dependency:
    """`downstream` (server indices) needs `upstream`; `strength` is the chance that an incident is passed on whole."""

    upstream: int
    downstream: int
    strength: float


class Layout:
    """The servers of a fleet by index, 0 to `spec.servers` - 1."""

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec

    @cached_property
    def _pattern(self) -> tuple[tuple[str, int], ...]:
        """(profile, its rank among its like) of the first servers; repeats after as many servers as the shares add."""
        shares = {name: SHARES[name] for name in self.spec.profiles}
        period = sum(shares.values())
        placed = dict.fromkeys(shares, 0)
        pattern = []
        for count in range(1, period + 1):
            profile = max(shares, key=lambda name: shares[name] * count - placed[name] * period)
            pattern.append((profile, placed[profile]))
            placed[profile] += 1
        return tuple(pattern)

    def profile(self, server: int) -> str:
        """Profile of a server."""
        return self._pattern[server % len(self._pattern)][0]

    def name(self, server: int) -> str:
        """Host name of a server: its profile's prefix and a number."""
        rounds, position = divmod(server, len(self._pattern))
        profile, rank = self._pattern[position]
        return f"{NAME_PREFIXES[profile]}{rounds * SHARES[profile] + rank + 1:04d}"

    def cell(self, server: int) -> range:
        """Indices of the servers of the same cell."""
        first = server // CELL_SERVERS * CELL_SERVERS
        return range(first, min(first + CELL_SERVERS, self.spec.servers))

    def upstreams(self, server: int) -> list[Dependency]:
        """What a server depends on: one server of its cell for each profile that its own needs."""
        profile = self.profile(server)
        cell = self.cell(server)
        rank = sum(self.profile(other) == profile for other in cell if other < server)
        found = []
        for needed in UPSTREAM_PROFILES.get(profile, ()):
            candidates = [other for other in cell if self.profile(other) == needed]
            if candidates:
                upstream = candidates[rank % len(candidates)]
                draw = named_stream(self.spec.seed, f"dependency/{upstream}/{server}").uniform(*STRENGTH)
                found.append(Dependency(upstream, server, float(draw)))
        return found

    def downstreams(self, server: int) -> list[Dependency]:
        """The dependencies of other servers on this one."""
        found = [edge for other in self.cell(server) for edge in self.upstreams(other)]
        return [edge for edge in found if edge.upstream == server]
