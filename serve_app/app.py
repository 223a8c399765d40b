"""Builds the applications from typed arguments; the import paths of `deploy/serve.yaml` lead here."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from ray import serve
from ray.serve.config import AutoscalingConfig

from fleetcast.contract.schema import TOPOLOGY
from fleetcast.dataset.reader import Dataset
from fleetcast.model.manifest import load_manifest
from fleetcast.settings import ServiceSettings
from serve_app.alerts import Alerts, parts_of
from serve_app.arguments import AppArgs, DashboardArgs
from serve_app.dashboard.app import build_dashboard
from serve_app.forecaster import ForecasterReplica
from serve_app.history import History
from serve_app.ingress import Ingress
from serve_app.remediation import Remediation
from serve_app.span import kept_steps
from serve_app.watcher import Watcher

MANY = 1000  # calls in flight that wait for news or for the database, not for the process


def build(args: AppArgs) -> serve.Application:
    """The API application. Raises `BundleError`, `DatasetError` and `UsageError` before anything is deployed."""
    manifest = load_manifest(args.bundle)
    steps = kept_steps(args.service, manifest)
    forecaster = _forecaster(args, steps)
    history = _single("history", History).bind(args, manifest.timezone, steps)
    edges = topology(args.dataset)
    parts_of(args.alerts, upstreams(edges))  # mistakes in its files are told here
    alerts = _single("alerts", Alerts).bind(args, upstreams(edges))
    remediation = _single("remediation", Remediation).bind(args, pairs(edges))
    watcher = _single("watcher", Watcher).bind(args, history, forecaster, alerts, remediation, edges)
    ingress = _light("ingress", args.service.ingress_replicas)(Ingress)
    return ingress.bind(args, steps, history, watcher, forecaster, alerts, remediation)  # type: ignore[no-any-return]


def build_intake(args: AppArgs, steps: int, timezone: str) -> serve.Application:
    """The API with the history alone, without a model: it takes samples in and nothing forecasts them."""
    history = _single("history", History).bind(args, timezone, steps)
    ingress = _light("ingress", args.service.ingress_replicas)(Ingress)
    return ingress.bind(args, steps, history, history, history, history, history)  # type: ignore[no-any-return]


def build_ui(args: DashboardArgs) -> serve.Application:
    """The dashboard application."""
    return build_dashboard(args.api_url, args.root_path, args.certificate)


def autoscaling(settings: ServiceSettings) -> AutoscalingConfig:
    """Replicas follow the calls that wait or run, between the limits of the settings."""
    return AutoscalingConfig(
        min_replicas=settings.forecaster_min_replicas,
        initial_replicas=settings.forecaster_min_replicas,
        max_replicas=max(settings.forecaster_min_replicas, settings.forecaster_max_replicas),
        target_ongoing_requests=settings.forecaster_target,
        upscale_delay_s=settings.forecaster_up_s,
        downscale_delay_s=settings.forecaster_down_s,
    )


def topology(dataset: str | None) -> pa.Table:
    """Who depends on whom (schema `TOPOLOGY`), as the dataset says; empty without a dataset."""
    return TOPOLOGY.empty_table() if dataset is None else Dataset.open(dataset).topology()


def upstreams(edges: pa.Table) -> dict[str, list[str]]:
    """The servers that each server directly depends on."""
    found: dict[str, list[str]] = {}
    for edge in edges.to_pylist():
        found.setdefault(edge["downstream"], []).append(edge["upstream"])
    return found


def pairs(edges: pa.Table) -> list[tuple[str, str]]:
    """Who depends on whom, as (upstream, downstream)."""
    return list(zip(edges["upstream"].to_pylist(), edges["downstream"].to_pylist(), strict=True))


def _forecaster(args: AppArgs, steps: int) -> serve.Application:
    deployment = serve.deployment(
        name="forecaster",
        user_config={"bundle": args.bundle},
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=args.service.forecaster_ongoing,
        max_queued_requests=args.service.forecaster_queue,
        autoscaling_config=autoscaling(args.service),
    )
    return deployment(ForecasterReplica).bind(args.database, steps)


def _single(name: str, replica: type) -> serve.Deployment:
    return _light(name, 1)(replica)  # type: ignore[no-any-return]


def _light(name: str, replicas: int) -> Any:
    """A decorator that makes deployments which wait more than they compute."""
    return serve.deployment(
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=MANY,
        graceful_shutdown_timeout_s=2.0,
        ray_actor_options={"num_cpus": 0},
    )
