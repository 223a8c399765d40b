"""Kubernetes as an executor, through the official client: cordon, uncordon, drain, scale.

All are safe to repeat: nodes and evictions are desired states, and a deployment that is scaled remembers in the same
patch, under its resource version, which actions it has taken.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from fleetcast.errors import ConflictError
from fleetcast.remediation.calls import Call, KubernetesCall, in_words
from fleetcast.remediation.executor import Result
from fleetcast.settings import KubernetesSettings

TAKEN = "fleetcast/actions"
KEPT = 20  # actions that a deployment remembers
TRIES = 3
POLL_S = 2.0
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class HalfDoneError(ConflictError):
    """The change was begun and cannot be ended: what is taken back with the plan."""


class KubernetesExecutor:
    """Acts on one cluster. Raises `ConflictError` when the client is not installed or its configuration is wrong."""

    def __init__(self, settings: KubernetesSettings, poll_s: float = POLL_S) -> None:
        try:
            import kubernetes  # noqa: PLC0415 (an optional dependency)
        except ImportError as error:
            raise ConflictError("Kubernetes needs the extra: pip install 'fleetcast[remediation]'") from error
        self._settings, self._poll_s = settings, poll_s
        try:
            if settings.kubeconfig is None:
                kubernetes.config.load_incluster_config()
                client = kubernetes.client.ApiClient()
            else:
                client = kubernetes.config.new_client_from_config(str(settings.kubeconfig))
        except kubernetes.config.ConfigException as error:
            raise ConflictError(f"the configuration of Kubernetes cannot be used: {error}") from error
        client.configuration.retries = False
        self._core, self._apps = kubernetes.client.CoreV1Api(client), kubernetes.client.AppsV1Api(client)
        self._eviction = kubernetes.client.V1Eviction
        self._refusal: type[Exception] = kubernetes.client.ApiException

    def rehearse(self, call: Call) -> str:
        """The API server checks the change, with the rights of this client, and does not make it (`dryRun=All`)."""
        checked = self._checked(call)
        try:
            if checked.operation == "scale":
                self._scale("", checked, None, dry_run="All")
            else:
                self._core.patch_node(checked.name, _schedulable(checked), dry_run="All", **self._timeout)
                if checked.operation == "drain":
                    self._pods(checked.name)
        except self._refusal as error:
            raise ConflictError(f"{in_words(call)} is refused: {_reason(error)}") from error
        except OSError as error:
            raise ConflictError(f"{in_words(call)}: the cluster does not answer: {error}") from error
        return in_words(call)

    def perform(self, action_id: str, call: Call, undoes: str | None = None) -> Result:
        """Change the cluster."""
        try:
            checked = self._checked(call)
        except ConflictError as error:
            return Result("failed", str(error))
        what: Callable[[], str] = {
            "scale": lambda: self._scale(action_id, checked, undoes),
            "drain": lambda: self._drain(checked),
        }.get(checked.operation, lambda: self._mark(checked))
        return self._tried(call, what)

    def recover(self, action_id: str, call: Call) -> Result | None:
        """Performing it again repeats nothing."""
        return None

    @property
    def _timeout(self) -> dict[str, Any]:
        return {"_request_timeout": 30}

    def _tried(self, call: Call, what: Callable[[], str]) -> Result:
        """Try again when the cluster does not answer or somebody else has changed the thing."""
        trouble = ""
        for _ in range(TRIES):
            try:
                return Result("done", what())
            except ConflictError as error:
                return Result("unknown" if isinstance(error, HalfDoneError) else "failed", str(error))
            except self._refusal as error:
                trouble, status = _reason(error), getattr(error, "status", 0)
                if status not in (409, 429) and status < 500:
                    return Result("failed", f"{in_words(call)} is refused: {trouble}")
            except OSError as error:  # urllib3's errors are not: they are wrapped by the client
                trouble = str(error)
            except Exception as error:
                if not type(error).__module__.startswith("urllib3"):
                    raise
                trouble = type(error).__name__
            time.sleep(self._poll_s)
        return Result("unknown", f"{in_words(call)}: the cluster does not take it: {trouble}")

    def _mark(self, call: KubernetesCall) -> str:
        self._core.patch_node(call.name, _schedulable(call), **self._timeout)
        return f"{in_words(call)}: done"

    def _scale(self, action_id: str, call: KubernetesCall, undoes: str | None, **options: Any) -> str:
        namespace = self._settings.namespace
        found = self._apps.read_namespaced_deployment(call.name, namespace, **self._timeout)
        taken = [one for one in (found.metadata.annotations or {}).get(TAKEN, "").split(",") if one]
        if action_id in taken or (undoes is not None and undoes not in taken):
            return f"{in_words(call)}: nothing to do, the deployment has {found.spec.replicas} replicas"
        replicas = max(0, found.spec.replicas + call.by)
        most = self._settings.max_replicas
        if replicas > most:
            raise ConflictError(f"{in_words(call)} would make {replicas} replicas, at most {most} are allowed")
        kept = [*taken, action_id][-KEPT:] if action_id else taken
        patch = {
            "metadata": {"resourceVersion": found.metadata.resource_version, "annotations": {TAKEN: ",".join(kept)}},
            "spec": {"replicas": replicas},
        }
        self._apps.patch_namespaced_deployment(call.name, namespace, patch, **options, **self._timeout)
        return f"{in_words(call)}: from {found.spec.replicas} to {replicas} replicas"

    def _drain(self, call: KubernetesCall) -> str:
        self._core.patch_node(call.name, _schedulable(call), **self._timeout)
        until = time.monotonic() + self._settings.drain_s
        evicted: set[tuple[str, str]] = set()
        while pods := self._pods(call.name):
            if time.monotonic() > until:
                left = ", ".join(sorted(f"{namespace}/{name}" for namespace, name in pods))
                raise HalfDoneError(
                    f"{in_words(call)}: these pods did not go within {self._settings.drain_s:g} s: {left}"
                )
            for pod in sorted(set(pods) - evicted):
                if self._evict(call, *pod):
                    evicted.add(pod)
            time.sleep(self._poll_s)
        return f"{in_words(call)}: {len(evicted)} pods evicted"

    def _evict(self, call: KubernetesCall, namespace: str, name: str) -> bool:
        """Ask for an eviction; False when a disruption budget does not allow it yet."""
        body = self._eviction(metadata={"name": name, "namespace": namespace})
        try:
            self._core.create_namespaced_pod_eviction(name, namespace, body, **self._timeout)
        except self._refusal as error:
            status = getattr(error, "status", 0)
            if status == 404:
                return True
            if status == 429:
                return False
            if status < 500:
                raise HalfDoneError(f"{in_words(call)}: the eviction of {name} is refused: {_reason(error)}") from error
            raise
        return True

    def _pods(self, node: str) -> list[tuple[str, str]]:
        """Pods of a node that a drain evicts: not those of daemon sets, static pods or pods that have ended."""
        found = self._core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}", **self._timeout)
        return [
            (pod.metadata.namespace, pod.metadata.name)
            for pod in found.items
            if not any(owner.kind == "DaemonSet" for owner in pod.metadata.owner_references or [])
            and "kubernetes.io/config.mirror" not in (pod.metadata.annotations or {})
            and pod.status.phase not in ("Succeeded", "Failed")
        ]

    def _checked(self, call: Call) -> KubernetesCall:
        assert isinstance(call, KubernetesCall)
        if call.operation not in self._settings.operations:
            raise ConflictError(f"{call.operation} is not allowed: allowed are {self._settings.operations}")
        if not _NAME.fullmatch(call.name):
            raise ConflictError(f"{call.name!r} is not a name in Kubernetes")
        return call


def _schedulable(call: KubernetesCall) -> dict[str, Any]:
    return {"spec": {"unschedulable": call.operation != "uncordon"}}


def _reason(error: Exception) -> str:
    return f"{getattr(error, 'status', '')} {getattr(error, 'reason', '')}".strip()
