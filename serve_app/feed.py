"""The live demo feed: continues a simulated fleet into the service, with the scenario that the service asks for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa

from fleetcast.clock import Clock, floor_to_step
from fleetcast.errors import AuthenticationError, PermissionDeniedError, ServiceError, UsageError
from fleetcast.remediation.simulated_executor import apply
from fleetcast.simulate.live import LiveFleet
from serve_app.schedule import STEP
from serve_app.schemas import DemoInfo
from serve_app.schemas_remediation import SimulatedActions

CHUNK_ROWS = 10_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
POLL_S = 1.0
MAINTENANCE_EVERY = timedelta(hours=6)
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

Say = Callable[[str], None]


class Orphaned(ServiceError):  # noqa: N818 (an end, not a failure)
    """The process that started the feed is gone."""


class FeedClient:
    """The API as the feed uses it: tries again with growing pauses while the service is away."""

    def __init__(self, http: httpx.Client, key: str, parent: int | None, say: Say) -> None:
        self._http, self._parent, self._say = http, parent, say
        self._headers = {"Authorization": f"Bearer {key}"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON.

        Raises `AuthenticationError` and `PermissionDeniedError` for the key, `ServiceError` for any other refusal
        and `Orphaned` when there is no longer a parent to serve.
        """
        pause = FIRST_PAUSE_S
        while True:
            self.check_parent()
            try:
                answer = self._http.request(method, path, json=body, headers=self._headers)
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    return answer.json()
                if answer.status_code not in _TRY_AGAIN:
                    raise _refusal(answer, f"{method} {path}")
                trouble = f"{method} {path} answered {answer.status_code}"
            self._say(f"feed: the service is away ({trouble}); next try in {pause:g} s")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def check_parent(self) -> None:
        """Raise `Orphaned` when the process that started the feed has ended."""
        if self._parent is not None and os.getppid() != self._parent:
            raise Orphaned(f"process {self._parent}, which started the feed, has ended")


class Feed:
    """Posts each step of the fleet, which has samples from `start` on, once the clock has passed it."""

    def __init__(self, live: LiveFleet, start: datetime, client: FeedClient, clock: Clock, say: Say) -> None:
        self._start = start
        self._live, self._client, self._clock, self._say = live, client, clock, say
        self._posted: datetime | None = None
        self._since: datetime | None = None
        self._planned: set[tuple[str, datetime]] = set()
        self._planned_at: datetime | None = None
        self._acted = 0

    def backfill(self, hours: float) -> int:
        """Post the last hours up to now; returns the number of rows."""
        self._follow_actions()
        last = self.newest_complete()
        first = max(self._start, last - timedelta(hours=hours))
        rows = self._live.rows(first, last)
        self._post(rows)
        self._posted = last
        return int(rows.num_rows)

    def step(self) -> None:
        """Play the scenario asked for, do what remediation did, announce maintenance, post what is complete."""
        self._follow_scenario()
        self._follow_actions()
        self._announce_maintenance()
        last = self.newest_complete()
        if self._posted is None or last > self._posted:
            first = last if self._posted is None else self._posted + STEP
            self._post(self._live.rows(first, last))
            self._posted = last

    def pause_s(self) -> float:
        """Seconds until there is something to do."""
        return min(POLL_S, self._clock.sleep_seconds(self.newest_complete() + 2 * STEP))

    def newest_complete(self) -> datetime:
        """Start of the newest cell that the clock has passed."""
        return floor_to_step(self._clock.now()) - STEP

    def _follow_scenario(self) -> None:
        asked = DemoInfo.model_validate(self._client.call("GET", "/v1/demo"))
        if asked.scenario is None or asked.since is None or asked.since == self._since:
            return
        at = max(floor_to_step(asked.since), self._posted or floor_to_step(asked.since))
        try:
            struck = self._live.switch(asked.scenario, at, asked.servers)
        except UsageError as error:
            self._say(f"feed: the scenario {asked.scenario} cannot be played: {error}")
        else:
            where = f" on {', '.join(struck)}" if struck else ""
            self._say(f"feed: scenario {asked.scenario} from {at.isoformat()}{where}")
        self._since = asked.since

    def _follow_actions(self) -> None:
        """Let the fleet feel what was done to it since the last time, from the first step that is not posted yet."""
        found = SimulatedActions.model_validate(
            self._client.call("GET", f"/v1/remediation/simulated?after={self._acted}")
        )
        for one in found.items:
            self._acted = one.id
            try:
                apply(self._live, [one], self._posted)
            except UsageError as error:
                self._say(f"feed: {one.action} of {one.server} cannot be done: {error}")
            else:
                self._say(f"feed: {one.action} of {one.server}")

    def _announce_maintenance(self) -> None:
        now = self._clock.now()
        if self._planned_at is not None and now - self._planned_at < MAINTENANCE_EVERY:
            return
        for window in self._live.maintenance(now).to_pylist():
            name = (window["server"], window["start"])
            if window["end"] > now and name not in self._planned:
                body = {
                    "server": window["server"],
                    "start": window["start"].isoformat(),
                    "end": window["end"].isoformat(),
                }
                self._client.call("POST", "/v1/maintenance", body)
                self._planned.add(name)
        self._planned_at = now

    def _post(self, table: pa.Table) -> None:
        for chunk in _chunks(table):
            answer = self._client.call("POST", "/v1/samples", {"samples": chunk})
            if answer["quarantined"]:
                first = answer["quarantined"][0]
                raise ServiceError(f"the service refused {len(answer['quarantined'])} samples, the first: {first}")


def _chunks(table: pa.Table) -> Iterable[list[dict[str, Any]]]:
    """JSON rows of the API, at most 10,000 at a time; missing values are left out."""
    plain = table.drop_columns(["state"])
    for first in range(0, plain.num_rows, CHUNK_ROWS):
        rows = plain.slice(first, CHUNK_ROWS).to_pylist()
        yield [
            {
                **{name: value for name, value in row.items() if value is not None},
                "timestamp": row["timestamp"].isoformat(),
            }
            for row in rows
        ]


def _refusal(answer: httpx.Response, what: str) -> ServiceError:
    message = f"{what} answered {answer.status_code}: {answer.text[:500]}"
    kinds: dict[int, type[ServiceError]] = {401: AuthenticationError, 403: PermissionDeniedError}
    return kinds.get(answer.status_code, ServiceError)(message)
