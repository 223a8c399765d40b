"""Whatever the risks do: one alert a key at a time, one page an alert and level, and no memory outside the store."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.lifecycle import TRANSITIONS
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import AlertView
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import Store, open_store

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
SETTINGS = AlertSettings(open_after_cycles=2, resolve_after_cycles=3, shadow=True)
UPSTREAMS = {"b": ["a"], "c": ["b"], "a": ["c"]}
CHANCES = {"P1": (0.8, 0.9), "P2": (0.5, 0.7), "P3": (0.1, 0.6), "P4": (0.0, 0.1)}


class Seen(NamedTuple):
    """What a cycle sees of a server."""

    level: str
    metric: str
    other: float
    maintenance: bool


seen = st.builds(
    Seen,
    st.sampled_from(sorted(CHANCES)),
    st.sampled_from(["cpu_utilization", "memory_used"]),
    st.sampled_from([0.0, 0.45]),
    st.booleans(),
)
cycles = st.lists(st.dictionaries(st.sampled_from("abc"), seen), min_size=1, max_size=14)


def risk(server: str, what: Seen) -> Risk:
    p_30m, p_8h = CHANCES[what.level]
    chances = {"cpu_utilization": what.other, "memory_used": what.other} | {what.metric: p_8h}
    return Risk(
        server=server, profile="generic", origin=START, p_30m=p_30m, p_2h=p_8h, p_8h=p_8h, open=False,
        level=what.level, score=50.0, metric=what.metric, metric_probabilities=chances, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


@contextmanager
def fresh_store() -> Iterator[Store]:
    with TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{Path(folder)}/a.db")
        store.engine.dispose()
        event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        yield store
        store.close()


def run(store: Store, sequence: Sequence[dict[str, Seen]], restart: bool) -> list[AlertView]:
    """The alerts after a sequence of cycles; with `restart` every cycle is a new engine's first."""
    engine = AlertEngine(store, SETTINGS, Routing.default())
    for number, cycle in enumerate(sequence):
        if restart:
            engine = AlertEngine(store, SETTINGS, Routing.default())
        risks = [risk(server, what) for server, what in cycle.items()]
        quiet = frozenset(server for server, what in cycle.items() if what.maintenance)
        engine.observe(risks, START + number * timedelta(minutes=5), quiet, UPSTREAMS)
        one_of_a_key(engine)
    return engine.list_alerts() + engine.list_alerts("expired")


def one_of_a_key(engine: AlertEngine) -> None:
    live = [alert.key for alert in engine.list_alerts() if alert.state != "resolved"]
    assert len(live) == len(set(live))


@settings(max_examples=25, deadline=None)
@given(cycles)
def test_alerts_follow_the_state_machine_and_page_once(sequence: list[dict[str, Seen]]) -> None:
    with fresh_store() as store:
        for alert in run(store, sequence, restart=False):
            states = [entry.event for entry in alert.timeline if entry.event in TRANSITIONS]
            assert states[0] == "pending"
            assert states[-1] == alert.state
            assert all(after in TRANSITIONS[before] for before, after in itertools.pairwise(states))
            assert len(states) == len(set(states))
            assert [entry.at for entry in alert.timeline] == sorted(entry.at for entry in alert.timeline)
            told = Counter((n.channel, n.to, n.text.partition("]")[0]) for n in alert.notifications)
            assert not told or max(told.values()) == 1
            assert alert.opened_at or not alert.notifications


@settings(max_examples=15, deadline=None)
@given(cycles)
def test_a_restart_before_every_cycle_changes_nothing(sequence: list[dict[str, Seen]]) -> None:
    with fresh_store() as one, fresh_store() as other:
        assert run(one, sequence, restart=False) == run(other, sequence, restart=True)


@settings(max_examples=15, deadline=None)
@given(cycles)
def test_where_alerts_are_live_somebody_was_told_unless_in_maintenance(sequence: list[dict[str, Seen]]) -> None:
    """Inhibition never hides everything, although the three servers depend on each other in a ring."""
    with fresh_store() as store:
        alerts = run(store, [{s: w._replace(maintenance=False) for s, w in c.items()} for c in sequence], restart=False)
        live = [alert for alert in alerts if alert.state == "open"]
        assert not live or any(alert.inhibited_by is None for alert in live)
