"""Whatever is killed between decision and receipt: no incident is lost, none opens twice, a receiver sees each once."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from fleetcast.alerting.dispatch import Dispatcher
from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap, ServerRule
from fleetcast.alerting.notifiers.build import build_notifiers
from fleetcast.alerting.routing import Routing
from fleetcast.store.engine import Store, open_store
from fleetcast.store.tables import AlertTable, NotificationTable
from tests.delivery_process import ROUTING, SETTINGS, START, risk
from tests.loopback import Answer, Loopback, Request, loopback
from tests.postgres import server
from tests.prometheus import free_port
from tests.unit.test_store import check_migration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Makes URLs of new, migrated databases."""
    folder, numbers = tmp_path_factory.mktemp("databases"), itertools.count()
    if request.param == "sqlite":
        open_store(f"sqlite:///{folder}/template.db").close()

        def copy() -> str:
            path = folder / f"{next(numbers)}.db"
            shutil.copy(folder / "template.db", path)
            return f"sqlite:///{path}"

        yield copy
        return
    with server() as url:
        open_store(url.replace("/postgres?", "/template1?")).close()
        admin = create_engine(url, isolation_level="AUTOCOMMIT")

        def create() -> str:
            name = f"fleet{next(numbers)}"
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            return url.replace("/postgres?", f"/{name}?")

        yield create
        admin.dispose()


class Zygote:
    """The process that forks others."""

    def __init__(self, folder: Path) -> None:
        self.pid_file = folder / "pid"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.delivery_process"],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, url: str, receiver: str, point: int = 0, hours: float = 0.0) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(url, receiver, point, hours, self.pid_file, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    found = Zygote(tmp_path_factory.mktemp("zygote"))
    yield found
    assert found.process.stdin is not None
    found.process.stdin.close()
    assert found.process.wait(30) == 0


def check_everything_arrived_once(url: str, receiver: Loopback, most: int = 1) -> None:
    """One incident, over; its receiver, who drops keys that it knows, saw it begin and then end; `most` repeats."""
    kept = dict.fromkeys(
        (r.headers["idempotency-key"], r.json["incident"], r.json["action"]) for r in receiver.requests
    )
    assert [action for _, _, action in kept] == ["trigger", "resolve"]
    assert len({incident for _, incident, _ in kept}) == 1
    assert len(receiver.requests) <= 2 + most
    store = open_store(url)
    with store.reading() as session:
        assert session.scalars(select(AlertTable.state)).all() == ["resolved"]
        assert session.scalars(select(NotificationTable.status)).all() == ["sent", "sent"]
    store.close()


def test_a_kill_at_any_point_loses_nothing_and_opens_nothing_twice(fresh: Callable[[], str], zygote: Zygote) -> None:
    points = 0
    with loopback() as receiver:
        for point in itertools.count(1):
            url = fresh()
            receiver.requests.clear()
            code = zygote.run(url, receiver.url, point)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            points += 1
            assert zygote.run(url, receiver.url, hours=1.0) == 0
            check_everything_arrived_once(url, receiver)
    assert points == 16  # two messages: decided, claimed, sent and recorded


@pytest.mark.parametrize("number", [0, 1])
def test_a_kill_while_the_receiver_has_it_and_has_not_answered(
    fresh: Callable[[], str], zygote: Zygote, number: int
) -> None:
    def kill(request: Request) -> Answer:
        os.kill(int(zygote.pid_file.read_text()), signal.SIGKILL)
        return Answer()

    with loopback() as receiver:
        url = fresh()
        receiver.script.extend([lambda request: Answer()] * number + [kill])
        assert zygote.run(url, receiver.url) == -signal.SIGKILL
        assert zygote.run(url, receiver.url, hours=1.0) == 0
        check_everything_arrived_once(url, receiver)


def test_a_database_of_schema_0004_is_migrated_on_postgresql() -> None:
    with server() as url:
        check_migration(url)


def test_joining_silences_and_ladders_are_the_same_on_both_databases(fresh: Callable[[], str]) -> None:
    store = open_store(fresh())
    fleet = FleetMap([ServerRule(match="web[12]", labels={"cell": "a"})])
    engine = AlertEngine(store, SETTINGS, Routing.default(), fleet)
    engine.silence(['server="web3"'], (START, START + timedelta(hours=1)), "ann", "", START)
    three = [risk("P1").model_copy(update={"server": f"web{number}"}) for number in (1, 2, 3)]
    opened = engine.observe(three, START + timedelta(minutes=5)).opened
    assert [alert.parent_id for alert in opened] == [None, opened[0].id, None]
    assert [alert.inhibited_by for alert in opened][::2] == [None, "silence 1"]
    (climbed,) = engine.tick(START + timedelta(minutes=20))
    assert [step.done for step in climbed.escalation] == [True, False]
    assert engine.acknowledge(opened[1].id, "ann", START + timedelta(minutes=21)).state == "acknowledged"
    assert engine.tick(START + timedelta(hours=9)) == []
    store.close()


class Wall:
    """A machine's clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def delivering(url: str, receiver: str, wall: Wall) -> Iterator[tuple[AlertEngine, Dispatcher, Store]]:
    store = open_store(url)
    routing = Routing.parse(ROUTING.format(url=receiver), "test")
    notifiers = build_notifiers(routing.receivers, SETTINGS)
    yield AlertEngine(store, SETTINGS, routing), Dispatcher(store, notifiers, SETTINGS, wall), store
    store.close()


def test_a_receiver_that_is_away_for_an_hour_gets_all_in_order(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "secret")
    wall, port, url = Wall(), free_port(), fresh()
    back = START + timedelta(hours=1)
    with delivering(url, f"http://127.0.0.1:{port}", wall) as (engine, dispatcher, _):
        engine.observe([risk("P1")], START)
        engine.observe([risk("P4")], START + timedelta(minutes=5))
        attempts = 0
        while wall.now < back:
            attempts += 1
            done = dispatcher.run_once()
            assert (done.sent, done.failed) == (0, 0)
            assert done.next_at is not None
            assert done.next_at > wall.now
            wall.now = done.next_at
        assert 10 < attempts < 100
        with loopback(port) as receiver:
            while (done := dispatcher.run_once()).next_at is not None:
                wall.now = max(wall.now, done.next_at)
            assert wall.now < back + timedelta(minutes=10)
            check_everything_arrived_once(url, receiver, most=0)


def test_two_dispatchers_at_once_send_each_message_once(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "secret")
    wall, url = Wall(), fresh()
    with loopback() as receiver, delivering(url, receiver.url, wall) as (engine, first, _):
        risks = [risk("P1").model_copy(update={"server": f"web{number}"}) for number in range(40)]
        engine.observe(risks, START)
        with delivering(url, receiver.url, wall) as (_, second, _):
            rounds = [threading.Thread(target=one.run_once) for one in (first, second) for _ in range(2)]
            for thread in rounds:
                thread.start()
            for thread in rounds:
                thread.join()
        assert first.run_once().next_at is None
        keys = [request.headers["idempotency-key"] for request in receiver.requests]
        assert len(keys) == len(set(keys)) == 40


def test_a_receiver_that_asks_to_wait_is_left_alone_until_then(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "secret")
    wall = Wall()
    with loopback() as receiver, delivering(fresh(), receiver.url, wall) as (engine, dispatcher, store):
        receiver.script.extend([Answer(429, {"Retry-After": "120"})])
        engine.observe([risk("P1")], START)
        assert dispatcher.run_once().retried == 1
        engine.observe([risk("P1").model_copy(update={"server": "web2"})], START + timedelta(minutes=5))
        with store.reading() as session:
            assert session.scalars(select(NotificationTable.error)).all() == [
                'the webhook answered 429: {"status": "success"}', None,
            ]  # fmt: skip
        wall.now = START + timedelta(seconds=119)
        assert dispatcher.run_once().sent <= 1  # the one that came later
        asked = len(receiver.requests)
        wall.now = START + timedelta(seconds=122)
        assert dispatcher.run_once().sent + asked == 3


def test_what_is_refused_for_good_is_given_up_and_says_why(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "secret")
    wall = Wall()
    with loopback() as receiver, delivering(fresh(), receiver.url, wall) as (engine, dispatcher, _):
        receiver.script.append(Answer(410, {}, b"gone"))
        engine.observe([risk("P1")], START)
        assert dispatcher.run_once().failed == 1
        (alert,) = engine.list_alerts()
        (sent,) = alert.notifications
        assert (sent.status, sent.error, sent.attempts) == ("failed", "the webhook answered 410: gone", 1)
        receiver.script.append(Answer(503))
        engine.observe([risk("P1").model_copy(update={"server": "web2"})], START + timedelta(minutes=5))
        assert dispatcher.run_once().retried == 1
        wall.now += timedelta(seconds=SETTINGS.give_up_s)
        receiver.script.append(Answer(503))
        assert dispatcher.run_once().failed == 1
