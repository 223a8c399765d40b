"""Silences: alerts that fit are not sent for a while. Every silence has an end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting.fleet import attributes_of
from fleetcast.alerting.matchers import Matcher, all_match
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import SilenceView
from fleetcast.errors import ConflictError, NotFoundError, UsageError
from fleetcast.store import audit
from fleetcast.store.tables import AlertTable, SilenceTable

MOST_MATCHERS = 20


def add_silence(
    session: Session,
    matchers: Sequence[str],
    span: tuple[datetime, datetime],
    by: str,
    comment: str,
    now: datetime,
    longest: timedelta,
) -> SilenceView:
    """Silence the alerts that fit all matchers for a span of time.

    Raises `UsageError` for no matchers or wrong ones, and for a span that has ended or is longer than `longest`.
    """
    start, end = span
    if not 0 < len(matchers) <= MOST_MATCHERS:
        raise UsageError(f"a silence has 1 to {MOST_MATCHERS} matchers, found {len(matchers)}")
    if end <= max(start, now):
        raise UsageError(f"a silence ends after now and after its start: it would end at {end.isoformat()}")
    if end - start > longest:
        raise UsageError(f"a silence lasts at most {longest.total_seconds() / 3600:g} h, found {end - start}")
    parsed = [str(Matcher.parse(text)) for text in matchers]
    row = SilenceTable(matchers=parsed, starts_at=start, ends_at=end, created_by=by, created_at=now, comment=comment)
    session.add(row)
    session.flush()
    audit.record(session, now, by, "silence alerts", str(row.id), f"{', '.join(parsed)} until {end.isoformat()}")
    return _view(row)


def end_silence(session: Session, silence_id: int, by: str, now: datetime) -> SilenceView:
    """End a silence now. Raises `NotFoundError`, or `ConflictError` when it is over."""
    row = session.get(SilenceTable, silence_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"there is no silence {silence_id}")
    if row.ends_at <= now:
        raise ConflictError(f"silence {silence_id} is over since {row.ends_at.isoformat()}")
    row.ends_at, row.ended_by = now, by
    audit.record(session, now, by, "end silence", str(silence_id), ", ".join(row.matchers))
    return _view(row)


def list_silences(session: Session, now: datetime, ended: bool = False, limit: int = 200) -> list[SilenceView]:
    """Silences that are not over, and with `ended` the others too: the newest first."""
    query = select(SilenceTable).order_by(SilenceTable.id.desc()).limit(limit)
    query = query if ended else query.where(SilenceTable.ends_at > now)
    return [_view(row) for row in session.scalars(query)]


def quiet_at(session: Session, routing: Routing, now: datetime) -> Callable[[AlertTable], str | None]:
    """What silences an alert at `now`: a silence, or a recurring window of the routing."""
    query = select(SilenceTable).where(SilenceTable.starts_at <= now, SilenceTable.ends_at > now)
    active = [(row.id, [Matcher.parse(text) for text in row.matchers]) for row in session.scalars(query)]

    def quiet(alert: AlertTable) -> str | None:
        attributes = attributes_of(alert.level, alert.profile, alert.server, alert.metric, alert.labels)
        found = next((number for number, matchers in active if all_match(matchers, attributes)), None)
        return routing.maintenance(attributes, now) if found is None else f"silence {found}"

    return quiet


def _view(row: SilenceTable) -> SilenceView:
    return SilenceView.model_validate({name: getattr(row, name) for name in SilenceView.model_fields})
