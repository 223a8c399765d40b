"""Incidents: announced or not, at the asked rate, passed on to dependants; and maintenance."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from fleetcast.contract.schema import INCIDENTS, MAINTENANCE, TOPOLOGY
from fleetcast.contract.vocabulary import PROFILES
from fleetcast.simulate.calendar import TIMEZONE
from fleetcast.simulate.episode_steps import EPISODE
from fleetcast.simulate.kinds import CHANNELS, KINDS, kinds_of
from fleetcast.simulate.layout import Layout
from fleetcast.simulate.simulator import simulate, simulate_episodes, truth_tables
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World

SPEC = FleetSpec(servers=100, hours=24 * 60, seed=3)


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(SPEC)


@pytest.fixture(scope="module")
def episodes() -> npt.NDArray[np.void]:
    found = simulate_episodes(World(SPEC), range(SPEC.servers))
    assert found.dtype == EPISODE
    return found


@pytest.fixture(scope="module")
def truth(episodes: npt.NDArray[np.void]) -> tuple[pa.Table, pa.Table, pa.Table]:
    return truth_tables(World(SPEC), range(SPEC.servers), episodes)


@pytest.fixture(scope="module")
def incidents(truth: tuple[pa.Table, pa.Table, pa.Table]) -> pa.Table:
    return truth[0]


def test_the_rate_is_the_one_asked_for(incidents: pa.Table) -> None:
    own = sum(cause is None for cause in incidents["cause"].to_pylist())
    assert own / (SPEC.servers * SPEC.hours / 24) == pytest.approx(SPEC.incidents_per_day, rel=0.12)


def test_there_are_many_kinds_each_where_it_belongs(incidents: pa.Table, layout: Layout) -> None:
    assert incidents.schema == INCIDENTS
    assert set(incidents["kind"].to_pylist()) == set(KINDS)
    assert len(KINDS) >= 8
    names = {layout.name(server): layout.profile(server) for server in range(SPEC.servers)}
    for row in incidents.to_pylist():
        if row["cause"] is None:
            assert names[row["server"]] in KINDS[row["kind"]].weights


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_kinds_of_its_own(profile: str) -> None:
    assert len(kinds_of(profile)) >= 3
    for kind, weight in kinds_of(profile):
        assert weight > 0
        assert set(kind.gains) <= set(CHANNELS)


def test_kinds_that_are_left_out_never_strike_and_others_take_their_place() -> None:
    gone = ("connection_leak", "io_saturation", "upstream_stall")
    spec = SPEC.model_copy(update={"without_kinds": gone})
    found = truth_tables(World(spec), range(spec.servers), simulate_episodes(World(spec), range(spec.servers)))[0]
    assert set(found["kind"].to_pylist()) == set(KINDS) - set(gone)
    assert found["cause"].null_count == len(found)
    assert len(found) / (spec.servers * spec.hours / 24) == pytest.approx(spec.incidents_per_day, rel=0.12)


@pytest.mark.parametrize("scenario", ["degrading", "critical"])
def test_a_scenario_forces_no_kind_that_is_left_out(scenario: str) -> None:
    spec = FleetSpec(servers=50, hours=48, scenario=scenario, incidents_per_day=0, without_kinds=("memory_leak",))
    found = truth_tables(World(spec), range(spec.servers), simulate_episodes(World(spec), range(spec.servers)))[0]
    assert len(found) > 20
    assert "memory_leak" not in found["kind"].to_pylist()


def test_leads_run_from_none_over_minutes_to_many_hours(incidents: pa.Table) -> None:
    leads = [row["onset"] - row["precursor_start"] for row in incidents.to_pylist()]
    own = [lead for lead, cause in zip(leads, incidents["cause"].to_pylist(), strict=True) if cause is None]
    assert min(own) == timedelta(0)
    assert min(lead for lead in own if lead) < timedelta(minutes=40)
    assert max(own) > timedelta(hours=12)
    sudden = sum(not lead for lead in own) / len(own)
    assert 0.1 < sudden < 0.3


def test_rows_are_in_order_and_ids_distinct(incidents: pa.Table) -> None:
    assert len(set(incidents["incident"].to_pylist())) == incidents.num_rows
    for row in incidents.to_pylist():
        assert row["precursor_start"] <= row["onset"] < row["end"]


def test_some_precursors_fizzle_out_and_are_not_listed(incidents: pa.Table, episodes: npt.NDArray[np.void]) -> None:
    own = episodes[episodes["cause"] < 0]
    fizzled = own["onset"] < 0
    assert 0.08 < fizzled.mean() < 0.25
    assert (own["full"] == ~fizzled).all()
    last = SPEC.first_step + SPEC.steps
    assert (episodes["full"] & (episodes["onset"] >= 0) & (episodes["onset"] < last)).sum() == incidents.num_rows


def test_cascades_follow_the_topology_with_a_lag(
    incidents: pa.Table, truth: tuple[pa.Table, pa.Table, pa.Table]
) -> None:
    edges = {(row["upstream"], row["downstream"]) for row in truth[2].to_pylist()}
    rows = {row["incident"]: row for row in incidents.to_pylist()}
    caused = [row for row in rows.values() if row["cause"] is not None]
    assert caused
    for row in caused:
        cause = rows[row["cause"]]
        assert (cause["server"], row["server"]) in edges
        assert timedelta(minutes=10) <= row["onset"] - cause["onset"] <= timedelta(minutes=40)
    dependants = Counter(row["cause"] for row in caused)
    assert max(dependants.values()) >= 2


def test_a_shard_knows_its_upstreams_without_them(episodes: npt.NDArray[np.void]) -> None:
    for server in (0, 24, 30, 49, 77):
        alone = simulate_episodes(World(SPEC), [server])
        np.testing.assert_array_equal(alone, episodes[episodes["server"] == server])


def test_maintenance_is_on_weekend_nights_and_reaches_beyond_the_span(
    truth: tuple[pa.Table, pa.Table, pa.Table],
) -> None:
    table = truth[1]
    assert table.schema == MAINTENANCE
    end = SPEC.start + timedelta(hours=SPEC.hours)
    for row in table.to_pylist():
        local = row["start"].astimezone(ZoneInfo(TIMEZONE))
        assert local.weekday() >= 5
        assert 1 <= local.hour <= 6
        assert timedelta(hours=1) <= row["end"] - row["start"] <= timedelta(hours=2)
    assert any(row["start"] > end for row in table.to_pylist())


def test_servers_are_offline_only_in_maintenance_or_repair() -> None:
    spec = FleetSpec(servers=25, hours=240, seed=2)
    shard = simulate(spec)
    assert shard.topology.schema == TOPOLOGY
    allowed = [(row["server"], row["start"], row["end"]) for row in shard.maintenance.to_pylist()]
    repair = timedelta(hours=2)
    broken = [row for row in shard.incidents.to_pylist() if row["kind"] == "hardware_failure"]
    allowed += [(row["server"], row["end"], row["end"] + repair) for row in broken]
    grid = {spec.start + timedelta(minutes=5 * step) for step in range(spec.steps)}
    seen: dict[str, set[datetime]] = {}
    for server, moment in zip(*(shard.table[name].to_pylist() for name in ("server", "timestamp")), strict=True):
        seen.setdefault(server, set()).add(moment)
    missing = [(server, moment) for server, there in seen.items() for moment in grid - there]
    assert missing
    for server, moment in missing:
        assert any(server == name and start <= moment < end for name, start, end in allowed)
