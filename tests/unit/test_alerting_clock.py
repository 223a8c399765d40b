"""Alerts when the clock is set back, and between two cycles."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from fleetcast.store.engine import open_store
from tests.unit.test_alerting import SETTINGS, Watch, risk


def test_a_clock_that_is_set_back_opens_the_same_incident_once_and_resolves_it(tmp_path: Path) -> None:
    watch = Watch(open_store(f"sqlite:///{tmp_path}/alerts.db"))
    watch.see(risk("P1"))
    watch.now -= timedelta(hours=1)
    (opened,) = watch.see(risk("P1")).opened
    watch.see(risk("P1", "web2"))
    watch.now -= timedelta(hours=1)
    (second,) = watch.see(risk("P1"), risk("P1", "web2")).opened
    assert (opened.server, second.server) == ("web1", "web2")
    for _ in range(SETTINGS.resolve_after_cycles):
        watch.see(risk("P4"), risk("P4", "web2"))
    assert {alert.state for alert in watch.engine.list_alerts()} == {"resolved"}


def test_a_silence_holds_the_ladder_at_once(tmp_path: Path) -> None:
    watch = Watch(open_store(f"sqlite:///{tmp_path}/alerts.db"))
    watch.see(risk("P1"))
    watch.see(risk("P1"))
    at = watch.now + timedelta(minutes=14)
    silence = watch.engine.silence(['server="web1"'], (at, at + timedelta(hours=1)), "ann", "disk swap", at)
    assert watch.engine.tick(at + timedelta(minutes=1)) == [], "no cycle has seen the silence yet"
    watch.engine.end_silence(silence.id, "ann", at + timedelta(minutes=2))
    assert [alert.server for alert in watch.engine.tick(at + timedelta(minutes=2))] == ["web1"]
