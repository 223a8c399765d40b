"""An incident pages once, the right people, and climbs the ladder until somebody takes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap, ServerRule
from fleetcast.alerting.lifecycle import TRANSITIONS, transition
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import AlertChanges, AlertView
from fleetcast.errors import ConflictError, NotFoundError, StoreError
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings
from fleetcast.store.audit import list_audit
from fleetcast.store.engine import Store, open_store
from fleetcast.store.tables import AlertTable, NotificationTable

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
STEP = timedelta(minutes=5)
LONG = timedelta(hours=1)  # a mitigation may take so long
SETTINGS = AlertSettings(open_after_cycles=2, resolve_after_cycles=3, shadow=True)
CHANCES = {"P1": (0.8, 0.9), "P2": (0.5, 0.7), "P3": (0.1, 0.6), "P4": (0.0, 0.1)}
SCORES = {"P1": 90.0, "P2": 75.0, "P3": 50.0, "P4": 8.0}


def risk(level: str, server: str = "web1", metric: str = "memory_used", **fields: object) -> Risk:
    p_30m, p_8h = CHANCES[level]
    return Risk.model_validate(
        {
            "server": server, "profile": "web_api", "origin": START, "p_30m": p_30m, "p_2h": p_8h, "p_8h": p_8h,
            "open": False, "level": level, "score": SCORES[level], "metric": metric,
            "metric_probabilities": {metric: p_8h}, "breach_s": None, "breach_low_s": None, "breach_high_s": None,
            "source": "model", "reason": "",
        } | fields
    )  # fmt: skip


NO_FORECAST = {"p_30m": None, "p_2h": None, "p_8h": None, "score": None, "metric": None, "metric_probabilities": {}}


class Watch:
    """Feeds an engine one cycle after another."""

    def __init__(self, store: Store, settings: AlertSettings = SETTINGS, fleet: FleetMap | None = None) -> None:
        self.store = store
        self.engine = AlertEngine(store, settings, Routing.default(), fleet)
        self.now = START

    def see(self, *risks: Risk, maintenance: frozenset[str] = frozenset()) -> AlertChanges:
        self.now += STEP
        return self.engine.observe(risks, self.now, maintenance)

    def received(self) -> list[NotificationTable]:
        with self.store.reading() as session:
            return list(session.scalars(select(NotificationTable).order_by(NotificationTable.id)))

    def texts(self) -> list[str]:
        return [f"{n.channel}: {n.to} <- {n.text.split(' ')[0]}" for n in self.received()]

    def by_server(self) -> dict[str, AlertView]:
        return {alert.server: alert for alert in self.engine.list_alerts()}


def depending(**upstreams: str) -> FleetMap:
    """A fleet in which each server depends on the ones that are named, between spaces."""
    return FleetMap(edges={server: names.split() for server, names in upstreams.items()})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/alerts.db")


@pytest.fixture
def watch(store: Store) -> Watch:
    return Watch(store)


def test_a_risk_opens_an_alert_after_two_cycles_and_pages_once(watch: Watch) -> None:
    assert watch.see(risk("P1")).opened == []
    assert watch.engine.list_alerts("pending")[0].opened_at is None
    (alert,) = watch.see(risk("P1")).opened
    assert (alert.key, alert.state, alert.level) == ("web1/memory_used", "open", "P1")
    assert alert.opened_at == watch.now
    for _ in range(2):
        watch.see(risk("P1"))
    assert watch.texts() == ["PagerDuty: on-call <- [P1]", "phone: on-call <- [P1]"]
    assert {n.status for n in watch.engine.get(alert.id).notifications} == {"would have sent"}


def test_a_risk_that_passes_at_once_tells_nobody_and_is_not_listed(watch: Watch) -> None:
    watch.see(risk("P1"))
    watch.see(risk("P4"))
    assert watch.engine.list_alerts() == []
    (expired,) = watch.engine.list_alerts("expired")
    assert [event.event for event in expired.timeline] == ["pending", "expired"]
    assert watch.texts() == []


def test_p4_never_alerts(watch: Watch) -> None:
    for _ in range(5):
        watch.see(risk("P4"))
    assert watch.engine.list_alerts() == []


def test_the_alert_resolves_when_the_risk_stays_below_and_says_so_to_those_who_were_told(watch: Watch) -> None:
    for level in ("P2", "P2", "P4", "P4"):
        assert watch.see(risk(level)).resolved == []
    (alert,) = watch.see(risk("P4")).resolved
    assert (alert.state, alert.resolved_at) == ("resolved", watch.now)
    assert watch.texts()[2:] == ["Slack: fleet team <- [resolved]", "email: fleet team <- [resolved]"]
    assert [event.event for event in alert.timeline] == ["pending", "open", "resolved"]


def test_a_level_that_flaps_opens_once(watch: Watch) -> None:
    opened = [watch.see(risk("P3" if cycle % 3 < 2 else "P4")).opened for cycle in range(30)]
    assert sum(len(alerts) for alerts in opened) == 1
    assert watch.texts() == ["email: fleet team <- [P3]"]


def test_a_more_urgent_level_is_sent_and_a_less_urgent_one_is_not(watch: Watch) -> None:
    for level in ("P3", "P3", "P1", "P2", "P1"):
        changes = watch.see(risk(level))
    assert watch.texts() == ["email: fleet team <- [P3]", "PagerDuty: on-call <- [P1]", "phone: on-call <- [P1]"]
    assert changes.updated == []
    levels = [event.detail for event in watch.engine.list_alerts()[0].timeline if event.event == "level"]
    assert levels == ["P3 to P1", "P1 to P2", "P2 to P1"]


def test_nobody_answers_and_the_ladder_is_climbed_once(watch: Watch) -> None:
    watch.see(risk("P1"))
    (opened,) = watch.see(risk("P1")).opened
    assert [(step.after_s, step.done) for step in opened.escalation] == [(900, False), (1800, False)]
    escalated = [watch.see(risk("P1")).escalated for _ in range(10)]
    assert [len(alerts) for alerts in escalated] == [0, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert watch.texts()[2:] == ["PagerDuty: senior engineer <- [P1]", "phone: director <- [P1]"]
    assert all(step.done for step in watch.engine.get(opened.id).escalation)


def test_acknowledging_stops_the_ladder_and_is_on_record(watch: Watch, store: Store) -> None:
    watch.see(risk("P1"))
    (opened,) = watch.see(risk("P1")).opened
    alert = watch.engine.acknowledge(opened.id, "ann", watch.now)
    assert (alert.state, alert.acknowledged_by, alert.acknowledged_at) == ("acknowledged", "ann", watch.now)
    assert all(watch.see(risk("P1")).escalated == [] for _ in range(10))
    assert all(step.due_at is None for step in watch.engine.get(opened.id).escalation)
    with pytest.raises(ConflictError, match="is acknowledged"):
        watch.engine.acknowledge(opened.id, "bob", watch.now)
    with store.reading() as session:
        assert [(entry.actor, entry.action) for entry in list_audit(session)] == [("ann", "acknowledge alert")]


def test_while_it_waits_to_resolve_the_alert_shows_the_risk_of_now(watch: Watch) -> None:
    for level in ("P1", "P1", "P4"):
        watch.see(risk(level))
    (alert,) = watch.engine.list_alerts()
    assert (alert.state, alert.level, alert.score, alert.p_8h) == ("open", "P1", 8.0, 0.1)


def test_the_ladder_waits_while_the_risk_is_below(watch: Watch) -> None:
    for level in ("P1", "P1", "P1", "P1", "P4"):
        assert watch.see(risk(level)).escalated == []
    assert len(watch.see(risk("P1")).escalated) == 1


def test_a_risk_that_stays_after_it_was_resolved_by_hand_opens_the_same_alert_again(watch: Watch) -> None:
    watch.see(risk("P1"))
    (opened,) = watch.see(risk("P1")).opened
    assert watch.engine.resolve(opened.id, "ann", watch.now).state == "resolved"
    with pytest.raises(ConflictError):
        watch.engine.resolve(opened.id, "ann", watch.now)
    assert watch.see(risk("P1")).opened == []
    (again,) = watch.see(risk("P1")).opened
    assert (again.id, again.state, again.reopened, again.opened_at) == (opened.id, "open", 1, watch.now)
    assert again.acknowledged_by is None
    assert [event.event for event in again.timeline] == ["pending", "open", "resolved", "open"]
    words = [text.split()[-1] for text in watch.texts()]
    assert words == ["[P1]"] * 2 + ["[resolved]"] * 2 + ["[P1]"] * 2


def test_a_risk_that_comes_back_after_the_cool_down_is_a_new_alert(watch: Watch) -> None:
    for level in ("P2", "P2", "P4", "P4", "P4"):
        watch.see(risk(level))
    watch.now += timedelta(seconds=SETTINGS.cool_down_s)
    watch.see(risk("P2"))
    (again,) = watch.see(risk("P2")).opened
    assert (again.reopened, len(watch.engine.list_alerts())) == (0, 2)


def test_a_resolved_alert_is_as_it_was_until_it_opens_again(watch: Watch) -> None:
    for level in ("P2", "P2", "P4", "P4", "P4"):
        watch.see(risk(level))
    (before,) = watch.engine.list_alerts()
    watch.see(risk("P1"))
    watch.see(risk("P4"))
    watch.see(risk("P1"))
    assert watch.engine.list_alerts() == [before]


def test_a_server_that_is_gone_ends_its_alert_and_tells_so(watch: Watch) -> None:
    watch.see(risk("P2"))
    watch.see(risk("P2"))
    watch.now += timedelta(seconds=SETTINGS.expire_after_s)
    (alert,) = watch.see().resolved
    assert alert.state == "expired"
    assert [n.text.split(": ")[-1] for n in watch.received()[2:]] == ["its server is not heard of any more"] * 2
    assert watch.engine.list_alerts() == [watch.engine.get(alert.id)]


def test_a_server_that_is_gone_before_its_alert_opened_leaves_nothing_pending(watch: Watch) -> None:
    watch.see(risk("P2"))
    watch.now += timedelta(seconds=SETTINGS.expire_after_s)
    assert watch.see().resolved == []
    assert watch.engine.list_alerts("pending") == []


def test_while_a_mitigation_runs_nobody_is_told_and_a_failed_one_tells_again(watch: Watch) -> None:
    watch.see(risk("P2"))
    (opened,) = watch.see(risk("P2")).opened
    assert watch.engine.mitigate(opened.id, "ann", watch.now, watch.now + LONG).state == "mitigating"
    for _ in range(3):
        watch.see(risk("P1"))
    assert len(watch.texts()) == 2
    assert watch.engine.mitigation_failed(opened.id, "no effect", watch.now).state == "open"
    watch.see(risk("P1"))
    assert watch.texts()[2:] == ["PagerDuty: on-call <- [P1]", "phone: on-call <- [P1]"]


def test_a_mitigation_that_never_ends_counts_as_failed(watch: Watch) -> None:
    watch.see(risk("P2"))
    (opened,) = watch.see(risk("P2")).opened
    watch.engine.mitigate(opened.id, "ann", watch.now, watch.now + LONG)
    watch.engine.tick(watch.now + LONG - timedelta(seconds=1))
    assert watch.engine.get(opened.id).state == "mitigating"
    watch.engine.tick(watch.now + LONG)
    assert watch.engine.get(opened.id).state == "open"


def test_what_is_not_there_is_said_so(watch: Watch) -> None:
    for act in (watch.engine.acknowledge, watch.engine.resolve):
        with pytest.raises(NotFoundError, match="alert 7"):
            act(7, "ann", watch.now)
    with pytest.raises(NotFoundError, match="alert 7"):
        watch.engine.get(7)


def test_servers_of_one_cause_are_one_incident_of_the_one_upstream_and_page_once(store: Store) -> None:
    watch = Watch(store, fleet=depending(app1="db1", web1="app1"))
    fallen = (risk("P1", "app1"), risk("P2", "db1"), risk("P1", "web1"), risk("P1", "other"))
    watch.see(*fallen)
    opened = {alert.server: alert for alert in watch.see(*fallen).opened}
    assert [opened[name].parent_id for name in ("app1", "db1", "web1", "other")] == [
        opened["db1"].id, None, opened["db1"].id, None,
    ]  # fmt: skip
    assert opened["db1"].parts == 2
    assert opened["app1"].inhibited_by == f"incident {opened['db1'].id} of db1/memory_used"
    told = {n.alert_id: n for n in watch.received()}
    assert told.keys() == {opened["db1"].id, opened["other"].id}
    assert "with it 2 further servers: " in told[opened["db1"].id].text
    assert told[opened["db1"].id].text.startswith("[P1]")  # as urgent as the most urgent of it


def test_the_same_metric_in_the_same_cell_is_one_incident_within_the_window(store: Store) -> None:
    rules = [ServerRule(match="a.*", labels={"cell": "a"}), ServerRule(match="b.*", labels={"cell": "b"})]
    watch = Watch(store, fleet=FleetMap(rules))
    watch.see(risk("P2", "a1"), risk("P2", "b1"), risk("P2", "a2", "cpu_utilization"), risk("P2", "c1"))
    now = [risk("P2", "a1"), risk("P2", "b1"), risk("P2", "a2", "cpu_utilization"), risk("P2", "c1")]
    watch.see(*now)
    watch.see(*now, risk("P2", "a3"), risk("P2", "c2"))
    watch.see(*now, risk("P2", "a3"), risk("P2", "c2"))
    heads = {server: alert.parent_id for server, alert in watch.by_server().items()}
    assert heads == dict.fromkeys(("a1", "b1", "a2", "c1", "c2")) | {"a3": watch.by_server()["a1"].id}
    watch.now += timedelta(seconds=SETTINGS.group_window_s)
    for _ in range(2):
        watch.see(*now, risk("P2", "a3"), risk("P2", "c2"), risk("P2", "a4"))
    assert watch.by_server()["a4"].parent_id is None


def test_an_incident_lasts_as_long_as_any_of_its_servers(store: Store) -> None:
    watch = Watch(store, fleet=depending(app1="db1"))
    for _ in range(2):
        watch.see(risk("P1", "app1"), risk("P1", "db1"))
    for _ in range(6):
        assert watch.see(risk("P1", "app1"), risk("P4", "db1")).resolved == []
    for _ in range(2):
        assert watch.see(risk("P4", "app1"), risk("P4", "db1")).resolved == []
    over = watch.see(risk("P4", "app1"), risk("P4", "db1")).resolved
    assert sorted(alert.server for alert in over) == ["app1", "db1"]
    assert len({n.alert_id for n in watch.received()}) == 1


def test_what_is_done_to_one_server_is_done_to_the_incident(store: Store) -> None:
    watch = Watch(store, fleet=depending(app1="db1", app2="db1"))
    both = (risk("P1", "app1"), risk("P1", "db1"))
    watch.see(*both)
    watch.see(*both)
    assert watch.engine.acknowledge(watch.by_server()["app1"].id, "ann", watch.now).state == "acknowledged"
    assert {alert.state for alert in watch.by_server().values()} == {"acknowledged"}
    for _ in range(2):
        watch.see(*both, risk("P1", "app2"))
    joined = watch.by_server()["app2"]
    assert (joined.state, joined.acknowledged_by) == ("acknowledged", "ann")
    watch.engine.resolve(joined.id, "bob", watch.now)
    assert {alert.state for alert in watch.by_server().values()} == {"resolved"}


def late(store: Store, upstream: str, dependant: str) -> Watch:
    """A watch whose app1 opened long after db1, on which it depends."""
    watch = Watch(store, fleet=depending(app1="db1"))
    watch.see(risk(upstream, "db1"))
    watch.see(risk(upstream, "db1"))
    watch.now += timedelta(seconds=SETTINGS.group_window_s)
    watch.see(risk(upstream, "db1"), risk(dependant, "app1"))
    watch.see(risk(upstream, "db1"), risk(dependant, "app1"))
    return watch


def test_an_upstream_incident_holds_back_a_dependant_that_comes_later_until_it_is_over(store: Store) -> None:
    watch = late(store, "P1", "P1")
    alerts = watch.by_server()
    assert alerts["app1"].parent_id is None
    assert alerts["app1"].inhibited_by == f"incident {alerts['db1'].id} of db1/memory_used"
    for _ in range(3):
        changes = watch.see(risk("P1", "app1"), risk("P4", "db1"))
    assert [alert.server for alert in changes.resolved] == ["db1"]
    assert [(alert.server, alert.inhibited_by) for alert in changes.updated] == [("app1", None)]
    told = [n.alert_id for n in watch.received() if n.key.split("/")[2] == "trigger"]
    assert told == [alerts["db1"].id] * 2 + [alerts["app1"].id] * 2


def test_a_less_urgent_upstream_holds_nothing_back(store: Store) -> None:
    watch = late(store, "P3", "P1")
    assert watch.by_server()["app1"].inhibited_by is None


@pytest.mark.parametrize("ring", [["a", "b"], ["a", "b", "c"]])
def test_servers_that_depend_on_each_other_in_a_ring_page_once(store: Store, ring: list[str]) -> None:
    watch = Watch(store, fleet=FleetMap(edges={server: [ring[place - 1]] for place, server in enumerate(ring)}))
    for _ in range(3):
        watch.see(*(risk("P1", server) for server in ring))
    assert len(watch.texts()) == 2
    assert [alert.inhibited_by is None for alert in watch.engine.list_alerts()].count(True) == 1


def test_a_server_in_maintenance_pages_only_if_it_is_still_at_risk_afterwards(watch: Watch) -> None:
    quiet = frozenset({"web1"})
    for _ in range(4):
        watch.see(risk("P1"), maintenance=quiet)
    assert watch.engine.list_alerts()[0].inhibited_by == "maintenance"
    assert watch.texts() == []
    watch.see(risk("P1"))
    assert len(watch.texts()) == 2


def test_a_second_metric_of_a_server_is_recorded_and_not_paged(watch: Watch) -> None:
    chances = {"memory_used": 0.9, "load1_per_core": 0.8}
    for _ in range(2):
        watch.see(risk("P1", metric="memory_used", metric_probabilities=chances))
    for _ in range(2):
        watch.see(risk("P1", metric="load1_per_core", metric_probabilities=chances))
    alerts = {alert.metric: alert for alert in watch.engine.list_alerts()}
    assert {alert.state for alert in alerts.values()} == {"open"}
    assert alerts["load1_per_core"].parent_id == alerts["memory_used"].id
    assert len(watch.texts()) == 2


def test_a_more_urgent_metric_of_the_same_server_is_paged(watch: Watch) -> None:
    chances = {"memory_used": 0.6, "filesystem_used": 0.9}
    for level, metric in (("P3", "memory_used"), ("P3", "memory_used"), *[("P1", "filesystem_used")] * 2):
        watch.see(risk(level, metric=metric, metric_probabilities=chances))
    assert watch.texts()[1:] == ["PagerDuty: on-call <- [P1]", "phone: on-call <- [P1]"]


def test_no_forecast_is_not_good_news(watch: Watch) -> None:
    watch.see(risk("P1"))
    (opened,) = watch.see(risk("P1")).opened
    for _ in range(8):
        watch.see(risk("P4", source="none", reason="no recent sample", **NO_FORECAST))
        watch.see()
    assert watch.engine.get(opened.id).state == "open"


def test_an_open_incident_alerts_without_a_forecast_and_is_on_the_timeline(watch: Watch) -> None:
    broken = NO_FORECAST | {"open": True, "score": 95.0, "metric": "cpu_iowait", "source": "none"}
    watch.see(risk("P1", **broken))
    (opened,) = watch.see(risk("P1", **broken)).opened
    assert (opened.p_30m, opened.p_8h, opened.score) == (None, None, 95.0)
    assert "incident" in [event.event for event in opened.timeline]
    assert opened.message == "web1 (web_api): cpu_iowait is in an incident now"


def test_the_message_speaks_per_cent_and_minutes(watch: Watch) -> None:
    watch.see(risk("P2", breach_s=2520.0))
    assert watch.engine.list_alerts()[0].message == (
        "web1 (web_api): forecast says that memory_used becomes critical in about 42 min; P(30 min) 50%, P(8 h) 70%"
    )


def test_a_cycle_that_is_repeated_after_a_crash_counts_once(watch: Watch) -> None:
    watch.see(risk("P1"))
    assert watch.engine.observe([risk("P1")], watch.now) == AlertChanges(
        opened=[], resolved=[], escalated=[], updated=[]
    )
    assert watch.engine.list_alerts()[0].state == "pending"
    with pytest.raises(StoreError, match="clock went back"):
        watch.engine.observe([risk("P1")], watch.now - timedelta(days=2))


def test_only_the_transitions_of_the_state_machine_exist(watch: Watch) -> None:
    watch.see(risk("P1"))
    for state, allowed in TRANSITIONS.items():
        for to in TRANSITIONS:
            with watch.store.session() as session:
                alert = session.get_one(AlertTable, 1)
                alert.state = state
                if to in allowed:
                    transition(alert, to, START, "")
                    assert alert.state == to
                else:
                    with pytest.raises(ConflictError):
                        transition(alert, to, START, "")
                    assert alert.state == state


def test_the_ladder_is_climbed_by_time_alone_and_after_a_restart(store: Store) -> None:
    watch = Watch(store)
    watch.see(risk("P1"))
    watch.see(risk("P1"))
    sent, later = watch.now, AlertEngine(store, SETTINGS, Routing.default())
    assert later.tick(sent + timedelta(seconds=899)) == []
    (climbed,) = later.tick(sent + timedelta(seconds=900))
    assert [step.done for step in climbed.escalation] == [True, False]
    assert later.tick(sent + timedelta(seconds=901)) == []
    later.acknowledge(climbed.id, "ann", sent + timedelta(seconds=902))
    assert AlertEngine(store, SETTINGS, Routing.default()).tick(sent + timedelta(days=1)) == []
    words = [text.partition(" <- ")[0] for text in watch.texts()]
    pager = ["PagerDuty: on-call", "phone: on-call", "PagerDuty: senior engineer"]
    assert words == [*pager, "PagerDuty: on-call", "PagerDuty: senior engineer"]  # told that it is acknowledged
    assert [n.action for n in watch.received()] == ["trigger"] * 3 + ["acknowledge"] * 2


def test_two_engines_that_look_at_once_climb_once(store: Store) -> None:
    watch = Watch(store)
    watch.see(risk("P1"))
    watch.see(risk("P1"))
    due = watch.now + timedelta(minutes=15)
    engines = [AlertEngine(store, SETTINGS, Routing.default()) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        climbed = list(pool.map(lambda engine: engine.tick(due), engines))
    assert sorted(len(found) for found in climbed) == [0, 0, 1]


def test_a_silence_holds_an_alert_back_until_it_ends(watch: Watch) -> None:
    span = (watch.now, watch.now + timedelta(minutes=20))
    silence = watch.engine.silence(['server="web1"', "level=~P[12]"], span, "ann", "disk swap", watch.now)
    for _ in range(3):
        watch.see(risk("P1"), risk("P1", "web2"))
    alerts = watch.by_server()
    assert (alerts["web1"].inhibited_by, alerts["web2"].inhibited_by) == (f"silence {silence.id}", None)
    assert {n.alert_id for n in watch.received()} == {alerts["web2"].id}
    watch.see(risk("P1"))
    assert {n.alert_id for n in watch.received()} == {alerts["web1"].id, alerts["web2"].id}


def test_a_muted_route_tells_when_its_time_comes_if_the_alert_is_still_open(store: Store) -> None:
    routing = Routing.parse(
        "receivers: {log: {channel: log, to: log}}\n"
        "times: {early: [{times: [{start: '00:00', end: '09:20'}]}]}\n"
        "route: {name: all, receivers: [log], mute_times: [early]}\n",
        "test",
    )
    engine = AlertEngine(store, SETTINGS, routing)
    sent = []
    for number in range(1, 7):
        engine.observe([risk("P2")], START + number * STEP)
        (alert,) = engine.list_alerts()
        sent.append(len(alert.notifications))
    assert sent == [0, 0, 0, 1, 1, 1]


def test_who_was_told_in_shadow_mode_is_told_when_the_route_leaves_it(store: Store) -> None:
    text = "receivers: {log: {channel: log, to: log}}\nroute: {name: all, receivers: [log], shadow: %s}\n"
    for number in range(1, 5):
        routing = Routing.parse(text % ("true" if number < 3 else "false"), "test")
        AlertEngine(store, SETTINGS, routing).observe([risk("P2")], START + number * STEP)
    (alert,) = AlertEngine(store, SETTINGS, Routing.default()).list_alerts()
    assert [note.status for note in alert.notifications] == ["would have sent", "waiting"]
