"""The live fleet continues the dataset; scenarios change what follows, never what was."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.schema import sample_schema
from fleetcast.contract.thresholds import threshold
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.errors import DatasetError, UsageError
from fleetcast.simulate.actions import INPUT, Action
from fleetcast.simulate.live import LiveFleet
from fleetcast.simulate.overview import write_overview
from fleetcast.simulate.simulator import arrays_of, cells_of, simulate
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World

SPEC = FleetSpec(servers=25, hours=36, seed=13, incidents_per_day=0)
STEP = timedelta(minutes=5)


@pytest.fixture
def live() -> LiveFleet:
    return LiveFleet(SPEC)


def _critical_servers(table: pa.Table) -> set[str]:
    found = set()
    for row in table.to_pylist():
        for name in DEFAULT_TARGETS:
            limit = threshold(name, row["profile"])
            assert limit is not None
            if row[name] >= limit.critical:
                found.add(row["server"])
    return found


def test_it_continues_the_dataset_step_by_step(live: LiveFleet) -> None:
    longer = simulate(SPEC.model_copy(update={"hours": SPEC.hours + 2})).table
    assert live.end == SPEC.start + timedelta(hours=36) - STEP
    for number in range(1, 25):
        moment = live.end + number * STEP
        rows = live.rows(moment, moment)
        assert rows.schema == sample_schema(METRIC_NAMES)
        assert rows.equals(longer.filter(pc.equal(longer["timestamp"], pa.scalar(moment, longer["timestamp"].type))))


def test_it_gives_the_datasets_own_rows_too(live: LiveFleet) -> None:
    assert live.rows(SPEC.start, live.end).equals(simulate(SPEC).table)


def test_rows_before_the_fleet_are_refused(live: LiveFleet) -> None:
    with pytest.raises(UsageError, match="starts at"):
        live.rows(SPEC.start - STEP, live.end)


@pytest.mark.parametrize("scenario", ["degrading", "critical", "cascade"])
def test_a_switch_changes_the_future_only(live: LiveFleet, scenario: str) -> None:
    at, later = live.end + 6 * STEP, live.end + timedelta(hours=6)
    before, after = live.rows(SPEC.start, at), live.rows(at + STEP, later)
    assert live.switch(scenario, at)
    assert live.rows(SPEC.start, at).equals(before)
    assert not live.rows(at + STEP, later).equals(after)


@pytest.mark.parametrize(("scenario", "hours"), [("degrading", 3.5), ("critical", 0.75)])
def test_struck_servers_become_critical_in_time(live: LiveFleet, scenario: str, hours: float) -> None:
    struck = live.switch(scenario, live.end)
    assert len(struck) >= 3
    assert set(struck) <= _critical_servers(live.rows(live.end + STEP, live.end + timedelta(hours=hours)))
    early = live.rows(live.end + STEP, live.end + 2 * STEP)
    assert not set(struck) & _critical_servers(early)


def test_precursors_show_before_the_strike(live: LiveFleet) -> None:
    calm = LiveFleet(SPEC)
    live.switch("degrading", live.end, servers=["ppdb0001", "ppml0002"])
    until = live.end + timedelta(hours=1)
    changed = live.rows(live.end + STEP, until)
    for server in ("ppdb0001", "ppml0002"):
        differ = False
        for name in DEFAULT_TARGETS:
            one, other = (
                np.asarray(table.filter(pc.equal(table["server"], server))[name])
                for table in (changed, calm.rows(live.end + STEP, until))
            )
            differ |= bool((one[-3:] > other[-3:] + 0.005).any())
        assert differ


def test_speed_shortens_the_leads(live: LiveFleet) -> None:
    live.switch("degrading", live.end, speed=6.0)
    rows = live.incidents(live.end + timedelta(hours=12)).to_pylist()
    first = [row for row in rows if row["cause"] is None and row["precursor_start"] == live.end + STEP]
    assert first
    for row in first:
        assert row["onset"] - row["precursor_start"] <= timedelta(minutes=35)


def test_a_cascade_takes_the_databases_dependants_with_it(live: LiveFleet) -> None:
    (head,) = live.switch("cascade", live.end)
    rows = live.incidents(live.end + timedelta(hours=2)).to_pylist()
    (origin,) = [row for row in rows if row["server"] == head]
    dependants = {row["downstream"] for row in simulate(SPEC).topology.to_pylist() if row["upstream"] == head}
    followers = [row for row in rows if row["cause"] == origin["incident"]]
    assert {row["server"] for row in followers} == dependants
    assert all(row["onset"] > origin["onset"] for row in followers)
    assert {head, *dependants} <= _critical_servers(live.rows(live.end, live.end + timedelta(hours=3)))


def test_healthy_ends_what_was_injected(live: LiveFleet) -> None:
    live.switch("critical", live.end)
    middle = live.end + timedelta(hours=1)
    before = live.rows(live.end + STEP, middle)
    assert _critical_servers(before)
    assert live.switch("healthy", middle) == ()
    assert live.rows(live.end + STEP, middle).equals(before)
    assert not _critical_servers(live.rows(middle + timedelta(hours=1), middle + timedelta(hours=6)))


def test_healthy_ends_a_cascade_before_it_reaches_the_dependants(live: LiveFleet) -> None:
    (head,) = live.switch("cascade", live.end)
    (origin,) = [row for row in live.incidents(live.end + timedelta(hours=1)).to_pylist() if row["server"] == head]
    live.switch("healthy", origin["onset"])
    assert [row["server"] for row in live.incidents(origin["onset"] + timedelta(hours=4)).to_pylist()] == [head]


def test_an_empty_range_has_no_rows(live: LiveFleet) -> None:
    assert live.rows(live.end, live.end - STEP).schema == sample_schema(METRIC_NAMES)
    assert live.rows(live.end, live.end - STEP).num_rows == 0


def test_a_change_before_the_fleet_is_refused(live: LiveFleet) -> None:
    with pytest.raises(UsageError, match="starts at"):
        live.switch("critical", SPEC.start - 2 * STEP)


@given(
    st.lists(st.tuples(st.integers(1, 900), st.sampled_from(list(Action)), st.integers(0, 24)), max_size=6), st.data()
)
@settings(max_examples=8, deadline=None)
def test_days_and_rewinds_do_not_show(given_: list[tuple[int, Action, int]], data: st.DataObject) -> None:
    """Inputs in any order of asking, with rows read between them: the same as all inputs at once in one run."""
    spec = SPEC.model_copy(update={"hours": 4.0, "incidents_per_day": 1.0})
    live, world = LiveFleet(spec), World(spec.model_copy(update={"hours": 90.0}))
    names, inputs = live.servers, []
    for step, action, server in sorted(given_, key=lambda one: one[0]):
        moment = spec.start + (step - 1) * STEP
        live.act(action, [names[server]], moment, 0.8)
        inputs.append((spec.first_step + step, server, int(action), 0, 0.8))
        read = data.draw(st.integers(0, 1000))
        live.rows(spec.start + read * STEP, spec.start + read * STEP)
    cells = cells_of(world, range(25))
    shared = world.shared(world.fleet_state(), spec.first_step, 1080)
    runs = [world.run(cell, spec.first_step, 1080, shared, inputs=np.array(inputs, INPUT)) for cell in cells]
    whole = arrays_of(world, cells, runs, spec.first_step).table()
    assert live.rows(spec.start, spec.start + 1079 * STEP).equals(whole)


def test_scenarios_go_on_in_waves_until_the_next_switch(live: LiveFleet) -> None:
    live.switch("critical", live.end)
    assert _critical_servers(live.rows(live.end + timedelta(hours=24), live.end + timedelta(hours=30)))


def test_wrong_switches_are_refused_and_change_nothing(live: LiveFleet) -> None:
    later = live.end + timedelta(hours=2)
    before = live.rows(live.end, later)
    with pytest.raises(UsageError, match="unknown scenario 'panic'"):
        live.switch("panic", live.end)
    with pytest.raises(UsageError, match="nowhere"):
        live.switch("critical", live.end, servers=["nowhere"])
    with pytest.raises(UsageError, match="speed is 0"):
        live.switch("critical", live.end, speed=0)
    with pytest.raises(UsageError, match="database"):
        live.switch("cascade", live.end, servers=["ppml0001"])
    assert live.rows(live.end, later).equals(before)


def _dataset(folder: Path) -> Dataset:
    storage = Storage(folder)
    storage.create()
    shard = simulate(SPEC)
    storage.write_table("incidents.parquet", shard.incidents)
    part = write_part(storage, 0, shard.table, METRIC_NAMES)
    write_manifest(storage, [part], METRIC_NAMES, SPEC.timezone, SPEC.source())
    return Dataset.open(folder)


def test_a_dataset_on_disk_can_be_continued(tmp_path: Path, live: LiveFleet) -> None:
    dataset = _dataset(tmp_path)
    continued = LiveFleet.of_dataset(tmp_path)
    assert continued.end == dataset.manifest.end
    moment = live.end + STEP
    assert continued.rows(moment, moment).equals(live.rows(moment, moment))
    assert set(continued.servers) == set(dataset.manifest.servers)


def test_a_folder_without_a_dataset_cannot_be_continued(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        LiveFleet.of_dataset(tmp_path)


def test_the_overview_is_a_picture(tmp_path: Path) -> None:
    write_overview(_dataset(tmp_path))
    assert (tmp_path / "overview.png").read_bytes().startswith(b"\x89PNG")
