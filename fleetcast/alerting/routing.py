"""Who is told of an alert: a tree of routes in YAML, in the manner of Alertmanager; the default ships with the package.

An alert goes down the tree from the root. Of a route's children it takes the first that fits, and goes on to the next
one only where that says `continue`; where none fits, the route itself is taken. Receivers, ladder, `respond_within` and
`shadow` are a parent's where a child does not say; mute and active times are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

from fleetcast.alerting.matchers import Matcher, all_match
from fleetcast.alerting.receivers import Receiver
from fleetcast.alerting.routes import EscalationStep, Route, RoutingFile
from fleetcast.alerting.views import AlertLevel, EscalationRow, RoutingRow
from fleetcast.located import Located, Place, read_yaml

MEANINGS: dict[AlertLevel, str] = {
    "P1": "incident open now, or P(incident in 30 min) above 70 %",
    "P2": "P(incident in 30 min) above 40 %",
    "P3": "P(incident in 8 h) above 50 %",
    "P4": "below",
}


@dataclass(frozen=True)
class Branch:
    """A route that an alert takes, with what it got from its parents; times are those of the route itself."""

    name: str
    receivers: tuple[str, ...]
    respond_within: str
    escalation: tuple[EscalationStep, ...]
    shadow: bool
    mute_times: tuple[str, ...]
    active_times: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One route that was looked at on the way of an alert."""

    depth: int
    route: str
    line: int
    fits: bool
    why: str


class Routing:
    """Receivers, routes, times and windows of a file."""

    def __init__(self, content: Located, shadow: bool = True) -> None:
        self._located, self._shadow = content, shadow
        self._file = content.read(RoutingFile)
        self.receivers: Mapping[str, Receiver] = self._file.receivers
        self._check()

    @classmethod
    def default(cls, shadow: bool = True) -> Routing:
        """The routing that ships with FleetCast."""
        return cls.parse(
            resources.files("fleetcast.alerting").joinpath("routing.yaml").read_text("utf-8"), "default", shadow
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None, shadow: bool = True) -> Routing:
        """Routing from a YAML file, or the default. Raises `UsageError` with line and column of a mistake."""
        return cls.default(shadow) if path is None else cls(read_yaml(path), shadow)

    @classmethod
    def parse(cls, content: str, origin: str, shadow: bool = True) -> Routing:
        """Routing from YAML text; `origin` names it in errors; `shadow` is for routes that do not say."""
        return cls(Located(content, origin), shadow)

    @property
    def shadow(self) -> bool:
        """Whether all routes are in shadow mode: nothing leaves."""
        return all(branch.shadow for branch in self.branches())

    def branches_of(self, attributes: Mapping[str, str]) -> list[Branch]:
        """The routes that an alert takes."""
        return self._walk(self._file.route, self._root(), ("route",), attributes, 0, None)

    def explain(self, attributes: Mapping[str, str]) -> tuple[list[Step], list[Branch]]:
        """The routes that were looked at, in order, and those taken."""
        steps: list[Step] = []
        return steps, self._walk(self._file.route, self._root(), ("route",), attributes, 0, steps)

    def branch_named(self, name: str) -> Branch | None:
        """A route by its name."""
        return next((branch for branch in self.branches() if branch.name == name), None)

    def branches(self) -> list[Branch]:
        """All routes, each before its children."""
        return [branch for branch, _ in self._branches(self._file.route, self._root(), ("route",))]

    def muted(self, branch: Branch, now: datetime) -> str | None:
        """Why a route tells nobody now; None when it does."""
        for name in branch.mute_times:
            if any(interval.contains(now) for interval in self._file.times[name]):
                return f"muted by {name}"
        if branch.active_times and not any(
            interval.contains(now) for name in branch.active_times for interval in self._file.times[name]
        ):
            return f"outside of {', '.join(branch.active_times)}"
        return None

    def maintenance(self, attributes: Mapping[str, str], now: datetime) -> str | None:
        """The recurring window that an alert falls into, in words."""
        for window in self._file.maintenance:
            if all_match(window.matchers, attributes) and any(one.contains(now) for one in window.times):
                return f"maintenance window {window.name}"
        return None

    def matrix(self) -> list[RoutingRow]:
        """The routing of an alert of which only the level is known, one row a level."""
        return [self._row(level) for level in MEANINGS]

    def _row(self, level: AlertLevel) -> RoutingRow:
        taken = self.branches_of({"level": level})
        ladder = [step for branch in taken for step in branch.escalation]
        steps = sorted({(step.after_s, self.receivers[step.to].label) for step in ladder})
        return RoutingRow(
            level=level,
            meaning=MEANINGS[level],
            route=list(dict.fromkeys(self.receivers[name].label for branch in taken for name in branch.receivers)),
            respond_within=", ".join(dict.fromkeys(branch.respond_within for branch in taken)),
            escalation=[EscalationRow(after_s=after, to=to) for after, to in steps],
            shadow=all(branch.shadow for branch in taken),
        )

    def _root(self) -> Branch:
        return Branch("", (), "", (), self._shadow, (), ())

    def _walk(
        self,
        route: Route,
        parent: Branch,
        place: Place,
        attributes: Mapping[str, str],
        depth: int,
        steps: list[Step] | None,
    ) -> list[Branch]:
        failed = [matcher for matcher in route.matchers if not matcher.matches(attributes)]
        if steps is not None:
            steps.append(Step(depth, route.name, self._located.line(place), not failed, _why(route, failed)))
        if failed:
            return []
        own, found = _inherit(route, parent), list[Branch]()
        for number, child in enumerate(route.routes):
            taken = self._walk(child, own, (*place, "routes", number), attributes, depth + 1, steps)
            found += taken
            if taken and not child.goes_on:
                break
        return found or [own]

    def _branches(self, route: Route, parent: Branch, place: tuple[int | str, ...]) -> Iterator[tuple[Branch, Place]]:
        own = _inherit(route, parent)
        yield own, place
        for number, child in enumerate(route.routes):
            yield from self._branches(child, own, (*place, "routes", number))

    def _check(self) -> None:
        """What the types do not say. Raises `UsageError`."""
        if self._file.route.matchers or self._file.route.receivers is None:
            raise self._located.wrong(("route",), "the root takes all alerts: it needs receivers, and no matchers")
        seen: set[str] = set()
        for branch, place in self._branches(self._file.route, self._root(), ("route",)):
            if branch.name in seen:
                raise self._located.wrong((*place, "name"), f"another route has the name {branch.name!r} already")
            seen.add(branch.name)
            self._check_names(place, "receivers", branch.receivers, self.receivers)
            self._check_names(place, "escalation", [step.to for step in branch.escalation], self.receivers)
            self._check_names(place, "mute_times", branch.mute_times, self._file.times)
            self._check_names(place, "active_times", branch.active_times, self._file.times)
            if not branch.shadow:
                self._check_complete(place, branch)

    def _check_names(self, place: Place, field: str, names: Sequence[str], known: Mapping[str, object]) -> None:
        unknown = [name for name in names if name not in known]
        if unknown:
            there = ", ".join(sorted(known)) or "none"
            raise self._located.wrong((*place, field), f"unknown {', '.join(unknown)}; there are {there}")

    def _check_complete(self, place: Place, branch: Branch) -> None:
        for name in (*branch.receivers, *(step.to for step in branch.escalation)):
            missing = self.receivers[name].missing()
            if missing:
                raise self._located.wrong(
                    ("receivers", name),
                    f"the route {branch.name!r} sends to it (shadow is false), but it lacks {', '.join(missing)}",
                )


def _why(route: Route, failed: Sequence[Matcher]) -> str:
    if failed:
        return f"not {', '.join(map(str, failed))}"
    return ", ".join(map(str, route.matchers)) or "takes all"


def _inherit(route: Route, parent: Branch) -> Branch:
    return Branch(
        route.name,
        parent.receivers if route.receivers is None else route.receivers,
        parent.respond_within if route.respond_within is None else route.respond_within,
        parent.escalation if route.escalation is None else route.escalation,
        parent.shadow if route.shadow is None else route.shadow,
        route.mute_times,
        route.active_times,
    )
