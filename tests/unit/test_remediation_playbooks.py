"""Playbooks say what may be done, and a wrong one is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.vocabulary import PROFILES
from fleetcast.errors import UsageError
from fleetcast.remediation.calls import HttpCall, fill, filled
from fleetcast.remediation.http_executor import allows
from fleetcast.remediation.playbook import load_playbooks, parse_playbook

FOLDER = Path(__file__).parents[2] / "fleetcast/remediation/playbooks"
WEB = (FOLDER / "web_api.yaml").read_text()
MINUTES = {"ml_compute": 2, "database": 5, "web_api": 3, "risk_analytics": 4, "data_ingest": 4, "conductor_mgmt": 5}
APPROVAL = {
    "ml_compute": "automatic below risk 70, else engineer",
    "database": "engineer; destructive steps director",
    "web_api": "automatic",
    "risk_analytics": "engineer",
    "data_ingest": "automatic below risk 70, else engineer",
    "conductor_mgmt": "engineer",
    "generic": "engineer",
}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_playbook_with_the_time_and_the_approval_of_the_table(profile: str) -> None:
    playbook = load_playbooks()[profile]
    assert playbook.profile == profile
    assert sum(step.seconds for step in playbook.steps) == 60 * MINUTES.get(profile, 10)
    assert playbook.approval_words() == APPROVAL[profile]
    assert playbook.checks.pre
    assert playbook.checks.post


@pytest.mark.parametrize(
    ("before", "after", "line", "fault"),
    [
        ("title: ", "titel: ", 2, r"titel: Extra inputs are not permitted"),
        (
            "profile: web_api",
            "profile: webs",
            1,
            r"profile: unknown profile; known are ml_compute.*'webs'",
        ),
        ("title:", "profile: web_api\ntitle:", 2, r"'profile' is there twice"),
        ("automatic: always", "automatic: below", 5, r"approval: `below_score` belongs to"),
        ("by: 2", "by: 0", 19, r"steps.0.run.kubernetes: `by` \(not 0\) belongs to"),
        ("seconds: 30", "seconds: 0", 27, r"steps.1.seconds: .*greater than 0 .found 0"),
        (
            "{server}/state",
            "{password}/x",
            37,
            r"steps.2.run.http.path: unknown placeholders \['password'\]",
        ),
        (
            "{server}/state",
            "{server!r}/x",
            37,
            r"steps.2.run.http.path: a placeholder is a plain name",
        ),
        ("action: drain", "action: rm -rf", 33, r"steps.2.action: .*pattern"),
        ("executor: http", "executor: shell", 28, r"steps.1.run: .*'shell'"),
        ("trigger: {", "trigger: [", 3, r"expected"),
        ("name: drain", "name: scale out", 1, r"the file: two steps have the same name"),
    ],
)
def test_a_wrong_playbook_is_refused_with_file_line_and_rule(before: str, after: str, line: int, fault: str) -> None:
    with pytest.raises(UsageError, match=rf"mine.yaml, line {line}, column \d+: {fault}"):
        parse_playbook(WEB.replace(before, after, 1), "mine.yaml")


def test_all_faults_of_a_file_are_named_at_once() -> None:
    wrong = WEB.replace("seconds: 60", "seconds: -1").replace("seconds: 30", "seconds: soon")
    with pytest.raises(UsageError) as refused:
        parse_playbook(wrong, "mine.yaml")
    lines = [fault.split(", column")[0] for fault in str(refused.value).split("; ")]
    assert lines == ["mine.yaml, line 18", "mine.yaml, line 27"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: {b\n", "x: *nowhere\n", "\x00"])
def test_what_is_no_playbook_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        parse_playbook(text, "mine.yaml")


def test_playbooks_of_a_folder_replace_those_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(WEB.replace("title: Take", "title: Kindly take"))
    found = load_playbooks(tmp_path)
    assert found["web_api"].title.startswith("Kindly")
    assert found["database"] == load_playbooks()["database"]
    (tmp_path / "twice.yaml").write_text(WEB)
    with pytest.raises(UsageError, match=r"ours.yaml.*both for the profile web_api"):
        load_playbooks(tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        load_playbooks(tmp_path / "nowhere")


@settings(max_examples=50)
@given(st.text(max_size=12))
def test_no_name_of_a_server_reaches_another_path(name: str) -> None:
    """Whatever a server is called, its name stays one segment of the path, or the request is not allowed."""
    call = HttpCall(executor="http", target="t", method="PUT", path="/a/{server}/state", body={"who": "{server}"})
    sent = filled(call, {"server": name})
    assert isinstance(sent, HttpCall)
    assert sent.body == {"who": name}
    segments = sent.path.split("/")
    assert len(segments) == 4
    assert allows("PUT /a/*/state", "PUT", sent.path) == (name not in ("", ".", ".."))
    assert not allows("POST /a/*/state", "POST" if not name else "PUT", sent.path)


def test_a_name_that_looks_like_a_placeholder_stays_a_name() -> None:
    assert fill("{server} of {profile}", {"server": "{profile}", "profile": "x"}) == "{profile} of x"
