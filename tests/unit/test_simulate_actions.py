"""Remediation is an input: it changes what follows on that server, and nothing that was."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fleetcast.errors import UsageError
from fleetcast.simulate.actions import Action
from fleetcast.simulate.kinds import KINDS
from fleetcast.simulate.live import LiveFleet
from fleetcast.simulate.spec import FleetSpec

STEP = timedelta(minutes=5)
SPEC = FleetSpec(servers=50, hours=24, seed=2, incidents_per_day=0.5)
LONG = SPEC.start + timedelta(hours=24 * 14)


def _series(table: pa.Table, server: str, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.filter(pc.equal(table["server"], server))[name])


def _announced(kind: str) -> tuple[LiveFleet, str, datetime, datetime]:
    """A fleet, a server that a kind of incident is about to strike, the middle of the precursor and the onset."""
    live = LiveFleet(SPEC)
    for row in live.incidents(LONG).to_pylist():
        lead = row["onset"] - row["precursor_start"]
        if row["kind"] == kind and row["cause"] is None and row["onset"] > live.end + 2 * lead and lead > 4 * STEP:
            middle = row["precursor_start"] + timedelta(seconds=int(lead.total_seconds() / 600) * 300)
            return live, row["server"], middle, row["onset"]
    raise AssertionError(f"no {kind} in this fleet")


@pytest.mark.parametrize(
    ("kind", "action", "value"),
    [
        ("memory_leak", Action.RESTART, 1.0),
        ("connection_leak", Action.REBOOT, 1.0),
        ("disk_fill", Action.CLEAR_DISK, 1.0),
        ("traffic_surge", Action.ADD_CAPACITY, 1.5),
        ("io_saturation", Action.THROTTLE, 0.7),
        ("thermal_throttling", Action.DRAIN, 0.5),
    ],
)
def test_the_right_action_prevents_the_incident(kind: str, action: Action, value: float) -> None:
    live, server, middle, onset = _announced(kind)
    before = live.rows(SPEC.start, middle)
    live.act(action, [server], middle, value)
    assert live.rows(SPEC.start, middle).equals(before)
    after = live.incidents(onset).to_pylist()
    assert not [row for row in after if row["server"] == server and row["onset"] == onset]


def test_another_action_does_not() -> None:
    live, server, middle, onset = _announced("disk_fill")
    live.act(Action.RESTART, [server], middle)
    assert [row for row in live.incidents(onset).to_pylist() if row["server"] == server and row["onset"] == onset]


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.lead_hours[0] >= 0.7])
def test_each_kind_with_a_precursor_is_ended_by_what_it_says(kind: str) -> None:
    for action in KINDS[kind].ended_by:
        live, server, middle, onset = _announced(kind)
        live.act(action, [server], middle, 0.9)
        after = live.incidents(onset).to_pylist()
        assert not [row for row in after if row["server"] == server and row["onset"] == onset]


def test_a_restart_ends_what_came_from_upstream() -> None:
    live = LiveFleet(SPEC)
    followed = [row for row in live.incidents(LONG).to_pylist() if row["cause"] and row["onset"] > live.end]
    row = next(one for one in followed if one["end"] - one["onset"] > 8 * STEP)
    live.act(Action.RESTART, [row["server"]], row["onset"] + 2 * STEP)
    (found,) = [one for one in live.incidents(row["onset"]).to_pylist() if one["incident"] == row["incident"]]
    assert found["end"] == row["onset"] + 3 * STEP < row["end"]


def test_capacity_and_throttling_go_together() -> None:
    base, server = SPEC.model_copy(update={"incidents_per_day": 0}), "ppweb0001"
    both = LiveFleet(base)
    both.act(Action.ADD_CAPACITY, [server], both.end, 4.0)
    both.act(Action.THROTTLE, [server], both.end + STEP, 0.5)
    calm, later = LiveFleet(base), both.end + timedelta(hours=3)
    traffic = [
        np.mean(_series(live.rows(live.end + 3 * STEP, later), server, "network_receive_bytes"))
        for live in (both, calm)
    ]
    assert traffic[0] == pytest.approx(traffic[1] / 8, rel=0.02)


def test_capacity_lowers_the_load_of_that_server_alone() -> None:
    calm, helped = LiveFleet(SPEC), LiveFleet(SPEC)
    server, later = "ppweb0001", calm.end + timedelta(hours=4)
    helped.act(Action.ADD_CAPACITY, [server], calm.end, 2.0)
    rows, changed = calm.rows(calm.end + STEP, later), helped.rows(calm.end + STEP, later)
    for name in ("cpu_utilization", "load1_per_core", "network_receive_bytes"):
        assert np.mean(_series(changed, server, name)) < 0.7 * np.mean(_series(rows, server, name))
    others = [table.filter(pc.not_equal(table["server"], server)) for table in (rows, changed)]
    assert others[0].equals(others[1])


def test_a_reboot_leaves_a_gap_and_starts_the_uptime_anew() -> None:
    live = LiveFleet(SPEC)
    server = "ppdb0001"
    live.act(Action.REBOOT, [server], live.end)
    rows = live.rows(live.end + STEP, live.end + 4 * STEP)
    assert list(_series(rows, server, "uptime_seconds")) == [150.0, 450.0]


def test_wrong_actions_are_refused() -> None:
    live = LiveFleet(SPEC)
    with pytest.raises(UsageError, match="value is 0"):
        live.act(Action.ADD_CAPACITY, ["ppdb0001"], live.end, 0.0)
    with pytest.raises(UsageError, match="nowhere"):
        live.act(Action.RESTART, ["nowhere"], live.end)
