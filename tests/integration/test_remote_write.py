"""Remote write: raw counters become the contract's metrics, from the real Prometheus and across restarts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap, ServerRule
from fleetcast.alerting.routing import Routing
from fleetcast.clock import ClockSpec
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.errors import ContractError
from fleetcast.settings import AlertSettings, PrometheusSettings
from fleetcast.sources.prometheus.raw import RAW, cells_of
from fleetcast.sources.prometheus.relabel import Relabeller
from fleetcast.sources.prometheus.rollup import roll_up_raw
from fleetcast.sources.prometheus.write import decode_write, messages
from fleetcast.store.engine import open_store
from fleetcast.store.host_labels import load_host_labels, save_host_labels
from fleetcast.store.keys import create_key
from fleetcast.store.quarantine import list_refused
from serve_app.arguments import AppArgs
from serve_app.auth import KeyRing
from serve_app.history import History
from serve_app.ingress import make_app
from serve_app.services import Services
from tests.prometheus import busy, free_port, host_lines, memory, node_exporter, prometheus
from tests.unit.test_alerting import risk

START = int(datetime(2026, 1, 12, 8, tzinfo=UTC).timestamp())
MOST = 10**7
PATIENCE_S = 60.0
RULES = Relabeller(PrometheusSettings().relabel)


def body(lines: Iterable[str]) -> bytes:
    """A remote write of OpenMetrics lines."""
    kinds = messages()
    request = kinds["WriteRequest"]()
    for line in lines:
        name, _, rest = line.partition("{")
        labels, _, numbers = rest.partition("} ")
        number, second = numbers.split()
        series = request.timeseries.add()
        named = [("__name__", name)]
        for pair in labels.split(","):
            label, _, quoted = pair.partition("=")
            named.append((label, quoted.strip('"')))
        series.labels.extend(kinds["Label"](name=label, value=value).SerializeToString() for label, value in named)
        series.samples.add(value=float(number), timestamp=1000 * int(second))
    plain = request.SerializeToString()
    return bytes(pa.compress(plain, codec="snappy", asbytes=True))


def between(lines: Iterable[str], first: int, last: int) -> list[str]:
    return [line for line in lines if first <= int(line.rpartition(" ")[2]) < last]


def test_counters_become_rates_whatever_began_again_and_gauges_means() -> None:
    boot = START + 3600 + 90
    lines = list(host_lines("ppweb0001:9100", START, START + 7200, boots=[boot]))
    raw = decode_write(body(lines), MOST, MOST)
    assert set(raw["name"].to_pylist()) < {line.partition("{")[0] for line in lines} | {"x"}
    (host,) = set(raw["host"].to_pylist())
    for cell in range(START + 300, START + 6900, 300):
        (row,) = roll_up_raw(raw, cell, [host], RULES).to_pylist()
        assert (row["server"], row["profile"], int(row["timestamp"].timestamp())) == ("ppweb0001", "web_api", cell)
        # the sample on a cell's first second still counts for the cell before it: one of five intervals
        expected = (4 * busy(cell) + busy(cell - 1)) / 5
        assert row["cpu_utilization"] == pytest.approx(expected, abs=0.02)
        assert row["cpu_user"] == pytest.approx(expected, abs=0.02)
        assert row["memory_used"] == pytest.approx((4 * memory(cell) + memory(cell - 1)) / 5, abs=1e-6)
        assert row["network_receive_bytes"] == pytest.approx(1000, rel=0.25 if cell <= boot < cell + 300 else 1e-6)
    assert roll_up_raw(raw, START + 7500, [host], RULES).num_rows == 0
    gauges = decode_write(body(line for line in lines if "memory" in line), MOST, MOST)
    (row,) = roll_up_raw(gauges, START + 300, [host], RULES).to_pylist()
    assert "cpu_utilization" not in row
    assert row["memory_used"] > 0


@given(st.binary(max_size=200))
def test_what_is_no_remote_write_is_refused(data: bytes) -> None:
    with suppress(ContractError):
        assert decode_write(data, MOST, MOST).schema == RAW


def test_a_small_body_that_unpacks_to_a_large_one_is_refused_unread() -> None:
    with pytest.raises(ContractError, match="at most 1000"):
        decode_write(bytes(pa.compress(b"\0" * 10**6, codec="snappy", asbytes=True)), 1000, MOST)


def test_a_request_of_too_many_samples_is_refused() -> None:
    lines = list(host_lines("ppweb0001:9100", START, START + 600))
    with pytest.raises(ContractError, match=rf"{len(lines)} samples, at most {len(lines) - 1}"):
        decode_write(body(lines), MOST, len(lines) - 1)
    assert decode_write(body(lines), MOST, len(lines)).num_rows


def args(tmp_path: Path, now: int | None) -> AppArgs:
    clock = ClockSpec()
    if now is not None:
        clock = ClockSpec(origin=datetime.fromtimestamp(now, UTC), anchor=time.time(), speed=1e-6)
    return AppArgs(bundle="", database=f"sqlite:///{tmp_path / 'home' / 'fleetcast.db'}", clock=clock)


async def cpu_of(history: History, server: str) -> dict[int, float]:
    found = await history.of_server(server, 24)
    if found is None:
        return {}
    pairs = zip(found.timestamps, found.metrics["cpu_utilization"], strict=True)
    return {int(moment.timestamp()): value for moment, value in pairs if value is not None}


def test_open_counters_survive_restarts_and_what_is_sent_again_counts_once(tmp_path: Path) -> None:
    """The same samples in one go, and in pieces with a restart after each, every piece sent twice."""
    lines = list(host_lines("ppweb0001:9100", START, START + 3600, every=15))

    async def in_pieces(folder: Path, seconds: int) -> dict[int, float]:
        found: dict[int, float] = {}
        for at in range(START, START + 3600, seconds):
            history = History(args(folder, at + seconds + 30), "UTC", 100)
            raw = decode_write(body(between(lines, at, at + seconds)), MOST, MOST)
            await history.receive(raw)
            await history.receive(raw)
            await history._receiver.roll()
            found = await cpu_of(history, "ppweb0001")
            history._receiver._loop.cancel()  # the process dies; nothing is closed
        return found

    async def scene() -> None:
        whole = await in_pieces(tmp_path / "whole", 3600)
        pieces = await in_pieces(tmp_path / "pieces", 100)
        assert len(whole) == 12
        assert pieces == pytest.approx(whole, abs=1e-6)

    asyncio.run(scene())


def test_a_backlog_fills_the_steps_that_were_missed_of_every_host(tmp_path: Path) -> None:
    web, late = (list(host_lines(f"{name}:9100", START, START + 3600, every=15)) for name in ("ppweb0001", "late"))

    async def scene() -> None:
        history = History(args(tmp_path, START + 3700), "UTC", 100)
        await history.receive(decode_write(body(web), MOST, MOST))
        await history._receiver.roll()
        before = await cpu_of(history, "ppweb0001")
        for at in range(START, START + 3600, 600):
            await history.receive(decode_write(body(between(late, at, at + 600)), MOST, MOST))
            await history._receiver.roll()
        assert await cpu_of(history, "late") == pytest.approx(before, abs=1e-6)
        assert await cpu_of(history, "ppweb0001") == before
        history._receiver._clock = args(tmp_path, START + 4100).clock.build()
        await history.receive(decode_write(body(between(web, START + 3600, START + 3601)), MOST, MOST))
        await history._receiver.roll()
        assert history._receiver._raw.num_rows < 2 * len(web) / 4, "what is final is let go"
        history._receiver._loop.cancel()

    asyncio.run(scene())


def test_a_sender_that_leaves_takes_no_other_with_it(tmp_path: Path) -> None:
    """Requests that are stored together: the others' are acknowledged once they are there, and are rolled up."""
    lines = {name: list(host_lines(f"{name}:9100", START, START + 300)) for name in ("one", "two", "three")}

    async def scene() -> None:
        history = History(args(tmp_path, START + 400), "UTC", 100)
        receiver = history._receiver
        append, gate, begun = receiver._append, threading.Semaphore(0), list[pa.Table]()

        def held(raw: pa.Table) -> None:
            begun.append(raw)
            assert gate.acquire(timeout=30)
            append(raw)

        async def until_begun(count: int) -> None:
            async with asyncio.timeout(30):
                while len(begun) < count:
                    await asyncio.sleep(0.01)

        receiver._append = held  # type: ignore[method-assign]
        raws = [decode_write(body(sent), MOST, MOST) for sent in lines.values()]
        one = asyncio.create_task(history.receive(raws[0]))
        await until_begun(1)
        two, three = (asyncio.create_task(history.receive(raw)) for raw in raws[1:])
        await asyncio.sleep(0.2)
        gate.release()
        await one
        await until_begun(2)
        two.cancel()
        await asyncio.sleep(0.2)
        assert not three.done(), "its samples are not stored yet"
        gate.release()
        await three
        await receiver.roll()
        assert await cpu_of(history, "one")
        assert await cpu_of(history, "three")
        receiver._loop.cancel()

    asyncio.run(scene())


def test_a_backlog_that_comes_while_others_are_rolled_up_is_rolled_up_too(tmp_path: Path) -> None:
    late = decode_write(body(host_lines("late:9100", START, START + 300)), MOST, MOST)

    async def scene() -> None:
        history = History(args(tmp_path, START + 4 * 3600), "UTC", 100)
        receiver = history._receiver
        take = receiver._take

        async def busy_history(checked: Any, sender: str) -> object:
            if not receiver._open & cells_of(late):
                await history.receive(late)
            return await take(checked, sender)

        receiver._take = busy_history
        await history.receive(decode_write(body(host_lines("web:9100", START + 12_000, START + 12_600)), MOST, MOST))
        await receiver.roll()
        await receiver.roll()
        assert await cpu_of(history, "late")
        receiver._loop.cancel()

    asyncio.run(scene())


@pytest.mark.parametrize("later", [0, 3600])
def test_a_backlog_whose_series_come_one_after_the_other_gives_whole_steps(tmp_path: Path, later: int) -> None:
    """As the shards of Prometheus' queue send it: memory after processors, which have been rolled up before."""
    lines = list(host_lines("web:9100", START, START + 3600))
    parts = [[line for line in lines if ("cpu" in line) == first] for first in (True, False)]

    async def scene() -> dict[str, Any]:
        for number, part in enumerate(parts):
            history = History(args(tmp_path, START + 7200 + number * later), "UTC", 100)
            await history.receive(decode_write(body(part), MOST, MOST))
            await history._receiver.roll()
            history._receiver._loop.cancel()
        found = await history.of_server("web", 24)
        assert found is not None
        return found.metrics

    metrics = asyncio.run(scene())
    for name in ("cpu_utilization", "memory_used"):
        assert sum(value is not None for value in metrics[name]) == 13, name


def halved(line: str) -> str:
    series, value, second = line.rsplit(" ", 2)
    return f"{series} {float(value) / 2} {second}"


def test_a_backlog_whose_cores_come_one_after_the_other_gives_what_all_of_them_say(tmp_path: Path) -> None:
    lines = [halved(line) if 'cpu="1"' in line else line for line in host_lines("web:9100", START, START + 3600)]
    parts = [[line for line in lines if ('cpu="0"' in line) == first] for first in (True, False)]

    async def scene(folder: Path, pieces: list[list[str]]) -> dict[int, float]:
        history = History(args(folder, START + 7200), "UTC", 100)
        for piece in pieces:
            await history.receive(decode_write(body(piece), MOST, MOST))
            await history._receiver.roll()
        history._receiver._loop.cancel()
        return await cpu_of(history, "web")

    whole = asyncio.run(scene(tmp_path / "whole", [lines]))
    assert len(whole) == 13
    assert asyncio.run(scene(tmp_path / "parts", parts)) == pytest.approx(whole)


def test_a_server_that_two_prometheus_send_is_one_server(tmp_path: Path) -> None:
    async def scene() -> None:
        history = History(args(tmp_path, START + 700), "UTC", 100)
        for replica in ("a", "b"):
            lines = [
                line.replace("{", f'{{replica="{replica}",', 1) for line in host_lines("web:9100", START, START + 600)
            ]
            await history.receive(decode_write(body(lines), MOST, MOST))
        await history._receiver.roll()
        twice = await cpu_of(history, "web")
        alone = History(args(tmp_path / "alone", START + 700), "UTC", 100)
        await alone.receive(decode_write(body(host_lines("web:9100", START, START + 600)), MOST, MOST))
        await alone._receiver.roll()
        assert twice == pytest.approx(await cpu_of(alone, "web"))
        assert len(history._ring) == 1
        for one in (history, alone):
            one._receiver._loop.cancel()

    asyncio.run(scene())
    with open_store(args(tmp_path, None).database).reading() as session:
        assert list_refused(session, None, None, 10) == []


def test_a_host_whose_name_nobody_could_ask_for_is_quarantined(tmp_path: Path) -> None:
    long = "x" * 300

    async def scene() -> None:
        history = History(args(tmp_path, START + 400), "UTC", 100)
        for name in (long, "web"):
            await history.receive(decode_write(body(host_lines(f"{name}:9100", START, START + 300)), MOST, MOST))
        await history._receiver.roll()
        assert await cpu_of(history, "web")
        assert await history.of_server(long, 24) is None
        history._receiver._loop.cancel()

    asyncio.run(scene())
    with open_store(args(tmp_path, None).database).reading() as session:
        (refused,) = list_refused(session, None, None, 10)
    assert (refused.refused.column, refused.sender) == ("server", "remote write")


def test_hosts_for_which_there_is_no_room_are_named_in_the_quarantine(tmp_path: Path) -> None:
    given = args(tmp_path, START + 400)
    given = given.model_copy(update={"service": given.service.model_copy(update={"max_servers": 2})})

    async def scene() -> None:
        history = History(given, "UTC", 100)
        for name in ("one", "two", "three", "one"):
            await history.receive(decode_write(body(host_lines(f"{name}:9100", START, START + 300)), MOST, MOST))
        await history._receiver.roll()
        assert [bool(await cpu_of(history, name)) for name in ("one", "two", "three")] == [True, True, False]
        history._receiver._loop.cancel()

    asyncio.run(scene())
    with open_store(given.database).reading() as session:
        (refused,) = list_refused(session, None, None, 10)
    assert "three" in str(refused.refused.value)
    assert "at most 2 servers" in refused.refused.rule


def test_alerts_are_joined_and_routed_by_the_labels_that_hosts_are_sent_with(tmp_path: Path) -> None:
    given = args(tmp_path, START + 400)

    async def scene() -> None:
        history = History(given, "UTC", 100)
        for name in ("web1", "web2", "web3"):
            labels = f'team="shop",cell="{"b" if name == "web3" else "a"}",level="P4",'
            lines = [line.replace("{", "{" + labels, 1) for line in host_lines(f"{name}:9100", START, START + 300)]
            await history.receive(decode_write(body(lines), MOST, MOST))
        await history._receiver.roll()
        history._receiver._loop.cancel()

    asyncio.run(scene())
    store = open_store(given.database)
    engine = AlertEngine(store, AlertSettings(open_after_cycles=1), Routing.default())
    now = datetime.fromtimestamp(START + 400, UTC)
    engine.observe([risk("P1", name) for name in ("web1", "web2", "web3")], now)
    first, third = sorted(engine.live(), key=lambda alert: alert.server)
    assert (first.server, first.labels, third.server) == ("web1", {"team": "shop", "cell": "a"}, "web3")
    with store.session() as session:
        save_host_labels(session, {"web1": {"team": "shop", "cell": "c"}, "web2": {}}, here={"web1", "web2"})
        assert load_host_labels(session) == {"web1": {"team": "shop", "cell": "c"}}, "web2 lost its, web3 is gone"
    named = FleetMap([ServerRule(match="web1", labels={"cell": "z"})])
    named.learn({"web1": {"team": "shop", "cell": "c", "depends_on": "db1, db2"}})
    assert named.labels_of("web1")["cell"] == "z", "what people write down goes before what a source says"
    assert named.upstreams_of("web1") == {"db1", "db2"}


class Local:
    """The handle of a deployment that lives in this process."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._replica, name)
        return type("Method", (), {"remote": staticmethod(method)})


@contextmanager
def service(given_args: AppArgs) -> Iterator[tuple[int, History]]:
    """The API with its history on a port of this process."""
    port, started = free_port(), threading.Event()
    held: dict[str, Any] = {}

    async def run() -> None:
        history = held["history"] = History(given_args, "UTC", 100)
        store = open_store(given_args.database)
        local: Any = Local(history)
        services = Services(given_args, STEPS_PER_DAY, given_args.clock.build(), store, KeyRing(store), *(local,) * 5)
        config = uvicorn.Config(make_app(services), host="127.0.0.1", port=port, log_level="warning")
        held["server"] = uvicorn.Server(config)
        started.set()
        await held["server"].serve()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(30)
    try:
        yield port, held["history"]
    finally:
        held["server"].should_exit = True
        thread.join(30)


def eventually(holds: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come about")


def test_two_lines_of_configuration_feed_the_real_node_exporter_in(tmp_path: Path) -> None:
    given_args = args(tmp_path, None)
    with open_store(given_args.database).session() as session:
        key = create_key(session, "prometheus", ["write"], datetime.now(UTC))
    (tmp_path / "prometheus").mkdir()
    with service(given_args) as (port, history), node_exporter(tmp_path) as exporter:
        config = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - {{job_name: node, static_configs: [{{targets: ["127.0.0.1:{exporter}"]}}]}}
remote_write:
  - {{url: "http://127.0.0.1:{port}/api/v1/write", authorization: {{credentials: {key}}}}}
"""
        with prometheus(tmp_path / "prometheus", config) as server:

            def lasting() -> Any:
                """Raw samples that lie at least 8 s in one cell."""
                raw = history._receiver._all()
                if not raw.num_rows:
                    return None
                last = max(raw["ms"].to_pylist())
                return (raw, last) if last % 300_000 >= 8000 and last - min(raw["ms"].to_pylist()) >= 8000 else None

            raw, last = eventually(lasting)
            (host,) = set(raw["host"].to_pylist())
            cell = last // 300_000 * 300
            first = max(1000 * cell, min(raw["ms"].to_pylist()))
            (row,) = roll_up_raw(raw, cell, [host], RULES).to_pylist()
            span = f"{max(2, (last - first) // 1000)}s"

            def asked(expression: str) -> float:
                ((_, value),) = server.query(expression, last / 1000)
                return value

            assert row["server"] == "127.0.0.1"
            idle = asked(f'avg by (instance) (rate(node_cpu_seconds_total{{mode="idle"}}[{span}]))')
            assert row["cpu_utilization"] == pytest.approx(max(0, 1 - idle), abs=0.1)
            free = f"avg_over_time(node_memory_MemAvailable_bytes[{span}])"
            used = f"1 - {free} / avg_over_time(node_memory_MemTotal_bytes[{span}])"
            assert row["memory_used"] == pytest.approx(asked(used), abs=0.05)
            fullest = (
                'max(1 - node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs"} / node_filesystem_size_bytes)'
            )
            if row.get("filesystem_used") is not None:
                assert row["filesystem_used"] == pytest.approx(asked(fullest), abs=0.01)
            assert row["uptime_seconds"] == pytest.approx(cell + 300 - asked("node_boot_time_seconds"), abs=1)
            cores = asked('count(node_cpu_seconds_total{mode="idle"})')
            assert row["load1_per_core"] == pytest.approx(asked(f"avg_over_time(node_load1[{span}])") / cores, abs=0.3)
            stored = {line for table in _stored(given_args.database) for line in map(tuple, _rows(table))}
            assert set(map(tuple, _rows(raw))) <= stored, "what was acknowledged is in the database"


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.select(RAW.names).to_pylist()]


def _stored(database: str) -> list[pa.Table]:
    from fleetcast.store.raw import load_raw

    with open_store(database).reading() as session:
        return list(load_raw(session))
