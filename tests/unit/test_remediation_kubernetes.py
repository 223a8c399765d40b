"""Kubernetes is acted on through its own client: rehearsed first, safe to repeat, within what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetcast.errors import ConflictError
from fleetcast.remediation.calls import KubernetesCall
from fleetcast.remediation.kubernetes_executor import KubernetesExecutor
from fleetcast.settings import KubernetesSettings
from tests.cluster import Cluster, running

CORDON = KubernetesCall(executor="kubernetes", operation="cordon", name="ppml0001")
UNCORDON = CORDON.model_copy(update={"operation": "uncordon"})
DRAIN = CORDON.model_copy(update={"operation": "drain"})
SCALE = KubernetesCall(executor="kubernetes", operation="scale", name="web", by=2)
BACK = SCALE.model_copy(update={"by": -2})


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running() as found:
        found.add_node("ppml0001")
        found.add_deployment("web", 3)
        yield found


@pytest.fixture
def executor(cluster: Cluster, tmp_path: Path) -> KubernetesExecutor:
    return made(cluster, tmp_path)


def made(cluster: Cluster, folder: Path, **fields: object) -> KubernetesExecutor:
    values = {
        "kubeconfig": cluster.kubeconfig(folder), "operations": ["cordon", "uncordon", "drain", "scale"], **fields,
    }  # fmt: skip
    return KubernetesExecutor(KubernetesSettings.model_validate(values), poll_s=0.01)


def test_a_rehearsal_asks_the_server_and_changes_nothing(cluster: Cluster, executor: KubernetesExecutor) -> None:
    for call in (CORDON, DRAIN, SCALE):
        executor.rehearse(call)
    assert cluster.changes == []
    assert cluster.rehearsed[-1] == 'patch web {"replicas": 5}'
    with pytest.raises(ConflictError, match="404"):
        executor.rehearse(CORDON.model_copy(update={"name": "nowhere"}))


def test_a_node_is_cordoned_and_uncordoned(cluster: Cluster, executor: KubernetesExecutor) -> None:
    assert executor.perform("a", CORDON).outcome == "done"
    assert cluster.nodes["ppml0001"]["spec"] == {"unschedulable": True}
    assert executor.perform("b", UNCORDON, "a").outcome == "done"
    assert cluster.nodes["ppml0001"]["spec"] == {"unschedulable": False}


def test_a_deployment_is_scaled_once_for_an_action(cluster: Cluster, executor: KubernetesExecutor) -> None:
    for _ in range(2):
        assert executor.perform("a", SCALE).outcome == "done"
    assert cluster.replicas("web") == 5
    assert executor.perform("b", SCALE).outcome == "done"
    assert cluster.replicas("web") == 7
    for _ in range(2):
        assert executor.perform("c", BACK, "a").outcome == "done"
    assert cluster.replicas("web") == 5


def test_what_was_never_scaled_is_not_scaled_back(cluster: Cluster, executor: KubernetesExecutor) -> None:
    assert executor.perform("c", BACK, "a").outcome == "done"
    assert cluster.replicas("web") == 3


def test_a_change_that_somebody_else_made_in_between_is_read_again(
    cluster: Cluster, executor: KubernetesExecutor
) -> None:
    cluster.failing = [409, 500]
    assert executor.perform("a", SCALE).outcome == "done"
    assert cluster.replicas("web") == 5


def test_a_cluster_that_does_not_answer_leaves_it_unknown_and_one_that_refuses_does_not(
    cluster: Cluster, executor: KubernetesExecutor
) -> None:
    cluster.failing = [500] * 3
    assert executor.perform("a", CORDON).outcome == "unknown"
    cluster.failing = [403]
    assert executor.perform("a", CORDON).outcome == "failed"
    assert executor.recover("a", CORDON) is None


def test_a_drain_evicts_what_can_go_and_waits_for_disruption_budgets(
    cluster: Cluster, executor: KubernetesExecutor
) -> None:
    cluster.add_pod("job-1", "ppml0001")
    cluster.add_pod("job-2", "ppml0001")
    cluster.add_pod("elsewhere", "ppml0002")
    cluster.add_pod("agent", "ppml0001", owner="DaemonSet")
    cluster.add_pod("static", "ppml0001", **{"kubernetes.io/config.mirror": "x"})
    cluster.budget_refusals = 3
    done = executor.perform("a", DRAIN)
    assert (done.outcome, "2 pods evicted" in done.text) == ("done", True)
    assert {name for _, name in cluster.pods} == {"elsewhere", "agent", "static"}
    assert cluster.nodes["ppml0001"]["spec"] == {"unschedulable": True}


def test_a_drain_that_takes_too_long_names_the_pods_that_stay(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_pod("stubborn", "ppml0001")
    cluster.budget_refusals = 10**6
    found = made(cluster, tmp_path, drain_s=0.05).perform("a", DRAIN)
    assert (found.outcome, "default/stubborn" in found.text) == ("unknown", True)


def test_a_drain_that_is_refused_half_way_is_taken_back(cluster: Cluster, executor: KubernetesExecutor) -> None:
    cluster.add_pod("job-1", "ppml0001")
    cluster.eviction_status = 403
    found = executor.perform("a", DRAIN)
    assert (found.outcome, "job-1 is refused: 403" in found.text) == ("unknown", True)
    assert cluster.nodes["ppml0001"]["spec"] == {"unschedulable": True}
    assert executor.perform("b", UNCORDON, "a").outcome == "done"
    assert cluster.nodes["ppml0001"]["spec"] == {"unschedulable": False}


def test_only_what_is_allowed_is_done(cluster: Cluster, tmp_path: Path) -> None:
    careful = made(cluster, tmp_path, operations=["cordon"])
    assert careful.perform("a", SCALE).outcome == "failed"
    with pytest.raises(ConflictError, match="scale is not allowed"):
        careful.rehearse(SCALE)
    small = made(cluster, tmp_path, max_replicas=4)
    with pytest.raises(ConflictError, match="5 replicas, at most 4"):
        small.rehearse(SCALE)
    for name in ("../../pods", "UPPER", "a b", ""):
        found = careful.perform("a", KubernetesCall.model_construct(**{**CORDON.model_dump(), "name": name}))
        assert (found.outcome, "not a name" in found.text) == ("failed", True)
    assert cluster.changes == []


def test_a_configuration_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="configuration of Kubernetes"):
        KubernetesExecutor(KubernetesSettings(kubeconfig=tmp_path / "none"))
