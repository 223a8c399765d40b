"""The matrix of who is told: the default is complete, a wrong file is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fleetcast.alerting.routing import Routing
from fleetcast.errors import UsageError

DEFAULT = yaml.safe_load((Path(__file__).parents[2] / "fleetcast/alerting/routing.yaml").read_text())


def test_the_default_matrix_is_the_ladder_of_the_domain() -> None:
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


def test_a_routing_of_ones_own_is_read(tmp_path: Path) -> None:
    own = {**DEFAULT, "receivers": {**DEFAULT["receivers"], "log": {"channel": "log", "to": "another log"}}}
    (tmp_path / "routing.yaml").write_text(yaml.safe_dump(own))
    assert Routing.load(tmp_path / "routing.yaml").matrix()[3].route == ["log: another log"]


def changed(**levels: object) -> str:
    return yaml.safe_dump({**DEFAULT, "levels": {**DEFAULT["levels"], **levels}})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("receivers: [", "while parsing"),
        (yaml.safe_dump({**DEFAULT, "levels": {"P1": DEFAULT["levels"]["P1"]}}), "no route for the levels"),
        (changed(P1={**DEFAULT["levels"]["P1"], "receivers": ["nobody"]}), "unknown receivers"),
        (changed(P1={**DEFAULT["levels"]["P1"], "receivers": []}), "at least 1 item"),
        (changed(P9=DEFAULT["levels"]["P1"]), "P9"),
        (
            changed(
                P1={**DEFAULT["levels"]["P1"], "escalation": [{"after_s": 9, "to": "log"}, {"after_s": 5, "to": "log"}]}
            ),
            "must ascend",
        ),
    ],
)
def test_a_wrong_routing_is_refused_with_the_reason(content: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"(?s)mine is wrong.*{reason}"):
        Routing.parse(content, "mine")


def test_a_missing_routing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml"):
        Routing.load(tmp_path / "none.yaml")
