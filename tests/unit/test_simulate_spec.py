"""A fleet that cannot be simulated is refused with one clear line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fleetcast.errors import DatasetError, UsageError
from fleetcast.simulate.simulator import simulate
from fleetcast.simulate.spec import FleetSpec, spec_of_source


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"servers": 0}, "servers is 0"),
        ({"hours": -3}, "hours is -3"),
        ({"hours": 0.01}, "one step"),
        ({"hours": float("nan")}, "hours is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"profiles": ("mainframe",)}, "'mainframe'"),
        ({"profiles": ()}, "no profile"),
        ({"incidents_per_day": -0.1}, "incidents_per_day"),
        ({"fizzle_share": 1.0}, "fizzle_share"),
        ({"without_kinds": ("gremlins",)}, "'gremlins'"),
        ({"without_kinds": ("memory_leak", "cpu_runaway", "scheduler_stall", "noisy_neighbour")}, "conductor_mgmt"),
        ({"start": datetime(2026, 1, 5, 5)}, "no time zone"),
        ({"start": datetime(2026, 1, 5, 5, 2, tzinfo=UTC)}, "grid"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        FleetSpec(**wrong)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_servers_outside_the_fleet_are_refused() -> None:
    with pytest.raises(UsageError, match="0 to 1"):
        simulate(FleetSpec(servers=2, hours=1), [2])


def test_a_manifest_source_gives_the_specification_back() -> None:
    spec = FleetSpec(servers=3, hours=7.5, seed=99, profiles=("database", "web_api"))
    assert spec_of_source(spec.source()) == spec


def test_kinds_that_are_left_out_are_told_and_a_fleet_with_all_kinds_does_not_speak_of_them() -> None:
    spec = FleetSpec(servers=3, without_kinds=("upstream_stall", "memory_leak"))
    assert spec.source()["spec"]["without_kinds"] == ["memory_leak", "upstream_stall"]
    assert spec_of_source(spec.source()) == spec
    assert "without_kinds" not in FleetSpec(servers=3).source()["spec"]
    assert "without_kinds" not in FleetSpec(servers=3).model_dump_json()


@pytest.mark.parametrize("kind", ["io_saturation", "upstream_stall"])
def test_a_cascade_without_the_kinds_that_make_it_is_refused(kind: str) -> None:
    spec = FleetSpec(servers=25, hours=24, scenario="cascade", without_kinds=(kind,))
    with pytest.raises(UsageError, match=f"cascade needs incidents of kind {kind}"):
        simulate(spec, [0])


@pytest.mark.parametrize("source", [{}, {"kind": "csv"}, {"kind": "simulated", "simulator_version": -1}])
def test_other_sources_cannot_be_continued(source: dict[str, Any]) -> None:
    with pytest.raises(DatasetError):
        spec_of_source(source)
