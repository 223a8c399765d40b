"""Who is told: the default is the domain's matrix, the tree is walked as Alertmanager does, mistakes have a line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.matchers import Matcher
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.times import TimeInterval
from fleetcast.errors import UsageError

TREE = """
receivers:
  log: {channel: log, to: log}
  pager: {channel: PagerDuty, to: on-call, routing_key: {env: KEY}}
  chat: {channel: Slack, to: team}
  dba: {channel: email, to: dba}
times:
  office: [{weekdays: ["monday:friday"], times: [{start: "09:00", end: "17:00"}], timezone: America/New_York}]
route:
  name: root
  receivers: [log]
  respond_within: 1 d
  routes:
    - name: copies
      matchers: ['team=~"pay.*"']
      receivers: [chat]
      continue: true
    - name: urgent
      matchers: [level="P1"]
      receivers: [pager]
      shadow: false
      escalation: [{after_s: 900, to: log}]
      routes:
        - {name: databases, matchers: [profile=database, server!~test-.*], receivers: [dba], shadow: true}
    - {name: day, matchers: [level=P2], receivers: [chat], active_times: [office]}
    - {name: night, matchers: [level=P3], receivers: [chat], mute_times: [office]}
maintenance:
  - {name: backup, matchers: [profile=database], times: [{weekdays: [sunday], times: [{start: "02:00", end: "04:00"}]}]}
"""
NOON_IN_NEW_YORK = datetime(2026, 1, 5, 17, tzinfo=UTC)  # a Monday
MIDNIGHT = datetime(2026, 1, 6, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def tree() -> Routing:
    return Routing.parse(TREE, "tree")


def test_the_default_matrix_is_the_ladder_of_the_domain_and_sends_nothing() -> None:
    rows = Routing.default().matrix()
    assert [(row.level, row.route, row.respond_within) for row in rows] == [
        ("P1", ["PagerDuty: on-call", "phone: on-call"], "15 min"),
        ("P2", ["Slack: fleet team", "email: fleet team"], "30 min"),
        ("P3", ["email: fleet team"], "2 h"),
        ("P4", ["log: FleetCast log"], "next business day"),
    ]
    ladders = {row.level: [(step.after_s, step.to) for step in row.escalation] for row in rows}
    assert ladders["P1"] == [(900, "PagerDuty: senior engineer"), (1800, "phone: director")]
    assert ladders["P2"] == [(1800, "PagerDuty: on-call")]
    assert ladders["P3"] == ladders["P4"] == []
    assert Routing.default().shadow


@pytest.mark.parametrize(
    ("attributes", "taken"),
    [
        ({"level": "P4"}, ["root"]),
        ({"level": "P1", "profile": "web_api"}, ["urgent"]),
        ({"level": "P1", "profile": "database", "server": "db1"}, ["databases"]),
        ({"level": "P1", "profile": "database", "server": "test-db1"}, ["urgent"]),
        ({"level": "P1", "team": "payments"}, ["copies", "urgent"]),
        ({"level": "P4", "team": "payments"}, ["copies"]),
        ({"level": "P4", "team": "repay"}, ["root"]),
    ],
)
def test_an_alert_takes_the_first_child_that_fits_and_goes_on_where_told(
    tree: Routing, attributes: dict[str, str], taken: list[str]
) -> None:
    assert [branch.name for branch in tree.branches_of(attributes)] == taken


def test_what_a_route_does_not_say_is_its_parents(tree: Routing) -> None:
    (databases,) = tree.branches_of({"level": "P1", "profile": "database"})
    assert (databases.receivers, databases.respond_within, databases.shadow) == (("dba",), "1 d", True)
    assert [step.after_s for step in databases.escalation] == [900]
    assert not tree.shadow
    assert [row.shadow for row in tree.matrix()] == [False, True, True, True]


def test_the_explanation_names_every_route_looked_at_with_its_line_and_why(tree: Routing) -> None:
    steps, taken = tree.explain({"level": "P2"})
    assert [(step.depth, step.route, step.fits) for step in steps] == [
        (0, "root", True), (1, "copies", False), (1, "urgent", False), (1, "day", True),
    ]  # fmt: skip
    assert (steps[1].line, steps[1].why) == (14, 'not team=~"pay.*"')
    assert [branch.name for branch in taken] == ["day"]


def test_routes_are_mute_by_the_clock_of_their_time_zone(tree: Routing) -> None:
    (day,), (night,) = tree.branches_of({"level": "P2"}), tree.branches_of({"level": "P3"})
    assert tree.muted(day, NOON_IN_NEW_YORK) is None
    assert tree.muted(day, MIDNIGHT) == "outside of office"
    assert tree.muted(night, NOON_IN_NEW_YORK) == "muted by office"
    assert tree.muted(night, MIDNIGHT) is None


def test_recurring_maintenance_is_found_while_it_lasts(tree: Routing) -> None:
    sunday = datetime(2026, 1, 4, 3, tzinfo=UTC)
    assert tree.maintenance({"profile": "database"}, sunday) == "maintenance window backup"
    assert tree.maintenance({"profile": "web_api"}, sunday) is None
    assert tree.maintenance({"profile": "database"}, sunday.replace(hour=4)) is None


MISTAKES = [
    ("receivers: [", "line 1, column 13.*expected"),
    (TREE.replace("chat: {channel: Slack", "chat: {channel: Telex"), "line 5, column 3.*Telex"),
    (TREE.replace("receivers: [dba]", "receivers: [nobody]"), "line 24, column .*unknown nobody; there are chat, dba"),
    (TREE.replace("mute_times: [office]", "mute_times: [never]"), "line 26.*unknown never; there are office"),
    (TREE.replace("level=P2", "level~P2"), r"line 25.*'level~P2' is not a condition"),
    (TREE.replace('"pay.*"', '"pay["'), "line 15.*not a regular expression"),
    (TREE.replace('start: "09:00"', 'start: "9"'), "line 8.*time of day"),
    (TREE.replace("monday:friday", "friday:monday"), "line 8.*not a weekday"),
    (TREE.replace("America/New_York", "Nowhere"), "line 8.*not a time zone"),
    (TREE.replace("name: day", "name: night"), "line 26.*'night' already"),
    (TREE.replace("respond_within: 1 d", "respond: 1 d"), "line 12, column 3.*not permitted"),
    (TREE.replace("  receivers: [log]\n", "", 1), "line 9.*the root takes all alerts"),
    (TREE.replace("{after_s: 900, to: log}", "{after_s: 9, to: log}, {after_s: 5, to: log}"), "line 18.*must ascend"),
    (TREE.replace(", routing_key: {env: KEY}", ""), "line 4.*'urgent' sends to it.*routing_key"),
    (TREE.replace("{env: KEY}", "R0UT1NGK3Y"), "line 4"),
    (TREE + "\nroute: {name: x, receivers: [log]}", "line 30, column 1.*'route' is there twice"),
]


@pytest.mark.parametrize(("content", "reason"), MISTAKES)
def test_a_mistake_is_refused_with_its_place_and_rule(content: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"(?s)mine, {reason}"):
        Routing.parse(content, "mine")


def test_a_secret_written_into_the_file_is_not_repeated_in_the_error() -> None:
    for written in ("R0UT1NGK3Y", "{value: R0UT1NGK3Y}"):
        with pytest.raises(UsageError) as refused:
            Routing.parse(TREE.replace("{env: KEY}", written), "mine")
        assert "R0UT1NGK3Y" not in str(refused.value)


def test_a_missing_routing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml"):
        Routing.load(tmp_path / "none.yaml")


def test_a_condition_is_written_as_it_is_read() -> None:
    for text in ('level="P1"', 'team!="a \\"b\\""', 'server=~"web.*"', 'profile!~"ml_.*"'):
        assert str(Matcher.parse(text)) == text
    assert Matcher.parse("team!=a").matches({})
    assert not Matcher.parse('team=~".+"').matches({})


def test_an_expression_that_others_take_ages_for_is_matched_at_once() -> None:
    assert not Matcher.parse('server=~"(a+)+b"').matches({"server": "a" * 200})


def test_an_interval_without_days_or_times_is_always() -> None:
    assert TimeInterval().contains(MIDNIGHT)


def test_labels_and_upstreams_come_from_edges_rules_and_a_label(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(
        "servers:\n"
        "  - {match: 'web.*', labels: {cell: a, team: shop}, depends_on: [lb1]}\n"
        "  - {match: web1, labels: {cell: b, depends_on: 'db1, db2'}}\n"
    )
    fleet = FleetMap.load(tmp_path / "fleet.yaml", {"web1": ["net1", "web1"]})
    assert fleet.labels_of("web1")["cell"] == "b"
    assert fleet.labels_of("web2") == {"cell": "a", "team": "shop"}
    assert fleet.upstreams_of("web1") == {"lb1", "db1", "db2", "net1"}
    assert fleet.upstreams_of("db1") == frozenset()


@pytest.mark.parametrize("line", ["{match: '('}", "{match: a, labels: {server: b}}", "{match: a, upstream: b}"])
def test_a_wrong_rule_of_a_fleet_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "fleet.yaml").write_text(f"servers:\n  - {line}\n")
    with pytest.raises(UsageError, match=r"fleet\.yaml, line 2"):
        FleetMap.load(tmp_path / "fleet.yaml")
