"""Who is in the fleet: profile and name of each server, its cell, and what it depends on.

All follow from a server's index and the seed, so that any shard knows them without the others, and a server is the
same in a larger fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fleetcast.compiling import compiled
from fleetcast.contract.vocabulary import PROFILES
from fleetcast.simulate.randomness import Stream, uniforms
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
_TOPOLOGY = int(Stream.TOPOLOGY)


@dataclass(frozen=True)
class Dependency:
    """`downstream` (server indices) needs `upstream`; `strength` is the chance that an incident is passed on whole."""

    upstream: int
    downstream: int
    strength: float


class Layout:
    """The servers of a fleet by index, 0 to `spec.servers` - 1.

    A server depends only on servers of lower index in its cell, so that what it depends on does not change when the
    fleet grows.
    """

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self._needed: dict[int, tuple[tuple[int, ...], ...]] = {}

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
        """What a server depends on: one earlier server of its cell for each profile that its own needs, if any."""
        first, place = server - server % CELL_SERVERS, server % CELL_SERVERS
        found = [first + offset for offset in self._needs(first)[place]]
        low, high = STRENGTH
        draw = [_edge_draw(self.spec.seed, upstream, server) for upstream in found]
        return [
            Dependency(upstream, server, low + (high - low) * float(one))
            for upstream, one in zip(found, draw, strict=True)
        ]

    def downstreams(self, server: int) -> list[Dependency]:
        """The dependencies of other servers on this one."""
        found = [edge for other in self.cell(server) for edge in self.upstreams(other)]
        return [edge for edge in found if edge.upstream == server]

    def with_upstreams(self, servers: list[int]) -> list[int]:
        """These servers and all that they depend on, directly or not, in order."""
        reached: set[int] = set()
        waiting = list(servers)
        while waiting:
            server = waiting.pop()
            if server not in reached:
                reached.add(server)
                first = server - server % CELL_SERVERS
                waiting += [first + offset for offset in self._needs(first)[server % CELL_SERVERS]]
        return sorted(reached)

    def _needs(self, first: int) -> tuple[tuple[int, ...], ...]:
        """For each place of the cell that begins at `first`, the places that it depends on."""
        phase = first % len(self._pattern)
        if phase not in self._needed:
            profiles = [self.profile(phase + place) for place in range(CELL_SERVERS)]
            self._needed[phase] = tuple(tuple(_needs_of(profiles, place)) for place in range(CELL_SERVERS))
        return self._needed[phase]


def _needs_of(profiles: list[str], place: int) -> list[int]:
    profile = profiles[place]
    rank = profiles[:place].count(profile)
    found = []
    for needed in UPSTREAM_PROFILES.get(profile, ()):
        candidates = [other for other in range(place) if profiles[other] == needed]
        if candidates:
            found.append(candidates[rank % len(candidates)])
    return found


@compiled
def _edge_draw(seed: int, upstream: int, downstream: int) -> float:
    return uniforms(upstream, downstream, _TOPOLOGY, 0, seed)[0]  # type: ignore[no-any-return]
