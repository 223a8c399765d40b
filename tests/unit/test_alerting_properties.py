"""Whatever the risks do: one alert a key at a time, one page an alert and level, and no memory outside the store."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap, ServerRule
from fleetcast.alerting.lifecycle import LIVE, OVER, TRANSITIONS
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import AlertView
from fleetcast.errors import ConflictError
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import Store, open_store

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
SETTINGS = AlertSettings(open_after_cycles=2, resolve_after_cycles=3, shadow=True)
FLEET = FleetMap([ServerRule(match="[cd]", labels={"cell": "z"})], {"b": ["a"], "c": ["b"], "a": ["c"]})
CHANCES = {"P1": (0.8, 0.9), "P2": (0.5, 0.7), "P3": (0.1, 0.6), "P4": (0.0, 0.1)}


class Seen(NamedTuple):
    """What a cycle sees of a server."""

    level: str
    metric: str
    other: float
    maintenance: bool


class Act(NamedTuple):
    """What somebody does after a cycle to one of the alerts there are."""

    what: str
    which: int


seen = st.builds(
    Seen,
    st.sampled_from(sorted(CHANCES)),
    st.sampled_from(["cpu_utilization", "memory_used"]),
    st.sampled_from([0.0, 0.45]),
    st.booleans(),
)
acts = st.none() | st.builds(
    Act, st.sampled_from(["acknowledge", "resolve", "mitigate", "mitigation_failed"]), st.integers(0, 5)
)
pauses = st.sampled_from([5, 5, 5, 20, 90])
cycles = st.lists(st.tuples(st.dictionaries(st.sampled_from("abcd"), seen), acts, pauses), min_size=1, max_size=12)
Cycles = Sequence[tuple[dict[str, Seen], Act | None, int]]


def risk(server: str, what: Seen) -> Risk:
    p_30m, p_8h = CHANCES[what.level]
    chances = {"cpu_utilization": what.other, "memory_used": what.other} | {what.metric: p_8h}
    return Risk(
        server=server, profile="generic", origin=START, p_30m=p_30m, p_2h=p_8h, p_8h=p_8h, open=False,
        level=what.level, score=50.0, metric=what.metric, metric_probabilities=chances, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, made once."""
    path = tmp_path_factory.mktemp("template") / "empty.db"
    open_store(f"sqlite:///{path}").close()
    return path


@contextmanager
def fresh_store(template: Path) -> Iterator[Store]:
    with TemporaryDirectory() as folder:
        shutil.copy(template, f"{folder}/a.db")
        store = open_store(f"sqlite:///{Path(folder)}/a.db")
        store.engine.dispose()
        event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        yield store
        store.close()


def run(store: Store, sequence: Cycles, restart: bool) -> list[AlertView]:
    """The alerts after a sequence of cycles; with `restart` every cycle is a new engine's first."""
    engine = AlertEngine(store, SETTINGS, Routing.default(), FLEET)
    now = START
    for cycle, act, minutes in sequence:
        if restart:
            engine = AlertEngine(store, SETTINGS, Routing.default(), FLEET)
        risks = [risk(server, what) for server, what in cycle.items()]
        quiet = frozenset(server for server, what in cycle.items() if what.maintenance)
        now += timedelta(minutes=minutes)
        engine.observe(risks, now, quiet)
        if act is not None:
            perform(engine, act, now)
        engine.tick(now + timedelta(minutes=4))
        check_whole(engine)
    return everything(engine)


def everything(engine: AlertEngine) -> list[AlertView]:
    return sorted({one.id: one for one in engine.list_alerts() + engine.list_alerts("expired")}.values(), key=str)


def perform(engine: AlertEngine, act: Act, now: datetime) -> None:
    """Do it where the state machine lets one; nothing changes where it does not."""
    alerts = engine.list_alerts()
    if act.which < len(alerts):
        before = everything(engine)
        try:
            until = (now + timedelta(hours=1),) if act.what == "mitigate" else ()
            getattr(engine, act.what)(alerts[act.which].id, "ann", now, *until)
        except ConflictError:
            assert everything(engine) == before


def check_whole(engine: AlertEngine) -> None:
    """One alert a key that is not over; parts belong to a live incident that has no parent, and are in its state."""
    alerts = {alert.id: alert for alert in engine.list_alerts()}
    keys = [alert.key for alert in alerts.values() if alert.state not in OVER]
    assert len(keys) == len(set(keys))
    for alert in alerts.values():
        if alert.state in LIVE and alert.parent_id is not None:
            head = alerts[alert.parent_id]
            assert (head.state, head.parent_id) == (alert.state, None)


@settings(max_examples=20, deadline=None)
@given(cycles)
def test_alerts_follow_the_state_machine_and_page_once(template: Path, sequence: Cycles) -> None:
    with fresh_store(template) as store:
        for alert in run(store, sequence, restart=False):
            states = [entry.event for entry in alert.timeline if entry.event in TRANSITIONS]
            assert states[0] == "pending"
            assert states[-1] == alert.state
            assert all(after in TRANSITIONS[before] for before, after in itertools.pairwise(states))
            assert [entry.at for entry in alert.timeline] == sorted(entry.at for entry in alert.timeline)
            told = Counter((n.channel, n.to, n.text.partition(":")[0], n.text[:4]) for n in alert.notifications)
            episodes = 1 + alert.reopened
            assert not told or max(told.values()) <= episodes
            assert alert.opened_at or not alert.notifications


@settings(max_examples=8, deadline=None)
@given(cycles)
def test_a_restart_before_every_cycle_changes_nothing(template: Path, sequence: Cycles) -> None:
    with fresh_store(template) as one, fresh_store(template) as other:
        assert run(one, sequence, restart=False) == run(other, sequence, restart=True)


@settings(max_examples=15, deadline=None)
@given(cycles)
def test_where_alerts_are_open_somebody_was_told_unless_in_maintenance(template: Path, sequence: Cycles) -> None:
    """Joining and inhibition never hide everything, although three of the servers depend on each other in a ring."""
    awake = [
        ({s: w._replace(maintenance=False) for s, w in cycle.items()}, None, pause) for cycle, _, pause in sequence
    ]
    with fresh_store(template) as store:
        live = [alert for alert in run(store, awake, restart=False) if alert.state == "open"]
        assert not live or any(alert.inhibited_by is None for alert in live)
        assert all(alert.notifications for alert in live if alert.inhibited_by is None)
