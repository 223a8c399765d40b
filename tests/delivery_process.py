"""Processes of the delivery test: one that has everything imported, and forks one that dies at a given point.

Reads lines `URL RECEIVER POINT HOURS PIDFILE` from standard input; answers with the exit code of the process that it
forked for it, which writes its id into the file first. Points are counted: before and after every commit of a
transaction that writes, before every message is sent and after it was answered. The process kills itself with SIGKILL
at its point; 0 is never.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from fleetcast.alerting.dispatch import Dispatcher
from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.notifiers.build import build_notifiers
from fleetcast.alerting.notifiers.port import Message, Notifier
from fleetcast.alerting.routing import Routing
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import open_store

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
SETTINGS = AlertSettings(
    open_after_cycles=1, resolve_after_cycles=1, allow_private=["127.0.0.0/8"], timeout_s=5, cool_down_s=0
)
ROUTING = """
receivers:
  hook: {{channel: webhook, to: test, address: '{url}', secret: {{env: KEY}}}}
route: {{name: all, receivers: [hook], shadow: false}}
"""


class Deadline:
    """Counts points, and ends the process at one of them."""

    def __init__(self, at: int) -> None:
        self.left = at

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, engine: Any) -> None:
        writes = False

        def statement(_: Any, __: Any, text: str, *___: Any) -> None:
            nonlocal writes
            writes = writes or text.lstrip().startswith(("INSERT", "UPDATE"))

        def before(_: Any) -> None:
            if writes:
                self.step()

        def after(_: Any) -> None:
            nonlocal writes
            if writes:
                self.step()
            writes = False

        event.listen(engine, "after_cursor_execute", statement)
        event.listen(Session, "before_commit", before)
        event.listen(Session, "after_commit", after)


class Watched:
    """A notifier between two points."""

    def __init__(self, inner: Notifier, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def send(self, message: Message) -> str | None:
        self._deadline.step()
        found = self._inner.send(message)
        self._deadline.step()
        return found


def risk(level: str) -> Risk:
    p = {"P1": 0.9, "P4": 0.1}[level]
    return Risk(
        server="web1", profile="web_api", origin=START, p_30m=p, p_2h=p, p_8h=p, open=False, level=level,
        score=100 * p, metric="memory_used", metric_probabilities={"memory_used": p}, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


def run(url: str, receiver: str, point: int, hours: float) -> None:
    """An incident opens, is sent, is over, and that is sent; whatever of it was done before is not done again."""
    store = open_store(url)
    deadline = Deadline(point)
    deadline.watch(store.engine)
    routing = Routing.parse(ROUTING.format(url=receiver), "test")
    engine = AlertEngine(store, SETTINGS, routing)
    notifiers = {name: Watched(one, deadline) for name, one in build_notifiers(routing.receivers, SETTINGS).items()}
    dispatcher = Dispatcher(store, notifiers, SETTINGS, lambda: START + timedelta(hours=hours))
    span = next(iter(engine.list_alerts()), None)
    if span is None:
        engine.observe([risk("P1")], START)
    dispatcher.run_once()
    if span is None or span.state != "resolved":
        engine.observe([risk("P4")], START + timedelta(minutes=5))
    dispatcher.run_once()
    dispatcher.run_once()


def main() -> None:
    os.environ["KEY"] = "secret"
    with TemporaryDirectory() as folder:  # what is done here once is not done in every process
        AlertEngine(open_store(f"sqlite:///{folder}/warm.db"), SETTINGS, Routing.default()).observe([risk("P1")], START)
    for line in sys.stdin:
        url, receiver, point, hours, pid_file = line.split()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                Path(pid_file).write_text(str(os.getpid()))
                run(url, receiver, int(point), float(hours))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
