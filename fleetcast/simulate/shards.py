"""A whole simulated dataset with Ray Data: one task a part, each part written whole or not at all.

The same specification gives the same bytes whatever the workers; a run that was killed is finished by the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
from fleetcast.simulate.progress import SimulationProgress
from fleetcast.simulate.simulator import simulate_arrays, simulate_episodes, truth_tables
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World

RECORD = "simulation.json"  # what is being simulated into the folder; written first, kept
SIDE_TABLES = ("incidents.parquet", "maintenance.parquet", "topology.parquet")
OVERVIEW = "overview.png"
_SHARD_RESULT = pa.schema(
    [
        ("part", pa.string()),
        ("kept", pa.bool_()),
        *((name, pa.large_binary()) for name in SIDE_TABLES),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Shard:
    """One part, whether an earlier run had made it, and the side tables of its servers by file name."""

    part: Part
    kept: bool
    truth: dict[str, pa.Table]


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
    made = []
    with SimulationProgress(spec.servers, progress) as shown:
        for shard in _shards(spec, os.fspath(out), shard_servers, workers):
            made.append(shard)
            shown.advance(len(shard.part.servers), shard.part.rows, shard.kept)
    _write_truth(storage, sorted(made, key=lambda shard: shard.part.name))
    _sweep(storage)
    return write_manifest(storage, [shard.part for shard in made], METRIC_NAMES, spec.timezone, spec.source())


def simulate_part(spec: FleetSpec, storage: Storage, number: int, shard_servers: int) -> Shard:
    """The shard with this number: its part is read when it is there already, else simulated and written."""
    first = number * shard_servers
    servers = range(first, min(first + shard_servers, spec.servers))
    world = World(spec)
    names = sorted(world.layout.name(server) for server in servers)
    found = _finished_part(storage, part_name(number))
    if found is not None and found.servers == names:
        episodes = simulate_episodes(world, servers)
        return Shard(found, True, dict(zip(SIDE_TABLES, truth_tables(world, servers, episodes), strict=True)))
    arrays, episodes = simulate_arrays(world, servers)
    part = write_part(storage, number, arrays.encoded(), METRIC_NAMES, in_order=True)
    return Shard(part, False, dict(zip(SIDE_TABLES, truth_tables(world, servers, episodes), strict=True)))


def _finished_part(storage: Storage, name: str) -> Part | None:
    if not storage.exists(name):
        return None
    content = storage.read_bytes(name)
    try:
        return describe_part(name, storage.read_table(name, ["server", "timestamp"]), content)
    except DatasetError:  # damaged after it was written: made again
        return None


def _shards(spec: FleetSpec, out: str, shard_servers: int, workers: int | None) -> Iterator[Shard]:
    """The shards in the order in which they are done."""
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
            truth = {name: pa.ipc.open_stream(row[name]).read_all() for name in SIDE_TABLES}
            yield Shard(Part.model_validate_json(row["part"]), row["kept"], truth)


def _shard_task(spec: FleetSpec, out: str, shard_servers: int) -> Callable[[pa.Table], pa.Table]:
    """A function of a batch of shard numbers (`id`) to one row (`_SHARD_RESULT`) each."""

    def make(batch: pa.Table) -> pa.Table:
        rows: list[dict[str, Any]] = []
        for number in batch["id"].to_pylist():
            try:
                shard = simulate_part(spec, Storage(out), number, shard_servers)
                truth = {name: _stream(table) for name, table in shard.truth.items()}
                rows.append({"part": shard.part.model_dump_json(), "kept": shard.kept, "error": "", **truth})
            except FleetCastError as error:  # told to the driver, which raises it again without a Ray traceback
                rows.append({"part": "", "kept": False, "error": str(error)})
        return pa.Table.from_pylist(rows, schema=_SHARD_RESULT)

    return make


def _stream(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


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


def _write_truth(storage: Storage, shards: Sequence[Shard]) -> None:
    """The side tables of the whole fleet: incidents by onset, the others in the order of the parts."""
    for name in SIDE_TABLES:
        table = pa.concat_tables([shard.truth[name] for shard in shards])
        if name == "incidents.parquet":
            table = table.sort_by([("onset", "ascending"), ("incident", "ascending")])
        storage.write_table(name, table)
