"""The runner with the executors that the settings set up."""

from __future__ import annotations

from fleetcast.clock import Clock
from fleetcast.remediation.ansible_executor import AnsibleExecutor
from fleetcast.remediation.executor import Executor
from fleetcast.remediation.http_executor import HttpExecutor
from fleetcast.remediation.kubernetes_executor import KubernetesExecutor
from fleetcast.remediation.runner import Runner
from fleetcast.remediation.simulated_executor import SimulatedExecutor
from fleetcast.settings import RemediationSettings
from fleetcast.store.engine import Store


def build_runner(store: Store, clock: Clock, settings: RemediationSettings) -> Runner:
    """A runner. Only in the mode that needs them are there executors; the dry run has none, so it cannot do anything.

    Raises `ConflictError` when an executor that the settings set up cannot be used.
    """
    http = HttpExecutor(settings.targets)
    executors: dict[str, Executor] = {}
    if settings.mode == "simulated":
        executors["simulator"] = SimulatedExecutor(store, clock)
    if settings.mode == "live":
        executors["http"] = http
        if settings.kubernetes is not None:
            executors["kubernetes"] = KubernetesExecutor(settings.kubernetes)
        if settings.ansible is not None:
            executors["ansible"] = AnsibleExecutor(settings.ansible)
    return Runner(store, clock, settings, executors, http.probe)
