"""The frozen evaluation fleet is what its file says, on every machine."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from fleetcast.simulate.digest import fleet_digest, server_digests
from fleetcast.simulate.frozen import frozen_evaluation
from fleetcast.simulate.simulator import simulate_arrays, truth_tables
from fleetcast.simulate.spec import SIMULATOR_VERSION, FleetSpec
from fleetcast.simulate.world import World

ROOT = Path(__file__).parents[2]


def test_the_evaluation_fleet_has_the_frozen_digests() -> None:
    frozen = frozen_evaluation()
    assert frozen.simulator_version == SIMULATOR_VERSION
    fleet = frozen.evaluation
    world, servers = World(fleet.spec), range(fleet.spec.servers)
    arrays, episodes = simulate_arrays(world, servers)
    incidents = truth_tables(world, servers, episodes)[0]
    assert fleet_digest(arrays) == fleet.values_sha256
    assert sha256("\n".join(incidents["incident"].to_pylist()).encode()).hexdigest() == fleet.incidents_sha256
    assert (~arrays.offline).sum() == fleet.rows
    assert incidents.num_rows == fleet.incidents


def test_its_origins_leave_a_past_and_a_future() -> None:
    frozen = frozen_evaluation()
    assert len(frozen.origins) == frozen.origin_count == len(set(frozen.origins))
    assert len({origin.hour for origin in frozen.origins}) >= 8  # all times of the day
    assert frozen.first_origin_hours >= 7 * 24
    last = (frozen.origins[-1] - frozen.evaluation.spec.start).total_seconds() / 300
    assert last + frozen.horizon < frozen.evaluation.spec.steps
    assert frozen.corpus.seed != frozen.evaluation.spec.seed


def test_a_servers_digest_does_not_depend_on_the_others() -> None:
    spec = FleetSpec(servers=60, hours=48, seed=3)
    whole = server_digests(simulate_arrays(World(spec), range(60))[0])
    alone = server_digests(simulate_arrays(World(spec.model_copy(update={"servers": 31})), [30, 2])[0])
    assert alone.items() <= whole.items()
    assert len(set(whole.values())) == 60


@pytest.mark.parametrize("processor", ["generic", "skylake"])
def test_another_processor_gives_the_same_digest(processor: str, tmp_path: Path) -> None:
    """Compiled for a processor without wide vectors or fused multiplication, in a process of its own."""
    program = (
        "from fleetcast.simulate.digest import fleet_digest\n"
        "from fleetcast.simulate.simulator import simulate_arrays\n"
        "from fleetcast.simulate.spec import FleetSpec\n"
        "from fleetcast.simulate.world import World\n"
        "spec = FleetSpec(servers=9, hours=72, seed=12, incidents_per_day=2.0)\n"
        "print(fleet_digest(simulate_arrays(World(spec), range(9))[0]))\n"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CACHE_DIR": str(tmp_path)}
    if processor == "generic":
        environment["NUMBA_CPU_FEATURES"] = ""
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    spec = FleetSpec(servers=9, hours=72, seed=12, incidents_per_day=2.0)
    assert found.stdout.strip() == fleet_digest(simulate_arrays(World(spec), range(9))[0])
