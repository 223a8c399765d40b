"""A test of a route: messages that go the way of real ones, through the outbox and the dispatcher."""

from __future__ import annotations

import secrets
import time
from datetime import datetime

from sqlalchemy import select

from fleetcast.alerting.dispatch import Dispatcher
from fleetcast.alerting.outbox import WAITING, WOULD_HAVE_SENT
from fleetcast.alerting.present import notification_view
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import NotificationView
from fleetcast.errors import NotFoundError, UsageError
from fleetcast.store import audit
from fleetcast.store.engine import Store
from fleetcast.store.tables import NotificationTable

TEXT = "test of the route {route}: nothing is wrong, nobody has to do anything"
POLL_S = 0.2


def try_route(
    store: Store,
    routing: Routing,
    dispatcher: Dispatcher,
    name: str,
    by: str,
    now: datetime,
    send: bool,
    patience_s: float,
) -> list[NotificationView]:
    """Send a test to all receivers of a route, also those of its ladder; returns what came of it after `patience_s`.

    In shadow mode nothing leaves unless `send` says so. Raises `NotFoundError` for a route that is not there,
    `UsageError` when a receiver lacks what sending needs.
    """
    branch = routing.branch_named(name)
    if branch is None:
        there = ", ".join(one.name for one in routing.branches())
        raise NotFoundError(f"there is no route {name!r}; there are {there}")
    live = send or not branch.shadow
    mark = secrets.token_hex(8)
    receivers = list(dict.fromkeys((*branch.receivers, *(step.to for step in branch.escalation))))
    for receiver in receivers:
        missing = routing.receivers[receiver].missing()
        if live and missing:
            raise UsageError(f"nothing can be sent to {receiver!r}: it lacks {', '.join(missing)}")
    with store.session() as session:
        for receiver in receivers:
            session.add(
                NotificationTable(
                    key=f"test/{mark}/{receiver}",
                    episode=0,
                    at=now,
                    action="test",
                    level="P4",
                    receiver=receiver,
                    channel=routing.receivers[receiver].channel,
                    to=routing.receivers[receiver].to,
                    status=WAITING if live else WOULD_HAVE_SENT,
                    text=TEXT.format(route=name),
                    facts={},
                    attempts=0,
                )
            )
        audit.record(session, now, by, "test route", name, "sent" if live else "shadow")
    return _wait(store, dispatcher, f"test/{mark}/", patience_s)


def _wait(store: Store, dispatcher: Dispatcher, prefix: str, patience_s: float) -> list[NotificationView]:
    deadline = time.monotonic() + patience_s
    mine = select(NotificationTable).where(NotificationTable.key.startswith(prefix)).order_by(NotificationTable.id)
    while True:
        with store.reading() as session:
            rows = session.scalars(mine).all()
        if all(row.status != WAITING for row in rows) or time.monotonic() >= deadline:
            return [notification_view(row) for row in rows]
        if not dispatcher.run_once().sent:
            time.sleep(POLL_S)
