"""What keeps the stored samples small: retention and compaction, in the background, one at a time."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from fleetcast.errors import StoreError
from fleetcast.store.engine import Store
from fleetcast.store.samples import buckets_to_compact, delete_samples_before, merge_bucket, replace_chunks
from serve_app.ring import Ring

logger = logging.getLogger("ray.serve")

PRUNE_EVERY = timedelta(hours=1)
COMPACT_EVERY_S = 30.0


class Upkeep:
    """Deletes what is older than `retention` every hour of the clock, and merges chunks every half minute."""

    def __init__(self, store: Store, ring: Ring, retention: timedelta) -> None:
        self._store, self._ring, self._retention = store, ring, retention
        self._pruned: datetime | None = None
        self._compacted = 0.0
        self._task: asyncio.Task[None] | None = None

    def after_commit(self, now: datetime) -> None:
        """Start what is due, unless it runs already."""
        if self._task is not None and not self._task.done():
            return
        wall = asyncio.get_running_loop().time()
        prune = self._pruned is None or now - self._pruned >= PRUNE_EVERY
        if prune or wall - self._compacted >= COMPACT_EVERY_S:
            if prune:
                self._pruned = now
                self._ring.drop_silent()
            self._compacted = wall
            self._task = asyncio.create_task(asyncio.to_thread(self._run, now if prune else None))

    def _run(self, now: datetime | None) -> None:
        """One round; what fails is logged and tried again with the next."""
        try:
            if now is not None:
                delete_old(self._store, now - self._retention)
            compact(self._store)
        except StoreError as error:
            logger.warning("retention or compaction failed, next try follows: %s", error)


def delete_old(store: Store, before: datetime) -> int:
    """Delete samples of spans that ended before a time; returns how many."""
    with store.session() as session:
        deleted = delete_samples_before(session, int(before.timestamp()))
    if deleted:
        logger.info("deleted %d samples that were older than the retention", deleted)
    return deleted


def compact(store: Store) -> int:
    """Merge the chunks of spans that have many, one span at a time; returns how many spans were merged.

    Reading and merging hold no lock; writers wait for the exchange only.
    """
    with store.reading() as session:
        due = buckets_to_compact(session)
    done = 0
    for bucket in due:
        with store.reading() as session:
            merged = merge_bucket(session, bucket)
        if merged is not None:
            with store.session() as session:
                done += replace_chunks(session, *merged)
    return done
