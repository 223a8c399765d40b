"""Ansible runs playbooks of one folder on one host, in check mode first, and a crash can be asked about."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fleetcast.errors import ConflictError
from fleetcast.remediation.ansible_executor import AnsibleExecutor
from fleetcast.remediation.calls import AnsibleCall
from fleetcast.settings import AnsibleSettings

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: restart
      ansible.builtin.copy:
        content: "{{ who }}"
        dest: "{{ inventory_dir }}/restarted"
        mode: "0600"
"""
CALL = AnsibleCall(executor="ansible", playbook="restart.yaml", limit="pp1", variables={"who": "; touch x"})


@pytest.fixture
def executor(tmp_path: Path) -> AnsibleExecutor:
    project = tmp_path / "project"
    project.mkdir()
    (project / "restart.yaml").write_text(PLAYBOOK)
    (project / "inventory").write_text(f"pp1 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    allow = ["restart.yaml", "gone.yaml"]
    return AnsibleExecutor(AnsibleSettings(project=project, artifacts=tmp_path / "runs", allow=allow))


def test_a_playbook_is_checked_run_and_remembered(executor: AnsibleExecutor, tmp_path: Path) -> None:
    assert executor.recover("a", CALL) is None
    executor.rehearse(CALL)
    made = tmp_path / "project/restarted"
    assert not made.exists()
    assert executor.perform("a", CALL).outcome == "done"
    assert made.read_text() == "; touch x"
    known = executor.recover("a", CALL)
    assert known is not None
    assert known.outcome == "done"
    (tmp_path / "runs/a/artifacts/a/rc").unlink()
    cut_off = executor.recover("a", CALL)
    assert cut_off is not None
    assert cut_off.outcome == "unknown"


@pytest.mark.parametrize("limit", ["all,", "pp*", "!pp1", "pp1:pp2", "@file", "-i x", "", "pp1 pp2"])
def test_what_is_not_one_host_is_refused(executor: AnsibleExecutor, limit: str) -> None:
    call = AnsibleCall.model_construct(**{**CALL.model_dump(), "limit": limit})
    assert executor.perform("a", call).outcome == "failed"
    with pytest.raises(ConflictError, match="not the name of one host"):
        executor.rehearse(call)


@pytest.mark.parametrize("playbook", ["gone.yaml", "other.yaml"])
def test_a_playbook_that_is_not_there_or_not_allowed_is_refused(
    executor: AnsibleExecutor, tmp_path: Path, playbook: str
) -> None:
    (tmp_path / "project/other.yaml").write_text(PLAYBOOK)
    with pytest.raises(ConflictError, match="is not allowed or not in"):
        executor.rehearse(CALL.model_copy(update={"playbook": playbook}))


@pytest.mark.parametrize("value", ["{{ lookup('pipe', 'touch x') }}", "{% if x %}", "{# x #}"])
def test_a_name_that_ansible_would_evaluate_is_refused(executor: AnsibleExecutor, value: str) -> None:
    with pytest.raises(ConflictError, match="would evaluate"):
        executor.rehearse(CALL.model_copy(update={"variables": {"who": value}}))
