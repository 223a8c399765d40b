"""Whoever sends samples and asks how the service is, all the time, while parts of it are killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.system.test_service_process import Running

SERVERS = ("ppdb7701", "ppdb7702")
STEP_S = 300
SLACK = timedelta(seconds=5 * STEP_S)  # an origin is so near to the clock where the service says that it is ready
PATIENCE_S = 240.0  # less than two steps of 5 min


class Witness(threading.Thread):
    """Posts the newest step of two servers again and again, and reads the status between.

    `acknowledged` has the times whose samples were; `refusals` the statuses of those that were not; `lies` what the
    status said where it was ready without forecasts of now.
    """

    def __init__(self, running: Running) -> None:
        super().__init__(daemon=True)
        self._running = running
        self._over = threading.Event()
        self.acknowledged = set[int]()
        self.refusals: list[int] = []
        self.lies: list[Any] = []

    def run(self) -> None:
        while not self._over.wait(0.2):
            headers = {"Authorization": f"Bearer {self._running.key}"}
            with httpx.Client(base_url=self._running.address, headers=headers, timeout=20, trust_env=False) as client:
                try:
                    self._look(client)
                except httpx.TransportError:
                    continue  # nobody listens; what was not acknowledged is sent again

    def _look(self, client: httpx.Client) -> None:
        answer = client.get("/v1/status")
        if answer.status_code != 200:
            return
        status = answer.json()
        now = datetime.fromisoformat(status["clock"]["now"])
        if status["ready"] and abs(now - datetime.fromisoformat(status["cycle"]["origin"])) >= SLACK:
            self.lies.append(status)
        at = int(now.timestamp()) // STEP_S * STEP_S - STEP_S
        rows = [{"server": name, "timestamp": at, "cpu_utilization": value_at(at)} for name in SERVERS]
        posted = client.post("/v1/samples", json={"samples": rows})
        if posted.status_code == 200 and posted.json()["accepted"] == len(rows):
            self.acknowledged.add(at)
        else:
            self.refusals.append(posted.status_code)

    def wait_for(self, more: int) -> None:
        """Wait until samples of so many more steps are acknowledged."""
        wanted = len(self.acknowledged) + more
        wait_for(
            lambda: len(self.acknowledged) >= wanted, f"further samples (refused: {self.refusals[-3:]})", PATIENCE_S
        )

    def finish(self) -> None:
        self._over.set()
        self.join(60)

    def check(self, client: httpx.Client) -> None:
        """All that was acknowledged is there as it was sent, and `ready` was never said falsely."""
        for name in SERVERS:
            found = client.get(f"/v1/servers/{name}/history", params={"hours": 80}).json()
            pairs = zip(found["timestamps"], found["metrics"]["cpu_utilization"], strict=True)
            known = {datetime.fromisoformat(moment): value for moment, value in pairs if value is not None}
            expected = {datetime.fromtimestamp(at, UTC): value_at(at) for at in self.acknowledged}
            wrong = {
                moment: (known.get(moment), sent) for moment, sent in expected.items() if known.get(moment) != sent
            }
            assert wrong == {}, f"{len(wrong)} of {len(expected)}"
        assert self.lies == []


@contextmanager
def witnessed(running: Running) -> Iterator[Witness]:
    """Samples flow in the block, before what happens there and after it; then all of them are looked for."""
    witness = Witness(running)
    witness.start()
    try:
        witness.wait_for(1)
        yield witness
        witness.wait_for(1)
    finally:
        witness.finish()
    headers = {"Authorization": f"Bearer {running.key}"}
    with httpx.Client(base_url=running.address, headers=headers, timeout=40, trust_env=False) as client:
        witness.check(client)


def value_at(second: int) -> float:
    """A value that needs few digits, in any base."""
    return second // STEP_S % 16 / 16
