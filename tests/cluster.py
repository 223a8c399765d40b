"""A Kubernetes API server for tests: the real paths of nodes, pods, evictions and deployments, on loopback."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml


@dataclass
class Cluster:
    """Its objects and what it was asked for; `failing` statuses are answered first, one a request that changes."""

    url: str = ""
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    deployments: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    budget_refusals: int = 0
    eviction_status: int | None = None
    failing: list[int] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    rehearsed: list[str] = field(default_factory=list)

    def add_node(self, name: str) -> None:
        self.nodes[name] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}}

    def add_pod(self, name: str, node: str, owner: str = "ReplicaSet", **annotations: str) -> None:
        self.pods["default", name] = {
            "metadata": {
                "name": name, "namespace": "default", "annotations": annotations,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": owner, "name": "x", "uid": "1"}],
            },
            "spec": {"nodeName": node, "containers": [{"name": "c"}]},
            "status": {"phase": "Running"},
        }  # fmt: skip

    def add_deployment(self, name: str, replicas: int) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}
        self.deployments["default", name] = {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default", "resourceVersion": "1"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template},
        }  # fmt: skip

    def replicas(self, name: str) -> int:
        return int(self.deployments["default", name]["spec"]["replicas"])

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig that leads here."""
        made = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(made))
        return path


@contextmanager
def running() -> Iterator[Cluster]:
    """The server, until the block ends."""
    cluster = Cluster()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cluster))
    server.daemon_threads = True
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, found = _serve(cluster, self.command, self.path, body)
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815

    return Handler


def _serve(cluster: Cluster, method: str, address: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(address)
    query, path = parse_qs(parts.query), parts.path
    dry = query.get("dryRun") == ["All"]
    if method != "GET" and not dry and cluster.failing:
        return _refused(cluster.failing.pop(0))
    answers: dict[str, Callable[..., tuple[int, dict[str, Any]]]] = {
        r"/api/v1/nodes/([^/]+)": lambda name: _object(cluster, cluster.nodes, name, method, body, dry),
        r"/api/v1/pods": lambda: _pods(cluster, query["fieldSelector"][0].removeprefix("spec.nodeName=")),
        r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/eviction": lambda *key: _evict(cluster, key),
        r"/apis/apps/v1/namespaces/([^/]+)/deployments/([^/]+)": lambda *key: _object(
            cluster, cluster.deployments, key, method, body, dry
        ),
    }
    for pattern, answer in answers.items():
        if found := re.fullmatch(pattern, path):
            return answer(*found.groups())
    return _refused(404)


def _pods(cluster: Cluster, node: str) -> tuple[int, dict[str, Any]]:
    items = [pod for pod in cluster.pods.values() if pod["spec"]["nodeName"] == node]
    return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}


def _evict(cluster: Cluster, key: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
    if cluster.budget_refusals:
        cluster.budget_refusals -= 1
        return _refused(429)
    if cluster.eviction_status is not None:
        return _refused(cluster.eviction_status)
    if cluster.pods.pop((key[0], key[1]), None) is None:
        return _refused(404)
    cluster.changes.append(f"evict {key[1]}")
    return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success"}


def _object(
    cluster: Cluster, objects: dict[Any, dict[str, Any]], key: Any, method: str, body: dict[str, Any], dry: bool
) -> tuple[int, dict[str, Any]]:
    if key not in objects:
        return _refused(404)
    found = objects[key]
    if method == "PATCH":
        wanted = body.get("metadata", {}).pop("resourceVersion", None)
        if wanted is not None and wanted != found["metadata"]["resourceVersion"]:
            return _refused(409)
        what = f"patch {key if isinstance(key, str) else key[1]} {json.dumps(body['spec'], sort_keys=True)}"
        (cluster.rehearsed if dry else cluster.changes).append(what)
        if not dry:
            found["spec"].update(body["spec"])
            found["metadata"].setdefault("annotations", {}).update(body.get("metadata", {}).get("annotations", {}))
            version = int(found["metadata"].get("resourceVersion", 0))
            found["metadata"]["resourceVersion"] = str(version + 1)
    return 200, found


def _refused(status: int) -> tuple[int, dict[str, Any]]:
    return status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
