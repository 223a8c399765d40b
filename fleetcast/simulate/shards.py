"""A whole simulated dataset with Ray Data: one task a part, each part written whole or not at all.

The same specification gives the same bytes whatever the workers; a run that was killed is finished by the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pyarrow as pa
import ray
import ray.data

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.dataset.manifest import MANIFEST, Manifest, Part
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import describe_part, part_name, write_manifest, write_part
from fleetcast.errors import DatasetError, FleetCastError, UsageError
from fleetcast.runtime import connect, quiet_ray_data
from fleetcast.settings import RaySettings
from fleetcast.simulate.episodes import Schedule
from fleetcast.simulate.progress import SimulationProgress
from fleetcast.simulate.simulator import simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.truth import incident_table, maintenance_table, topology_table

RECORD = "simulation.json"  # what is being simulated into the folder; written first, kept
SIDE_TABLES = ("incidents.parquet", "topology.parquet", "maintenance.parquet")
OVERVIEW = "overview.png"
_SHARD_RESULT = pa.schema([("part", pa.string()), ("kept", pa.bool_()), ("error", pa.string())])


def simulate_dataset(
    spec: FleetSpec,
    out: str | os.PathLike[str],
    shard_servers: int = 25,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    ray_settings: RaySettings | None = None,
) -> Manifest:
    """Simulate a fleet into the dataset folder `out`.

    Parts that an earlier run of the same specification finished are kept.

    Args:
        spec: the fleet.
        out: local path or URI of the dataset.
        shard_servers: servers a part; changes the parts, not the values of any server.
        workers: tasks that run at once; None is as many as the cluster has cores.
        overwrite: delete another dataset that is in the folder.
        progress: show progress on standard error.
        ray_settings: how to start or join Ray when this process has not yet.

    Raises:
        UsageError: `shard_servers` or `workers` is below 1.
        DatasetError: the folder holds another dataset, or cannot be written.
    """
    if shard_servers < 1 or (workers is not None and workers < 1):
        raise UsageError(f"shard_servers is {shard_servers} and workers {workers}; both are at least 1")
    storage = Storage(out)
    _claim(storage, spec, shard_servers, overwrite)
    connect(ray_settings or RaySettings())
    _write_truth(storage, spec)
    parts = []
    with SimulationProgress(spec.servers, progress) as shown:
        for part, kept in _parts(spec, os.fspath(out), shard_servers, workers):
            parts.append(part)
            shown.advance(len(part.servers), part.rows, kept)
    _sweep(storage)
    return write_manifest(storage, parts, METRIC_NAMES, spec.timezone, spec.source())


def simulate_part(spec: FleetSpec, storage: Storage, number: int, shard_servers: int) -> tuple[Part, bool]:
    """The part with this number: read when it is there already (True), else simulated and written (False)."""
    first = number * shard_servers
    servers = range(first, min(first + shard_servers, spec.servers))
    schedule = Schedule(spec)
    names = sorted(schedule.layout.name(server) for server in servers)
    found = _finished_part(storage, part_name(number))
    if found is not None and found.servers == names:
        return found, True
    return write_part(storage, number, simulate_arrays(schedule, servers).table(), METRIC_NAMES), False


def _finished_part(storage: Storage, name: str) -> Part | None:
    if not storage.exists(name):
        return None
    content = storage.read_bytes(name)
    try:
        return describe_part(name, storage.read_table(name, ["server", "timestamp"]), content)
    except DatasetError:  # damaged after it was written: made again
        return None


def _parts(spec: FleetSpec, out: str, shard_servers: int, workers: int | None) -> Iterator[tuple[Part, bool]]:
    """The parts in the order in which they are done, and whether an earlier run had made them."""
    shards = -(-spec.servers // shard_servers)
    with quiet_ray_data():
        done = ray.data.range(shards, override_num_blocks=shards).map_batches(
            _shard_task(spec, out, shard_servers),
            batch_size=None,
            batch_format="pyarrow",
            compute=None if workers is None else ray.data.TaskPoolStrategy(size=min(workers, shards)),
        )
        for row in done.iter_rows():
            if row["error"]:
                raise DatasetError(row["error"])
            yield Part.model_validate_json(row["part"]), row["kept"]


def _shard_task(spec: FleetSpec, out: str, shard_servers: int) -> Callable[[pa.Table], pa.Table]:
    """A function of a batch of shard numbers (`id`) to one row (`_SHARD_RESULT`) each."""

    def make(batch: pa.Table) -> pa.Table:
        rows = []
        for number in batch["id"].to_pylist():
            try:
                part, kept = simulate_part(spec, Storage(out), number, shard_servers)
                rows.append({"part": part.model_dump_json(), "kept": kept, "error": ""})
            except FleetCastError as error:  # told to the driver, which raises it again without a Ray traceback
                rows.append({"part": "", "kept": False, "error": str(error)})
        return pa.Table.from_pylist(rows, schema=_SHARD_RESULT)

    return make


def _claim(storage: Storage, spec: FleetSpec, shard_servers: int, overwrite: bool) -> None:
    """Record what is simulated into the folder. Raises `DatasetError` when something else is there."""
    record = {"source": spec.source(), "shard_servers": shard_servers}
    content = (json.dumps(record, indent=1) + "\n").encode()
    names = storage.names()
    ours = [name for name in names if _is_dataset_file(name)]
    if ours and not (RECORD in names and storage.read_bytes(RECORD) == content):
        if not overwrite:
            raise DatasetError(
                f"{storage.location} holds another dataset ({len(ours)} files, for example {ours[0]}): "
                "choose another folder, or ask to overwrite it"
            )
        for name in sorted(ours, key=lambda name: name != MANIFEST):  # unseen first, then deleted
            storage.delete(name)
    storage.create()
    _sweep(storage)
    storage.write_bytes(RECORD, content)


def _is_dataset_file(name: str) -> bool:
    is_part = name.startswith("part-") and name.endswith(".parquet")
    return is_part or name in (MANIFEST, RECORD, OVERVIEW, *SIDE_TABLES)


def _sweep(storage: Storage) -> None:
    """Delete the half-written files that a killed process left."""
    for name in storage.names():
        if name.startswith(".") and name.endswith(".partial"):
            storage.delete(name)


def _write_truth(storage: Storage, spec: FleetSpec) -> None:
    schedule = Schedule(spec)
    servers = range(spec.servers)
    episodes = [episode for server in servers for episode in schedule.episodes(server)]
    storage.write_table("incidents.parquet", incident_table(schedule, episodes))
    storage.write_table("topology.parquet", topology_table(schedule.layout, servers))
    storage.write_table("maintenance.parquet", maintenance_table(schedule, servers))
