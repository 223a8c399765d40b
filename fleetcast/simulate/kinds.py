"""The kinds of incident: what each does to a server, how long it announces itself, and whom it strikes.

An episode has an intensity from 0 to 1 over time. A kind's gains say how far full intensity takes each channel of the
server from its normal course towards its extreme (see `physics`). `gain_table` and `kind_table` are the same facts as
arrays, for the compiled loops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import PROFILES, STEPS_PER_HOUR
from fleetcast.simulate.actions import Action

CHANNELS = ("work", "kernel", "iowait", "memory", "disk", "load", "connections", "network")


@dataclass(frozen=True)
class Kind:
    """One kind of incident.

    Attributes:
        gains: channel -> 0..1.
        lead_hours: shortest and longest expected precursor (log-uniform); the real one is random around it.
        impact_hours: shortest and longest time from onset to end.
        shape: exponent of the precursor's growth; 1 is a straight line.
        weights: profile -> how often it strikes there, relative to the profile's other kinds.
        driver: a slow channel whose threshold the precursor reaches just at the onset; None for the fast kinds.
        busy: whether it comes mostly in business hours.
        restart: whether its end is a restart of the service, which frees memory.
        sudden: whether it never has a precursor.
        repair_hours: shortest and longest time without samples after the end, until a reboot.
        ended_by: remediation that ends it, in its precursor or its impact.
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
    repair_hours: tuple[float, float] = (0.0, 0.0)
    ended_by: tuple[Action, ...] = ()


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
        ended_by=(Action.RESTART, Action.REBOOT),
    ),
    Kind(
        "disk_fill",
        {"disk": 1.0, "iowait": 0.3},
        (4.0, 24.0),
        (1.0, 4.0),
        shape=1.0,
        weights={"ml_compute": 2, "database": 2, "data_ingest": 2, "generic": 1, "web_api": 0.7},
        driver="disk",
        ended_by=(Action.CLEAR_DISK,),
    ),
    Kind(
        "cpu_runaway",
        {"work": 1.0},
        (0.4, 1.5),
        (0.75, 2.5),
        weights={"risk_analytics": 3, "ml_compute": 1, "generic": 1, "web_api": 1, "conductor_mgmt": 1},
        ended_by=(Action.RESTART, Action.REBOOT),
    ),
    Kind(
        "io_saturation",
        {"iowait": 1.0, "load": 0.3, "connections": 0.25},
        (0.7, 4.0),
        (0.75, 2.5),
        weights={"database": 4, "data_ingest": 2, "generic": 0.5},
        busy=True,
        ended_by=(Action.THROTTLE,),
    ),
    Kind(
        "connection_leak",
        {"connections": 1.0, "memory": 0.5, "load": 0.95},
        (2.0, 8.0),
        (0.75, 2.0),
        shape=1.2,
        weights={"web_api": 4, "database": 2},
        restart=True,
        ended_by=(Action.RESTART, Action.REBOOT),
    ),
    Kind(
        "traffic_surge",
        {"network": 0.3, "work": 1.0, "connections": 0.5},
        (0.35, 1.0),
        (0.75, 2.0),
        weights={"web_api": 3, "data_ingest": 1},
        busy=True,
        ended_by=(Action.ADD_CAPACITY, Action.THROTTLE),
    ),
    Kind(
        "network_saturation",
        {"network": 0.95, "kernel": 1.0, "connections": 0.4},
        (0.5, 2.5),
        (0.75, 2.0),
        weights={"data_ingest": 2, "web_api": 1, "database": 0.5},
        busy=True,
        ended_by=(Action.ADD_CAPACITY, Action.THROTTLE),
    ),
    Kind(
        "thermal_throttling",
        {"work": 0.98, "load": 0.9},
        (1.0, 4.0),
        (1.0, 3.0),
        shape=2.0,
        weights={"ml_compute": 3, "risk_analytics": 1},
        ended_by=(Action.DRAIN,),
    ),
    Kind(
        "scheduler_stall",
        {"load": 1.0, "work": 0.6, "memory": 0.5, "connections": 0.3},
        (0.5, 3.0),
        (0.75, 2.0),
        weights={"conductor_mgmt": 5},
        restart=True,
        ended_by=(Action.RESTART, Action.REBOOT),
    ),
    Kind(
        "lag_growth",
        {"disk": 0.7, "iowait": 0.98, "memory": 0.6, "load": 0.6, "network": 0.1},
        (1.0, 6.0),
        (1.0, 3.0),
        weights={"data_ingest": 4},
        busy=True,
        ended_by=(Action.ADD_CAPACITY, Action.CLEAR_DISK, Action.THROTTLE),
    ),
    Kind(
        "noisy_neighbour",
        {"work": 1.0, "iowait": 0.5, "kernel": 0.3},
        (0.35, 1.0),
        (0.75, 1.5),
        weights={"generic": 3, "web_api": 1, "conductor_mgmt": 1},
        ended_by=(Action.ADD_CAPACITY, Action.DRAIN),
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
        repair_hours=(0.25, 2.0),
        ended_by=(Action.REBOOT,),
    ),
    Kind(
        "upstream_stall",
        {"load": 1.0, "connections": 0.6, "work": 0.5, "memory": 0.3},
        (0.0, 0.0),
        (0.75, 2.0),
        ended_by=(Action.RESTART, Action.REBOOT),
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
CASCADED = "upstream_stall"


def kinds_of(profile: str, without: tuple[str, ...] = ()) -> tuple[tuple[Kind, float], ...]:
    """The kinds that strike servers of a profile by themselves, with their weights; those named `without` never do."""
    return tuple((kind, kind.weights[profile]) for kind in _ALL if profile in kind.weights and kind.name not in without)


_KIND = np.dtype(
    [
        ("impact_low", "f4"),
        ("impact_high", "f4"),
        ("lead_low", "f4"),
        ("lead_high", "f4"),
        ("repair_low", "f4"),
        ("repair_high", "f4"),
        ("shape", "f4"),
        ("rise", "i4"),
        ("ended_by", "i4"),
        ("driver", "i1"),
        ("restart", "?"),
        ("sudden", "?"),
        ("disk", "?"),
    ],
    align=True,
)
DRIVERS = (None, "memory", "disk")
FAST_RISE, SLOW_RISE = 2, 6  # steps from onset to full intensity
SHORTEST_IMPACT = 9  # steps; the observable definition needs 3 at the threshold
BUSY_WEIGHT, QUIET_WEIGHT = 2.0, 0.3
KIND_NAMES = tuple(KINDS)


@cache
def gain_table() -> npt.NDArray[np.float32]:
    """Gains, shape [2 x kinds, channel]: the second half is for recoveries, in which some channels are free at once."""
    gains = np.array([[kind.gains.get(name, 0.0) for name in CHANNELS] for kind in _ALL], np.float32)
    fading = gains.copy()
    fading[:, CHANNELS.index("disk")] = 0
    fading[[kind.restart for kind in _ALL], CHANNELS.index("memory")] = 0
    fading[[kind.repair_hours[1] > 0 for kind in _ALL]] = 0
    return np.concatenate([gains, fading])


@cache
def kind_table() -> npt.NDArray[np.void]:
    """One record a kind, in the order of `KINDS`; lengths in steps."""
    table = np.zeros(len(_ALL), _KIND)
    for row, kind in zip(table, _ALL, strict=True):
        for name, hours in (("impact", kind.impact_hours), ("lead", kind.lead_hours), ("repair", kind.repair_hours)):
            row[f"{name}_low"], row[f"{name}_high"] = hours[0] * STEPS_PER_HOUR, hours[1] * STEPS_PER_HOUR
        row["shape"], row["restart"], row["sudden"] = kind.shape, kind.restart, kind.sudden
        row["driver"] = DRIVERS.index(kind.driver)
        row["rise"] = SLOW_RISE if kind.driver else FAST_RISE
        row["ended_by"] = sum(1 << action for action in kind.ended_by)
        row["disk"] = "disk" in kind.gains
    return table


@cache
def choice_table(without: tuple[str, ...] = ()) -> npt.NDArray[np.float32]:
    """Cumulative chance of each kind by hour and profile, shape [quiet or busy, profile, kind].

    The other kinds of a profile take the place of those named `without`.
    """
    table = np.zeros((2, len(PROFILES), len(_ALL)), np.float64)
    for busy, factor in enumerate((QUIET_WEIGHT, BUSY_WEIGHT)):
        for number, profile in enumerate(PROFILES):
            for kind, weight in kinds_of(profile, without):
                table[busy, number, KIND_NAMES.index(kind.name)] = weight * (factor if kind.busy else 1.0)
    total = np.cumsum(table, axis=2)
    return np.asarray(total / total[:, :, -1:], np.float32)
