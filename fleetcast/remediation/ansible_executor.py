"""Ansible as an executor, through `ansible-runner`: playbooks of one project folder that the settings allow."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from fleetcast.errors import ConflictError
from fleetcast.remediation.calls import AnsibleCall, Call, in_words
from fleetcast.remediation.executor import Result
from fleetcast.settings import AnsibleSettings

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
INVENTORY = "inventory"
BINARY = Path(sys.executable).parent / "ansible-playbook"


class AnsibleExecutor:
    """Runs playbooks; what a run leaves in `artifacts` tells after a crash what became of it.

    Raises `ConflictError` when `ansible-runner` is not installed.
    """

    def __init__(self, settings: AnsibleSettings) -> None:
        try:
            import ansible_runner  # noqa: PLC0415 (an optional dependency)
        except ImportError as error:
            raise ConflictError("Ansible needs the extra: pip install 'fleetcast[remediation]'") from error
        if not BINARY.exists():
            raise ConflictError(f"there is no {BINARY}: pip install 'fleetcast[remediation]'")
        self._run_playbook = ansible_runner.run
        self._settings = settings

    def rehearse(self, call: Call) -> str:
        """Run the playbook in check mode, which changes nothing."""
        checked = self._checked(call)
        with tempfile.TemporaryDirectory(prefix="fleetcast-check-") as folder:
            found = self._run(Path(folder), "check", checked, cmdline="--check")
        if found.rc != 0:
            raise ConflictError(f"{in_words(call)} fails in check mode with {found.status} ({found.rc})")
        return in_words(call)

    def perform(self, action_id: str, call: Call, undoes: str | None = None) -> Result:
        """Run the playbook."""
        try:
            checked = self._checked(call)
        except ConflictError as error:
            return Result("failed", str(error))
        found = self._run(self._settings.artifacts / action_id, action_id, checked)
        return Result("done" if found.rc == 0 else "unknown", f"{in_words(call)}: {found.status} ({found.rc})")

    def recover(self, action_id: str, call: Call) -> Result | None:
        """What the run left: its exit code, or a run without an end."""
        folder = self._settings.artifacts / action_id / "artifacts" / action_id
        if not folder.exists():
            return None
        try:
            code = int((folder / "rc").read_text("ascii"))
        except (OSError, ValueError):
            return Result("unknown", f"{in_words(call)} was begun and left no exit code")
        return Result("done" if code == 0 else "unknown", f"{in_words(call)}: exit code {code}")

    def _run(self, folder: Path, ident: str, call: AnsibleCall, **further: str) -> Any:
        project = self._settings.project.absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = self._run_playbook(
            private_data_dir=str(folder.absolute()), ident=ident, project_dir=str(project),
            inventory=str(project / INVENTORY), playbook=call.playbook, limit=call.limit,
            extravars=dict(call.variables), timeout=int(self._settings.timeout_s), quiet=True,
            envvars={"PATH": f"{BINARY.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}, **further,
        )  # fmt: skip
        (folder / "artifacts" / ident / "command").unlink(missing_ok=True)  # it holds the environment with its secrets
        return found

    def _checked(self, call: Call) -> AnsibleCall:
        assert isinstance(call, AnsibleCall)
        if call.playbook not in self._settings.allow or not (self._settings.project / call.playbook).is_file():
            raise ConflictError(
                f"the Ansible playbook {call.playbook} is not allowed or not in {self._settings.project}: "
                f"allowed are {self._settings.allow}"
            )
        if not _HOST.fullmatch(call.limit):
            raise ConflictError(f"{call.limit!r} is not the name of one host of an Ansible inventory")
        for name, value in call.variables.items():
            if "{{" in value or "{%" in value or "{#" in value:
                raise ConflictError(f"the variable {name} is {value!r}, which Ansible would evaluate")
        return call
