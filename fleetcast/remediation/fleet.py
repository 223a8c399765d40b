"""The fleet around a plan: which servers share a profile or a cell with those that it touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fleetcast.remediation.views import BlastRadius


class Surroundings:
    """Profiles of the fleet's servers, and its cells: the servers that depend on one another, directly or not."""

    def __init__(self, profiles: Mapping[str, str], edges: Iterable[tuple[str, str]] = ()) -> None:
        self._profiles = profiles
        self._parent: dict[str, str] = {}
        for one, other in edges:
            self._parent[self._root(one)] = self._root(other)

    @property
    def is_known(self) -> bool:
        """Whether there are any servers to count."""
        return bool(self._profiles)

    def blast_radius(self, servers: Sequence[str], profile: str) -> BlastRadius:
        """What a plan touches that acts on these servers of a profile."""
        touched = set(servers)
        same = {name for name, found in self._profiles.items() if found == profile} | touched
        roots = {self._root(name) for name in touched}
        cell = {name for name in self._profiles if self._root(name) in roots} | touched
        return BlastRadius(
            servers=len(touched), share_of_profile=len(touched) / len(same), share_of_cell=len(touched) / len(cell)
        )

    def _root(self, name: str) -> str:
        """The name of a cell; a server without an edge is one by itself."""
        while (above := self._parent.get(name, name)) != name:
            name = above
        return name
