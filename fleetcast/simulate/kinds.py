"""The kinds of incident: what each does to a server, how long it announces itself, and whom it strikes.

An episode has an intensity from 0 to 1 over time. A kind's gains say how far full intensity takes each channel of the
server from its normal course towards its extreme (see `physics`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHANNELS = ("work", "kernel", "iowait", "memory", "disk", "load", "connections", "network")


@dataclass(frozen=True)
class Kind:
    """One kind of incident.

    Attributes:
        gains: channel -> 0..1.
        lead_hours: shortest and longest precursor.
        impact_hours: shortest and longest time from onset to end.
        shape: exponent of the precursor's growth; 1 is a straight line.
        weights: profile -> how often it strikes there, relative to the profile's other kinds.
        driver: a slow channel whose threshold the precursor reaches just at the onset; None for the fast kinds.
        busy: whether it comes mostly in business hours.
        restart: whether its end is a restart of the service, which frees memory.
        sudden: whether it never has a precursor.
        repair_steps: steps without samples after the end, until a reboot.
    """

    name: str
    gains: Mapping[str, float]
    lead_hours: tuple[float, float]
    impact_hours: tuple[float, float]
    shape: float = 1.5
    weights: Mapping[str, float] = field(default_factory=dict)
    driver: str | None = None
    busy: bool = False
    restart: bool = False
    sudden: bool = False
    repair_steps: int = 0


_ALL = (
    Kind(
        "memory_leak",
        {"memory": 1.0},
        (3.0, 14.0),
        (0.75, 2.0),
        shape=1.1,
        weights={"ml_compute": 3, "database": 1, "web_api": 2, "risk_analytics": 3, "generic": 1, "conductor_mgmt": 1},
        driver="memory",
        restart=True,
    ),
    Kind(
        "disk_fill",
        {"disk": 1.0, "iowait": 0.3},
        (4.0, 24.0),
        (1.0, 4.0),
        shape=1.0,
        weights={"ml_compute": 2, "database": 2, "data_ingest": 2, "generic": 1, "web_api": 0.7},
        driver="disk",
    ),
    Kind(
        "cpu_runaway",
        {"work": 1.0},
        (0.4, 1.5),
        (0.75, 2.5),
        weights={"risk_analytics": 3, "ml_compute": 1, "generic": 1, "web_api": 1, "conductor_mgmt": 1},
    ),
    Kind(
        "io_saturation",
        {"iowait": 1.0, "load": 0.3, "connections": 0.25},
        (0.7, 4.0),
        (0.75, 2.5),
        weights={"database": 4, "data_ingest": 2, "generic": 0.5},
        busy=True,
    ),
    Kind(
        "connection_leak",
        {"connections": 1.0, "memory": 0.5, "load": 0.95},
        (2.0, 8.0),
        (0.75, 2.0),
        shape=1.2,
        weights={"web_api": 4, "database": 2},
        restart=True,
    ),
    Kind(
        "traffic_surge",
        {"network": 0.3, "work": 1.0, "connections": 0.5},
        (0.35, 1.0),
        (0.75, 2.0),
        weights={"web_api": 3, "data_ingest": 1},
        busy=True,
    ),
    Kind(
        "network_saturation",
        {"network": 0.95, "kernel": 1.0, "connections": 0.4},
        (0.5, 2.5),
        (0.75, 2.0),
        weights={"data_ingest": 2, "web_api": 1, "database": 0.5},
        busy=True,
    ),
    Kind(
        "thermal_throttling",
        {"work": 0.98, "load": 0.9},
        (1.0, 4.0),
        (1.0, 3.0),
        shape=2.0,
        weights={"ml_compute": 3, "risk_analytics": 1},
    ),
    Kind(
        "scheduler_stall",
        {"load": 1.0, "work": 0.6, "memory": 0.5, "connections": 0.3},
        (0.5, 3.0),
        (0.75, 2.0),
        weights={"conductor_mgmt": 5},
        restart=True,
    ),
    Kind(
        "lag_growth",
        {"disk": 0.7, "iowait": 0.98, "memory": 0.6, "load": 0.6, "network": 0.1},
        (1.0, 6.0),
        (1.0, 3.0),
        weights={"data_ingest": 4},
        busy=True,
    ),
    Kind(
        "noisy_neighbour",
        {"work": 1.0, "iowait": 0.5, "kernel": 0.3},
        (0.35, 1.0),
        (0.75, 1.5),
        weights={"generic": 3, "web_api": 1, "conductor_mgmt": 1},
    ),
    Kind(
        "hardware_failure",
        {"iowait": 1.0, "load": 1.0},
        (0.0, 0.0),
        (0.5, 1.0),
        weights=dict.fromkeys(
            ("ml_compute", "database", "web_api", "conductor_mgmt", "data_ingest", "risk_analytics", "generic"), 0.4
        ),
        sudden=True,
        repair_steps=5,
    ),
    Kind(
        "upstream_stall",
        {"load": 1.0, "connections": 0.6, "work": 0.5, "memory": 0.3},
        (0.0, 0.0),
        (0.75, 2.0),
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
CASCADED = "upstream_stall"


def kinds_of(profile: str) -> tuple[tuple[Kind, float], ...]:
    """The kinds that strike servers of a profile by themselves, with their weights."""
    return tuple((kind, kind.weights[profile]) for kind in _ALL if profile in kind.weights)
