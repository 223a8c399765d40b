"""Who is in a simulated fleet: shares, names, cells and dependencies follow from a server's index."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.vocabulary import PROFILES, profile_from_host
from fleetcast.simulate.layout import SHARES, UPSTREAM_PROFILES, Layout
from fleetcast.simulate.spec import FleetSpec


def test_a_hundred_servers_have_exactly_the_fleet_shares() -> None:
    layout = Layout(FleetSpec(servers=100))
    assert Counter(layout.profile(server) for server in range(100)) == SHARES


@given(st.integers(1, 300))
@settings(max_examples=25, deadline=None)
def test_every_fleet_is_close_to_the_shares(servers: int) -> None:
    layout = Layout(FleetSpec(servers=servers))
    counts = Counter(layout.profile(server) for server in range(servers))
    for profile, share in SHARES.items():
        assert abs(counts[profile] - servers * share / 100) < 1.5


def test_the_default_fleet_has_every_profile() -> None:
    layout = Layout(FleetSpec())
    assert {layout.profile(server) for server in range(25)} == set(PROFILES)


def test_names_are_distinct_and_tell_the_profile() -> None:
    layout = Layout(FleetSpec(servers=500))
    names = [layout.name(server) for server in range(500)]
    assert len(set(names)) == 500
    assert [profile_from_host(name) for name in names] == [layout.profile(server) for server in range(500)]
    assert "ppdb0003" in names


def test_only_the_chosen_profiles_occur() -> None:
    layout = Layout(FleetSpec(servers=40, profiles=("database", "web_api")))
    assert {layout.profile(server) for server in range(40)} == {"database", "web_api"}


@pytest.mark.parametrize("servers", [1, 7, 25, 90])
def test_dependencies_stay_in_the_cell_and_among_the_fleet(servers: int) -> None:
    layout = Layout(FleetSpec(servers=servers))
    for server in range(servers):
        for edge in layout.upstreams(server):
            assert edge.downstream == server
            assert edge.upstream in layout.cell(server)
            assert layout.profile(edge.upstream) in UPSTREAM_PROFILES[layout.profile(server)]
            assert 0 < edge.strength < 1
            assert edge in layout.downstreams(edge.upstream)


def test_in_a_whole_cell_nothing_lacks_what_it_needs() -> None:
    layout = Layout(FleetSpec())
    for server in range(25):
        assert len(layout.upstreams(server)) == len(UPSTREAM_PROFILES.get(layout.profile(server), ()))
