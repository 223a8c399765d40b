"""A storm: 2,000 of 10,000 servers change their level in one step; until incidents and outbox are in SQLite.

`python -m benchmarks.alerting [--quick]` ends with one line of JSON; `ours` are seconds from the risks of the step to
the commit, the median of the rounds. The storm has servers of one cell with the same trouble, databases with all that
depend on them, and servers on their own; 200 alerts are live before it. Beside it are the same rows put into the same
tables by plain `sqlite3` in one transaction, which decides nothing.

Besides, of the probable upstream (`fleetcast.alerting.correlation`): seconds for 1,000 servers, for an incident of 40
and against all; and how often it is named, and rightly, for the cascades of three simulated fleets.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._report import finish, is_quick
from fleetcast.alerting.correlation import METRICS, STEPS, Correlator
from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap, ServerRule
from fleetcast.alerting.routing import Routing
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings
from fleetcast.simulate.simulator import simulate, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World
from fleetcast.store.engine import open_store

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
STEP = timedelta(minutes=5)
CELL, LEAVES = 40, 19  # servers of a cell; servers that depend on one database
SETTINGS = AlertSettings(open_after_cycles=1)  # all open at once: the most there can be to do
CHANCES = {"P1": (0.8, 0.9), "P2": (0.5, 0.7), "P3": (0.1, 0.6), "P4": (0.0, 0.1)}
TABLES = ("alerts", "alert_events", "outbox", "escalations")
MOST_SECONDS, MOST_CORRELATION_SECONDS = 5.0, 1.0


def main() -> None:
    quick = is_quick(__doc__)
    servers, changes, rounds = (500, 100, 1) if quick else (10_000, 2_000, 5)
    folder = Path(tempfile.mkdtemp(prefix="fleetcast-benchmark-"))
    try:
        found = [storm(folder / str(number), servers, changes) for number in range(rounds)]
    finally:
        shutil.rmtree(folder)
    named = upstream(*((25, 12.0, 1) if quick else (100, 120.0, 3)))
    finish(report(found, servers, changes) | {"upstream": named, "seconds_of_all": named["seconds_of_all"]}, quick)


def storm(folder: Path, servers: int, changes: int) -> dict[str, Any]:
    """One round: seconds of the step and of the bare inserts, and what was decided."""
    folder.mkdir()
    path = folder / "fleet.db"
    names = [f"web{number:05d}" for number in range(servers)]
    struck = changes_of(names, changes)
    engine = AlertEngine(open_store(f"sqlite:///{path}"), SETTINGS, Routing.default(), fleet_of(names, changes))
    live = {name: "P2" for name in names[-servers // 50 :]}
    calm = [risk(name, live.get(name, "P4")) for name in names]
    engine.observe(calm, START)
    before = rows_of(path)
    risks = [risk(name, struck.get(name, live.get(name, "P4"))) for name in names]
    begin, busy = time.perf_counter(), time.process_time()
    decided = engine.observe(risks, START + STEP)
    seconds, processor = time.perf_counter() - begin, time.process_time() - busy
    engine.store.close()
    assert len(decided.opened) == changes
    return {
        "seconds": seconds,
        "processor": processor,
        "bare": bare_seconds(path, before),
        "incidents": sum(alert.parent_id is None for alert in decided.opened),
        "notifications": rows_of(path)["outbox"] - before["outbox"],
    }


def changes_of(names: list[str], changes: int) -> dict[str, str]:
    """The level of each server that is struck: three fifths by cells, a fifth by databases, a fifth alone."""
    levels = ["P1", "P2", "P3"]
    return {name: levels[number // CELL % 3] for number, name in enumerate(names[:changes])}


def fleet_of(names: list[str], changes: int) -> FleetMap:
    by_cell, by_database = 3 * changes // 5, 4 * changes // 5
    rules = [
        ServerRule(match="|".join(names[first : first + CELL]), labels={"cell": f"c{first // CELL}"})
        for first in range(0, by_cell, CELL)
    ]
    edges = {
        name: [names[first]]
        for first in range(by_cell, by_database, LEAVES + 1)
        for name in names[first + 1 : min(first + LEAVES + 1, by_database)]
    }
    return FleetMap(rules, edges)


def risk(server: str, level: str) -> Risk:
    p_30m, p_8h = CHANCES[level]
    return Risk(
        server=server, profile="web_api", origin=START, p_30m=p_30m, p_2h=p_8h, p_8h=p_8h, open=False, level=level,
        score=50.0, metric="memory_used", metric_probabilities={"memory_used": p_8h}, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


def rows_of(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def bare_seconds(path: Path, before: dict[str, int]) -> float:
    """The rows that the step added, once more, into a copy without them."""
    copy = path.with_name("bare.db")
    shutil.copy(path, copy)
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    rows = {}
    for table in TABLES:
        rows[table] = connection.execute(f"SELECT * FROM {table} WHERE id > ?", (before[table],)).fetchall()
    for table in reversed(TABLES):
        connection.execute(f"DELETE FROM {table} WHERE id > ?", (before[table],))
    begin = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    for table, new in rows.items():
        if new:
            connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(new[0]))})", new)
    connection.execute("COMMIT")
    seconds = time.perf_counter() - begin
    connection.close()
    return seconds


def upstream(servers: int, hours: float, fleets: int) -> dict[str, float]:
    """What naming a probable upstream costs and finds."""
    names = [str(number) for number in range(1_000)]
    values = np.random.default_rng(0).standard_normal((len(METRICS), 1_000, STEPS)).astype(np.float32)
    seconds = {}
    for word, size in (("seconds_of_40", 40), ("seconds_of_all", 999)):
        begin = time.perf_counter()
        Correlator(names, values).find(names[:size])
        seconds[word] = time.perf_counter() - begin
    counts = [
        cascades(FleetSpec(servers=servers, hours=hours, seed=5 + one, scenario="cascade")) for one in range(fleets)
    ]
    told = dict(zip(("cascades", "named", "right"), np.sum(counts, axis=0).tolist(), strict=True))
    return seconds | told


def cascades(spec: FleetSpec) -> tuple[int, int, int]:
    """Cascades of a simulated fleet, half an hour after the last of them struck: all, named, rightly named."""
    world = World(spec)
    arrays, _ = simulate_arrays(world, range(spec.servers))
    values = np.stack([arrays.values[name] for name in METRICS])
    found = simulate(spec).incidents.to_pylist()
    heads = {one["incident"]: one["server"] for one in found}
    struck: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        if one["cause"] in heads:
            struck.setdefault(one["cause"], []).append(one)
    counts = [0, 0, 0]
    for cause, followers in struck.items():
        last = max(one["onset"] for one in followers)
        end = int(last.timestamp() - arrays.start) // STEP_SECONDS + 6
        if not STEPS <= end < values.shape[2]:
            continue
        suspect = Correlator(arrays.servers, values[:, :, end - STEPS : end + 1]).find(
            [one["server"] for one in followers]
        )
        counts[0] += 1
        counts[1] += suspect is not None
        counts[2] += suspect is not None and suspect.server == heads[cause]
    return counts[0], counts[1], counts[2]


def report(found: list[dict[str, Any]], servers: int, changes: int) -> dict[str, object]:
    ours = statistics.median(one["seconds"] for one in found)
    peer = statistics.median(one["bare"] for one in found)
    first = found[0]
    print(
        f"{servers:,} servers, {changes:,} changes: {first['incidents']:,} incidents, "
        f"{first['notifications']:,} notifications, {ours:.2f} s (bare inserts {peer:.3f} s)"
    )
    return {
        "benchmark": "alerting",
        "ours": ours,
        "peer": peer,
        "peer_name": "the same rows by plain sqlite3",
        "ratio": ours / peer,
        "unit": "s a step",
        "limit": {"ours": {"at_most": MOST_SECONDS}, "seconds_of_all": {"at_most": MOST_CORRELATION_SECONDS}},
        "threads": 1,
        "rounds": len(found),
        "spread": {"least": min(one["seconds"] for one in found), "most": max(one["seconds"] for one in found)},
        "processor_seconds": statistics.median(one["processor"] for one in found),
        "servers": servers,
        "changes": changes,
        "incidents": first["incidents"],
        "notifications": first["notifications"],
    }


if __name__ == "__main__":
    main()
