"""What has been over for long is deleted whole, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from fleetcast.alerting.fleet import FleetMap
from fleetcast.store.cycles import ALERTING, observed
from fleetcast.store.engine import Store
from fleetcast.store.tables import AlertEventTable, AlertTable, EscalationTable, NotificationTable
from fleetcast.store.tables_remediation import ApprovalTable, EffectTable, PlanTable
from tests.postgres import store_on
from tests.unit.test_alerting import SETTINGS, STEP, Watch, depending, risk

KEEP = timedelta(days=SETTINGS.keep_days)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_on(request.param, tmp_path) as found:
        yield found


def ended(store: Store, fleet: FleetMap | None = None, *servers: str) -> Watch:
    """An incident of these servers that was sent and is over, and a younger alert."""
    watch = Watch(store, fleet=fleet)
    for level in ("P1", "P1", "P1", "P4", "P4", "P4", "P4"):
        watch.see(*(risk(level, server) for server in servers or ("web1",)))
    assert {alert.state for alert in watch.by_server().values()} == {"resolved"}
    watch.see(risk("P3", "young"))
    return watch


def rows(store: Store, alerts: set[int]) -> list[int]:
    """How many rows there are of these alerts, by table."""
    tables = (AlertTable.id, AlertEventTable.alert_id, EscalationTable.alert_id, NotificationTable.alert_id)
    with store.reading() as session:
        return [session.scalar(select(func.count()).where(column.in_(alerts))) or 0 for column in tables]


def test_an_incident_that_was_over_for_long_goes_with_all_that_was_written_of_it(store: Store) -> None:
    watch = ended(store, depending(web1="db1"), "web1", "db1")
    old = {alert.id for alert in watch.by_server().values() if alert.state == "resolved"}
    assert (len(old), min(rows(store, old)) > 0) == (2, True)
    assert watch.engine.forget(watch.now + KEEP - timedelta(hours=1)) == 0
    later = watch.now + KEEP + STEP
    assert watch.engine.forget(later) == 1, "both servers are one incident"
    assert rows(store, old) == [0, 0, 0, 0]
    assert watch.engine.forget(later) == 0
    with store.reading() as session:
        span = observed(session, ALERTING)
    assert span is not None
    assert span.first_at == watch.now, "the record begins anew; it has no cycle after the last one"
    for _ in range(2):
        watch.see(risk("P1"))
    assert watch.by_server()["web1"].state == "open", "its key is free"


def test_what_is_not_over_stays_however_old(store: Store) -> None:
    watch = Watch(store, fleet=depending(web1="db1"))
    for level in ("P1", "P1", "P4", "P4", "P4", "P4"):
        watch.see(risk(level, "web1"), risk("P1", "db1"))
    watch.see(risk("P3", "young"))
    assert watch.engine.forget(watch.now + 10 * KEEP) == 0, "one of its servers is still at risk"
    assert {"web1", "db1"} <= watch.by_server().keys()


def test_the_number_of_an_alert_is_never_given_out_again(store: Store) -> None:
    watch = Watch(store)
    for level in ("P1", "P1", "P4", "P4", "P4"):
        watch.see(risk(level))
    newest = watch.by_server()["web1"].id
    assert watch.engine.forget(watch.now + KEEP + STEP) == 0
    for _ in range(2):
        watch.see(risk("P1", "web2"))
    assert watch.by_server()["web2"].id > newest
    assert watch.engine.forget(watch.now + KEEP + STEP) == 1


def test_a_plan_that_was_started_keeps_its_incident_and_a_measured_effect_outlives_it(store: Store) -> None:
    watch = ended(store)
    alert = watch.by_server()["web1"].id
    with store.session() as session:
        session.add(EffectTable(
            at=watch.now, playbook="p", source="execution", arm="control", alert_id=alert, cases=1, incidents=1,
            detail="",
        ))  # fmt: skip
        plan = PlanTable(
            hash="0", content="{}", alert_id=alert, profile="web_api", mode="live", requested_by="ana",
            status="executed", created_at=watch.now, expires_at=watch.now, started_at=watch.now,
        )  # fmt: skip
        plan.approval = ApprovalTable(plan_hash="0", by="bob", role="engineer", at=watch.now, expires_at=watch.now)
        session.add(plan)
    later = watch.now + KEEP + STEP
    assert watch.engine.forget(later) == 0
    with store.session() as session:
        session.get_one(PlanTable, plan.id).started_at = None
    assert watch.engine.forget(later) == 1
    with store.reading() as session:
        effect = session.scalars(select(EffectTable)).one()
        assert session.scalars(select(PlanTable)).all() == []
        assert session.scalars(select(ApprovalTable)).all() == []
    assert (effect.alert_id, effect.cases, effect.incidents) == (None, 1, 1)
