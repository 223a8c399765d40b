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


def test_a_server_has_all_it_needs_as_soon_as_an_earlier_one_offers_it() -> None:
    layout = Layout(FleetSpec(servers=100))
    for server in range(100):
        needed = UPSTREAM_PROFILES.get(layout.profile(server), ())
        earlier = {layout.profile(other) for other in layout.cell(server) if other < server}
        found = layout.upstreams(server)
        assert [layout.profile(edge.upstream) for edge in found] == [name for name in needed if name in earlier]
        assert all(edge.upstream < server for edge in found)


@given(st.integers(1, 120))
@settings(max_examples=25, deadline=None)
def test_dependencies_do_not_change_when_the_fleet_grows(servers: int) -> None:
    small, large = Layout(FleetSpec(servers=servers)), Layout(FleetSpec(servers=120))
    for server in range(servers):
        assert small.upstreams(server) == large.upstreams(server)
        assert small.name(server) == large.name(server)


def test_what_a_server_depends_on_comes_with_it() -> None:
    layout = Layout(FleetSpec(servers=100))
    for server in range(100):
        needed = layout.with_upstreams([server])
        assert server in needed
        for one in needed:
            assert {edge.upstream for edge in layout.upstreams(one)} <= set(needed)
