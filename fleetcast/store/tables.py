"""The tables. What they hold is decided by the rooms that use them; `migrations` makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fleetcast.errors import StoreError


class UtcDateTime(TypeDecorator[datetime]):
    """A time with a time zone in, the same instant in UTC out, whatever the database keeps."""

    impl = SqlDateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; raises `StoreError` for a time without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise StoreError(f"the time {value} has no time zone: give it one (UTC)")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """With time zone UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables; constraints have names, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads a plain class attribute)
        str: Text(),
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


class SampleChunkTable(Base):
    """Samples of one span of time, as they were committed together or compacted; times are Unix seconds."""

    __tablename__ = "sample_chunks"
    __table_args__ = (Index(None, "bucket", "id"), Index(None, "last"))

    id: Mapped[int] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(BigInteger)
    first: Mapped[int] = mapped_column(BigInteger)
    last: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int] = mapped_column(BigInteger)
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class RawChunkTable(Base):
    """Samples of counters and gauges that have not become a whole step yet, as they were received."""

    __tablename__ = "raw_chunks"

    id: Mapped[int] = mapped_column(primary_key=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class MarkTable(Base):
    """How far a source has been read: Unix seconds by its name."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)


class HostLabelsTable(Base):
    """Labels of servers that their source gives, by their names."""

    __tablename__ = "host_labels"

    server: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)


class QuarantineTable(Base):
    """Values that were refused, and why; `row` counts from 0 in the request."""

    __tablename__ = "quarantine"
    __table_args__ = (Index(None, "server"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    sender: Mapped[str]
    row: Mapped[int] = mapped_column(BigInteger)
    server: Mapped[str | None]
    timestamp: Mapped[str | None]
    column: Mapped[str]
    value: Mapped[str | None]
    rule: Mapped[str]


class ApiKeyTable(Base):
    """API keys, of which only a salted hash is kept; `prefix` finds the row."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index(
            "uq_api_keys_name_in_force",
            "name",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    prefix: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class AuditTable(Base):
    """Who did what when; triggers refuse to change or delete a row. `hash` covers the row and `previous`."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]
    previous: Mapped[str]  # hash of the entry before
    hash: Mapped[str]


class AuditHeadTable(Base):
    """The last entry of the audit trail: one row, locked by whoever adds the next."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]
    entries: Mapped[int] = mapped_column(BigInteger)


class CycleTable(Base):
    """How long a room has been observing: one row an observer."""

    __tablename__ = "cycles"

    observer: Mapped[str] = mapped_column(primary_key=True)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    count: Mapped[int]


class AlertTable(Base):
    """One alert; at most one of a key is not over (a partial unique index sees to it).

    An alert without a parent is an incident: it is what people are told of. Those with one are further servers of it.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        Index(
            "uq_alerts_key_not_over",
            "key",
            unique=True,
            sqlite_where=text("state NOT IN ('resolved', 'expired')"),
            postgresql_where=text("state NOT IN ('resolved', 'expired')"),
        ),
        Index(None, "state"),
        Index(None, "parent_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]
    parent_id: Mapped[int | None]
    server: Mapped[str]
    profile: Mapped[str]
    metric: Mapped[str]
    labels: Mapped[dict[str, Any]]
    level: Mapped[str]
    state: Mapped[str]
    score: Mapped[float]
    p_30m: Mapped[float | None]
    p_8h: Mapped[float | None]
    p_forecast: Mapped[float | None]  # P(8 h) of the last cycle, up to the opening, before the incident was open
    cycles_at_level: Mapped[int]
    cycles_below: Mapped[int]
    first_seen_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # the last cycle that knew anything of the server
    resolved_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]  # when the incident itself was first observed
    reopened: Mapped[int]  # how often it came back within the cool-down
    acknowledged_by: Mapped[str | None]
    acknowledged_at: Mapped[datetime | None]
    mitigating_until: Mapped[datetime | None]
    inhibited_by: Mapped[str | None]
    dependent: Mapped[bool]  # something else explained it when it opened: no incident of its own
    suspect: Mapped[str | None]  # the server upstream that residuals point at
    message: Mapped[str]
    sent_level: Mapped[str | None]  # the most urgent level that was sent
    sent_at: Mapped[datetime | None]


class AlertEventTable(Base):
    """The timeline of an alert."""

    __tablename__ = "alert_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id"), index=True)
    at: Mapped[datetime]
    event: Mapped[str]
    detail: Mapped[str]

    alert: Mapped[AlertTable] = relationship()


class EscalationTable(Base):
    """A step of the ladder of an incident that was sent: whom to tell when nobody has acknowledged it by `due_at`."""

    __tablename__ = "escalations"
    __table_args__ = (Index(None, "state", "due_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id"), index=True)
    level: Mapped[str]
    route: Mapped[str]
    receiver: Mapped[str]
    after_s: Mapped[int]
    due_at: Mapped[datetime]
    state: Mapped[str]  # waiting, done or cancelled


class NotificationTable(Base):
    """The outbox: written in the transaction that decides; `key` lets a receiver drop a repeat.

    `status` is "would have sent" (shadow mode: final), "waiting", "sent" or "failed". Whoever delivers a row holds it
    by `claim` until `claimed_until`, both of the machine's clock as is `next_at`; `at` is of the service's clock.
    """

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "status", "next_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    alert_id: Mapped[int | None] = mapped_column(ForeignKey("alerts.id"), index=True)
    episode: Mapped[int]  # how often the alert had been reopened
    at: Mapped[datetime]
    action: Mapped[str]  # trigger, acknowledge, resolve or test
    level: Mapped[str]
    receiver: Mapped[str]  # its name in the routing
    channel: Mapped[str]
    to: Mapped[str]
    status: Mapped[str]
    text: Mapped[str]
    facts: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    first_tried_at: Mapped[datetime | None]
    next_at: Mapped[datetime | None]
    claim: Mapped[str | None]
    claimed_until: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    reference: Mapped[str | None]  # what the receiver calls it, e.g. the time stamp of a Slack message
    error: Mapped[str | None]


class SilenceTable(Base):
    """Alerts that fit all `matchers` are not sent from `starts_at` up to `ends_at`."""

    __tablename__ = "silences"

    id: Mapped[int] = mapped_column(primary_key=True)
    matchers: Mapped[list[str]]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime] = mapped_column(index=True)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    comment: Mapped[str]
    ended_by: Mapped[str | None]  # who ended it before its time


class CostAssumptionTable(Base):
    """Every set of cost assumptions that was saved; the newest is in force."""

    __tablename__ = "cost_assumptions"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    author: Mapped[str]
    assumptions: Mapped[dict[str, Any]]


class MaintenanceTable(Base):
    """Planned maintenance of a server, `start` to `end`."""

    __tablename__ = "maintenance"

    server: Mapped[str] = mapped_column(primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)
    end: Mapped[datetime]


class LeaseTable(Base):
    """Who holds a lease (empty: nobody), the number of its holders so far, and the beats of this one."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    fence: Mapped[int] = mapped_column(BigInteger)
    beat: Mapped[int] = mapped_column(BigInteger)


class ForecastCycleTable(Base):
    """A forecast cycle: `origin` in Unix seconds, the model, the risks, the file of the forecasts (none: not kept)."""

    __tablename__ = "forecast_cycles"

    origin: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    fence: Mapped[int] = mapped_column(BigInteger)
    run: Mapped[str]
    digest: Mapped[str]
    servers: Mapped[int]
    file: Mapped[str | None]
    whole: Mapped[bool]  # all steps are in the file, not only chosen horizons
    risks: Mapped[bytes] = mapped_column(LargeBinary)
