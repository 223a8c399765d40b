"""Scenarios: what trouble is forced upon a fleet, beside its own."""

from __future__ import annotations

from dataclasses import dataclass

from fleetcast.errors import UsageError

LASTS_DAYS = 10  # a scenario goes on this long unless another one is chosen


@dataclass(frozen=True)
class Scenario:
    """Waves of trouble: in each, a share of the fleet gets an incident with a lead in this range."""

    share: float
    lead_hours: tuple[float, float]
    wave_hours: float
    description: str


SCENARIOS = {
    "healthy": Scenario(0.0, (0.0, 0.0), 0.0, "no trouble but the fleet's own"),
    "degrading": Scenario(0.2, (1.0, 3.0), 6.0, "several servers get slowly worse, to strike in 1 to 3 hours"),
    "critical": Scenario(0.2, (0.25, 0.5), 4.0, "several servers strike within 15 to 30 minutes"),
    "cascade": Scenario(0.0, (0.4, 0.5), 8.0, "a database goes down and its dependants follow"),
}


def scenario(name: str) -> Scenario:
    """The scenario of this name. Raises `UsageError` with the known names."""
    if name not in SCENARIOS:
        raise UsageError(f"unknown scenario {name!r}; choose from {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
