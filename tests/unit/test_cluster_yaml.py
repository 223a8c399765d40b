"""The cluster files are what Ray itself accepts, and name the versions that requirements.lock pins."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Any:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def schema() -> Any:
    import ray.autoscaler

    return json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


@pytest.fixture(scope="module")
def ray_version() -> str:
    found = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_passes_rays_own_schema_and_validation(cluster: Any, schema: Any) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    jsonschema.validate(cluster, schema)
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_a_typo_would_be_found(cluster: Any, schema: Any) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        jsonschema.validate({**cluster, "max_wokers": 3}, schema)
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config({**copy.deepcopy(cluster), "head_node_type": "haed"}))


def test_one_head_and_autoscaled_cpu_and_gpu_workers(cluster: Any) -> None:
    kinds = cluster["available_node_types"]
    assert set(kinds) == {"head", "cpu_worker", "gpu_worker"}
    assert cluster["head_node_type"] == "head"
    for name in ("cpu_worker", "gpu_worker"):
        assert kinds[name]["min_workers"] == 0 < kinds[name]["max_workers"] <= cluster["max_workers"]
    assert kinds["gpu_worker"]["docker"]["worker_image"].endswith("-gpu")


def test_nodes_run_the_locked_ray_and_install_the_locked_requirements(cluster: Any, ray_version: str) -> None:
    images = [cluster["docker"]["head_image"], cluster["docker"]["worker_image"]]
    images.append(cluster["available_node_types"]["gpu_worker"]["docker"]["worker_image"])
    assert all(image.startswith(f"rayproject/ray:{ray_version}-py311") for image in images)
    mounted = {local: remote for remote, local in cluster["file_mounts"].items()}
    assert any(f"-r {mounted['requirements.lock']}" in command for command in cluster["setup_commands"])


def test_every_node_asks_for_the_token(cluster: Any) -> None:
    token = "/home/ray/.ray/auth_token"
    assert token in cluster["file_mounts"]
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert f"--env RAY_AUTH_TOKEN_PATH={token}" in cluster["docker"]["run_options"]
    head = " ".join(cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head


def test_kuberay_cluster_has_the_locked_ray_a_token_and_autoscaled_groups(ray_version: str) -> None:
    claim, cluster = yaml.safe_load_all((ROOT / "deploy" / "kuberay.yaml").read_text())
    spec = cluster["spec"]
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert spec["rayVersion"] == ray_version
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"cpu", "gpu"}
    for pods in [spec["headGroupSpec"], *groups.values()]:
        pod = pods["template"]["spec"]
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            assert container["image"].split(":")[1].startswith(ray_version)
            assert container["resources"]["requests"] == container["resources"]["limits"]
    assert groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_node_image_is_built_on_the_locked_ray(ray_version: str) -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"ARG BASE=rayproject/ray:{ray_version}-py311\n" in text
