"""Labels of servers that their source gives, a Prometheus say: alerts carry them and are joined and routed by them."""

from __future__ import annotations

from collections.abc import Container, Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleetcast.store.tables import HostLabelsTable

Labels = Mapping[str, Mapping[str, str]]


def load_host_labels(session: Session) -> dict[str, dict[str, str]]:
    """The labels by server."""
    return {row.server: row.labels for row in session.scalars(select(HostLabelsTable))}


def save_host_labels(session: Session, labels: Labels, here: Container[str]) -> None:
    """Put these labels in the place of what their servers had; servers that are not `here` any more are forgotten."""
    known = load_host_labels(session)
    for server, found in labels.items():
        if known.get(server, {}) != found:
            known[server] = dict(found)
            session.merge(HostLabelsTable(server=server, labels=known[server]))
    gone = [server for server, found in known.items() if not found or server not in here]
    for server in gone:
        session.execute(delete(HostLabelsTable).where(HostLabelsTable.server == server))
