"""Labels of servers that their source gives, a Prometheus say: alerts carry them and are joined and routed by them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleetcast.store.tables import HostLabelsTable

Labels = Mapping[str, Mapping[str, str]]


def load_host_labels(session: Session) -> dict[str, dict[str, str]]:
    """The labels by server."""
    return {row.server: row.labels for row in session.scalars(select(HostLabelsTable))}


def save_host_labels(session: Session, labels: Labels, most: int) -> None:
    """Put these labels in the place of what their servers had.

    When there are more than `most` servers then, those that are not among `labels` are forgotten.
    """
    known = load_host_labels(session)
    for server, found in labels.items():
        if known.get(server) != found:
            session.merge(HostLabelsTable(server=server, labels=dict(found)))
    gone = sorted(known.keys() - labels.keys())
    if gone and len(known.keys() | labels.keys()) > most:
        session.execute(delete(HostLabelsTable).where(HostLabelsTable.server.in_(gone)))
