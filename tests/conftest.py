"""What the tests share: one Ray, one small simulated fleet, one bundle trained on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.runtime import prepare_environment
from fleetcast.settings import RaySettings
from fleetcast.simulate.simulator import simulate
from fleetcast.simulate.spec import FleetSpec

prepare_environment(RaySettings())  # before anything imports Ray

# Cores are shared with Ray and Chromium: a property is not a matter of milliseconds.
settings.register_profile("fleetcast", deadline=None)
settings.load_profile("fleetcast")

TINY = FleetSpec(servers=9, hours=96, seed=11)  # the fewest that have all seven profiles
TINY_HOLDOUT_HOURS = 30


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray of two cores for the whole test session."""
    import ray

    from fleetcast.runtime import connect

    connect(RaySettings(num_cpus=2), log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine simulated servers of seven profiles, four days, in two parts; made without Ray."""
    folder = tmp_path_factory.mktemp("tiny") / "data"
    storage = Storage(folder)
    storage.create()
    parts, half = [], TINY.servers // 2
    for number, servers in enumerate((range(half), range(half, TINY.servers))):
        parts.append(write_part(storage, number, simulate(TINY, servers).table, METRIC_NAMES))
    whole = simulate(TINY)
    for name in ("incidents", "topology", "maintenance"):
        storage.write_table(f"{name}.parquet", getattr(whole, name))
    write_manifest(storage, parts, METRIC_NAMES, TINY.timezone, TINY.source())
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(ray_session: None, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny preset, trained by Ray Train on the tiny dataset."""
    from datetime import timedelta

    from fleetcast.training.options import TrainOptions
    from fleetcast.training.run import train

    options = TrainOptions(
        data=str(tiny_dataset),
        models=str(tmp_path_factory.mktemp("models")),
        run="tiny",
        preset="tiny",
        holdout=timedelta(hours=TINY_HOLDOUT_HOURS),
        workers=1,
    )
    return train(options, lambda message: None)
