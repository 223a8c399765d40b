"""A whole simulated dataset with Ray Data: one task a part, each part written whole or not at all.

The same specification gives the same bytes whatever the workers; a run that was killed is finished by the next one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import ray.exceptions

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.dataset.manifest import Manifest, Part
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import describe_part, part_name, part_origin, write_manifest, write_part
from fleetcast.errors import DatasetError, FleetCastError, UsageError
from fleetcast.runtime import connect, quiet_ray_data
from fleetcast.settings import RaySettings
from fleetcast.simulate import dirt
from fleetcast.simulate.claim import RECORD, SIDE_TABLES, claimed, record_of, sweep
from fleetcast.simulate.progress import SimulationProgress
from fleetcast.simulate.simulator import SimulatedArrays, simulate_arrays, simulate_episodes, truth_tables
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.waves import fleet_inputs
from fleetcast.simulate.world import World

TASKS_A_WORKER = 4
MESSAGES_A_TASK = 16
_RESULTS = "results"
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
        DatasetError: the folder holds another dataset, another simulation writes to it, or it cannot be written; what
            this run had made is deleted then.
    """
    if shard_servers < 1 or (workers is not None and workers < 1):
        raise UsageError(f"shard_servers is {shard_servers} and workers {workers}; both are at least 1")
    fleet_inputs(spec)  # refuses a scenario that the fleet cannot play before anything is touched
    with claimed(Storage(out), record_of(spec, shard_servers), overwrite) as storage:
        connect(ray_settings or RaySettings(), log_to_driver=False)
        made = []
        with SimulationProgress(spec.servers, progress) as shown:
            for shard in _shards(spec, storage, shard_servers, workers):
                made.append(shard)
                shown.advance(len(shard.part.servers), shard.part.rows, shard.kept)
        told = sorted(shard.part.name for shard in made)
        if told != [part_name(number) for number in range(-(-spec.servers // shard_servers))]:
            raise DatasetError(f"Ray told of {len(told)} parts that are not those of the fleet: run the command again")
        _write_truth(storage, sorted(made, key=lambda shard: shard.part.name))
        sweep(storage)
        return write_manifest(storage, [shard.part for shard in made], METRIC_NAMES, spec.timezone, spec.source())


def simulate_part(spec: FleetSpec, storage: Storage, number: int, shard_servers: int) -> Shard:
    """The shard with this number: its part is read when it is there already, else simulated and written."""
    first = number * shard_servers
    servers = range(first, min(first + shard_servers, spec.servers))
    world = World(spec)
    origin = sha256(record_of(spec, shard_servers)).hexdigest()
    found = _finished_part(storage, part_name(number), origin)
    if found is not None:
        episodes = simulate_episodes(world, servers)
        return Shard(found, True, dict(zip(SIDE_TABLES, truth_tables(world, servers, episodes), strict=True)))
    arrays, episodes = simulate_arrays(world, servers)
    if spec.dirt:
        _write_arrivals(spec, storage, number, arrays)
    part = write_part(storage, number, arrays.encoded(), METRIC_NAMES, in_order=True, origin=origin)
    return Shard(part, False, dict(zip(SIDE_TABLES, truth_tables(world, servers, episodes), strict=True)))


def _write_arrivals(spec: FleetSpec, storage: Storage, number: int, arrays: SimulatedArrays) -> None:
    """The part's samples as they arrived, before the part itself: where the part is, they are too."""
    indices = dict(zip(arrays.servers, arrays.indices, strict=True))
    folder = dirt.arrivals_of(storage)
    folder.create()
    folder.write_table(part_name(number), dirt.arrivals(arrays.table(), spec.seed, indices, spec.dirt))


def _finished_part(storage: Storage, name: str, origin: str) -> Part | None:
    """A part that an earlier run of the same record wrote; None where there is none, or a damaged one."""
    if not storage.exists(name):
        return None
    content = storage.read_bytes(name)
    try:
        if part_origin(storage, name) != origin:
            return None
        return describe_part(name, storage.read_table(name, ["server", "timestamp"]), sha256(content).hexdigest())
    except DatasetError:  # damaged after it was written: made again
        return None


def _shards(spec: FleetSpec, storage: Storage, shard_servers: int, workers: int | None) -> Iterator[Shard]:
    """The shards in the order in which they are done.

    At the first error the others are called off, and it is raised when none is running any more.
    """
    shards, error = -(-spec.servers // shard_servers), ""
    tasks = _tasks(shards, workers)
    with quiet_ray_data(block_bytes=1, all_at_once=True):  # results are handed on as they come
        numbers = [{"shards": list(range(first, shards, tasks))} for first in range(tasks)]
        done = ray.data.from_items(numbers, override_num_blocks=tasks).map_batches(
            _shard_task(spec, storage.reference, shard_servers),
            batch_size=None,
            batch_format="pyarrow",
            compute=None if workers is None else ray.data.TaskPoolStrategy(size=min(workers, tasks)),
        )
        for row in _rows(done):
            if row["error"] and not error:
                error = row["error"]
                storage.delete(RECORD)
            if not error:
                truth = {name: pa.ipc.open_stream(row[name]).read_all() for name in SIDE_TABLES}
                yield Shard(Part.model_validate_json(row["part"]), row["kept"], truth)
    if error:
        raise DatasetError(error)


def _rows(done: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """What the tasks tell, as they tell it. Raises `DatasetError` when Ray gives up."""
    try:
        for message in done.iter_rows():
            yield from pa.ipc.open_stream(message[_RESULTS]).read_all().to_pylist()
    except ray.exceptions.RayError as error:
        raise DatasetError(f"Ray could not finish the simulation: {str(error).splitlines()[0]}") from error


def _tasks(shards: int, workers: int | None) -> int:
    """Tasks that share the shards: enough to keep all workers busy to the end, few enough that Ray costs little."""
    at_once = workers or int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    return min(shards, TASKS_A_WORKER * at_once)


def _shard_task(spec: FleetSpec, out: str, shard_servers: int) -> Callable[[pa.Table], Iterator[pa.Table]]:
    """A function of a batch of lists of shard numbers to messages of a row (`_SHARD_RESULT`) a shard.

    What a message tells of depends on the numbers alone: Ray starts a task again whose worker died, and leaves out as
    many of its messages as it has already had.
    """

    def make(batch: pa.Table) -> Iterator[pa.Table]:
        numbers = pc.list_flatten(batch["shards"]).to_pylist()
        together = -(-len(numbers) // MESSAGES_A_TASK)
        for first in range(0, len(numbers), together):
            yield _message([_made(spec, out, shard_servers, n) for n in numbers[first : first + together]])

    return make


def _made(spec: FleetSpec, out: str, shard_servers: int, number: int) -> dict[str, object]:
    """The row of a shard; an error is told to the driver, which raises it again."""
    try:
        storage = Storage(out)
        if not storage.exists(RECORD) or storage.read_bytes(RECORD) != record_of(spec, shard_servers):
            raise DatasetError(f"the simulation into {out} was called off")
        shard = simulate_part(spec, storage, number, shard_servers)
        truth = {name: _stream(table) for name, table in shard.truth.items()}
        return {"part": shard.part.model_dump_json(), "kept": shard.kept, "error": "", **truth}
    except (FleetCastError, OSError, MemoryError) as error:
        return {"part": "", "kept": False, "error": str(error) or type(error).__name__}


def _message(rows: list[dict[str, object]]) -> pa.Table:
    """Results as a table of one row: Ray hands on each row by itself, and waits for each to be taken."""
    return pa.table(
        {_RESULTS: pa.array([_stream(pa.Table.from_pylist(rows, schema=_SHARD_RESULT))], pa.large_binary())}
    )


def _stream(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _write_truth(storage: Storage, shards: Sequence[Shard]) -> None:
    """The side tables of the whole fleet: incidents by onset, the others in the order of the parts."""
    for name in SIDE_TABLES:
        table = pa.concat_tables([shard.truth[name] for shard in shards])
        if name == "incidents.parquet":
            table = table.sort_by([("onset", "ascending"), ("incident", "ascending")])
        storage.write_table(name, table)
