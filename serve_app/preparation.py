"""What is done once, before the deployments start: checks, keys, the clock, samples of a dataset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.clock import ClockSpec
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.dataset.reader import Dataset
from fleetcast.store.engine import Store
from fleetcast.store.keys import SCOPES, create_key, list_keys, revoke
from fleetcast.store.samples import append_samples, newest_timestamp
from serve_app.intake import moment_of
from serve_app.schedule import STEP

FIRST_KEY = "admin"
FEED_KEY = "demo-feed"


def first_key(store: Store) -> str | None:
    """The first API key, with all scopes, made now; None when there is one already."""
    with store.session() as session:
        if any(key.revoked_at is None and key.name != FEED_KEY for key in list_keys(session)):
            return None
        return create_key(session, FIRST_KEY, SCOPES, datetime.now(UTC))


def fresh_key(store: Store, name: str, scopes: tuple[str, ...]) -> str:
    """A new key of this name; an earlier one of the name is revoked."""
    now = datetime.now(UTC)
    with store.session() as session:
        if any(key.name == name and key.revoked_at is None for key in list_keys(session)):
            revoke(session, name, now)
            session.flush()
        return create_key(session, name, scopes, now)


def feed_key(store: Store) -> str:
    """A new key for the demo feed, which reads the scenario, writes samples and announces maintenance."""
    return fresh_key(store, FEED_KEY, ("read", "write", "operate"))


def demo_clock(store: Store, dataset: Dataset, speed: float, anchor: float) -> ClockSpec:
    """The simulated clock that continues a dataset, or what was stored since: one step after the newest sample."""
    end = dataset.manifest.end
    with store.reading() as session:
        newest = newest_timestamp(session)
    if newest is not None:
        end = max(end, moment_of(newest))
    return ClockSpec(origin=end + STEP, anchor=anchor, speed=speed)


def preload(store: Store, dataset: Dataset, span: timedelta) -> int:
    """Store the last hours of a dataset; returns the number of rows."""
    since = dataset.manifest.end - span
    rows = 0
    for table in dataset.tables():
        recent = table.filter(pc.greater_equal(table["timestamp"], pa.scalar(since, TIMESTAMP)))
        with store.session() as session:
            rows += append_samples(session, recent.drop_columns(["state"]))
    return rows
