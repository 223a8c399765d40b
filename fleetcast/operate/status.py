"""What of FleetCast there is and runs on this machine, as `fleetcast status --json` prints it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

import fleetcast
from fleetcast.contract.vocabulary import VERSION
from fleetcast.dataset.manifest import MANIFEST
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import DatasetError
from fleetcast.operate import locks
from fleetcast.operate.home import MARKER, SERVICE_LOCK, files_below, service_home
from fleetcast.operate.service_client import api_key, ask, service_address
from fleetcast.settings import Settings
from fleetcast.training.folder import RUN_FILE, RUN_LOCK, RunFolder

_BUNDLE_WEIGHTS = "model.safetensors"
_PROGRESS_FIELDS = (
    "time", "member", "members", "epoch", "epochs", "step", "steps", "workers", "samples_per_s", "seconds_left", "loss",
    "validation_loss", "learning_rate", "reason",
)  # fmt: skip
_MODEL_FIELDS = ("run", "created", "preset", "targets", "horizon", "cutoff", "contract_version", "parameters")


class Process(BaseModel):
    """A living process that holds a lock."""

    lock: Path
    pid: int
    started: datetime
    command: str


class TrainingStatus(BaseModel):
    """A run that has no finished bundle: it is trained right now, or was interrupted."""

    run: str
    folder: Path
    state: Literal["running", "interrupted"]
    lock: Path | None = None
    pid: int | None = None
    started: datetime | None = None
    progress: dict[str, Any] = Field(default_factory=dict, description="of its last records")
    go_on_with: str | None = Field(None, description="the command that goes on with an interrupted run")


class ServiceStatus(BaseModel):
    """The service of this home."""

    up: bool
    process: Process | None = None
    address: str
    ready: bool | None = Field(None, description="what /readyz says; None when it did not answer")
    reasons: list[str] = Field(default_factory=list, description="why it is not ready")
    status: dict[str, Any] | None = Field(None, description="/v1/status, when FLEETCAST_API_KEY holds a key")
    error: str | None = None


class DatasetStatus(BaseModel):
    """A dataset's manifest in brief, or what is wrong with it."""

    path: Path
    servers: int | None = None
    rows: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    metrics: list[str] = Field(default_factory=list)
    contract_version: str | None = None
    error: str | None = None


class ModelStatus(BaseModel):
    """The model that `current` in a models folder points to."""

    path: Path
    manifest: dict[str, Any]


class RayStatus(BaseModel):
    """Ray on this machine."""

    version: str
    address: str | None = Field(None, description="of the cluster that the settings or the machine name")
    reachable: bool | None = Field(None, description="whether something listens there; None when no address is known")


class Status(BaseModel):
    """All of it."""

    version: str
    contract_version: str
    home: Path
    home_exists: bool
    home_bytes: int
    service: ServiceStatus
    trainings: list[TrainingStatus]
    models: list[ModelStatus]
    datasets: list[DatasetStatus]
    ray: RayStatus


def collect_status(settings: Settings, models: Path | None = None) -> dict[str, Any]:
    """The status as JSON-able data; changes nothing and needs no Ray.

    Args:
        settings: say where home, service and Ray are.
        models: a models folder outside of home to look at too.
    """
    home = settings.home.resolve()
    folders = [home, *([models.resolve()] if models else [])]
    status = Status(
        version=fleetcast.__version__,
        contract_version=VERSION,
        home=home,
        home_exists=(home / MARKER).exists(),
        home_bytes=sum(path.lstat().st_size for path in files_below(home)),
        service=_service(settings),
        trainings=[training for folder in folders for training in _trainings(folder)],
        models=[model for folder in folders for model in _models(folder)],
        datasets=list(_datasets(home)),
        ray=_ray(settings),
    )
    return status.model_dump(mode="json")


def _service(settings: Settings) -> ServiceStatus:
    lock = service_home(settings.home.resolve()) / SERVICE_LOCK
    holder, address = locks.holder(lock), service_address(settings)
    if holder is None:
        return ServiceStatus(up=False, address=address)
    status = ServiceStatus(up=True, process=_process(lock, holder), address=address)
    ready = ask(address, "/readyz", certificate=settings.service.tls_certificate)
    if ready.code is None:
        return status.model_copy(update={"error": ready.error})
    status.ready = ready.code == 200
    if isinstance(ready.body, dict):
        status.reasons = [str(reason) for reason in ready.body.get("reasons", [])]
    key = api_key()
    if key:
        answer = ask(address, "/v1/status", key, settings.service.tls_certificate)
        status.status = answer.body if answer.code == 200 else None
        status.error = None if answer.code == 200 else answer.error or f"/v1/status answered {answer.code}"
    return status


def _process(lock: Path, holder: locks.Holder) -> Process:
    return Process(lock=lock, pid=holder.pid, started=holder.started, command=holder.command)


def _trainings(folder: Path) -> Iterator[TrainingStatus]:
    """Every run below `folder` that is not finished."""
    places = {path.parent for path in files_below(folder) if path.name in (RUN_FILE, RUN_LOCK)}
    for place in sorted(places):
        run, holder = RunFolder(place), locks.holder(place / RUN_LOCK)
        asked = run.read() or {}
        if holder is None and (not asked or run.bundle.exists()):
            continue
        found = run.progress()
        status = TrainingStatus(
            run=place.name,
            folder=place,
            state="interrupted",
            progress={name: found[name] for name in _PROGRESS_FIELDS if found.get(name) is not None},
            go_on_with=asked.get("command"),
        )
        if holder is not None:
            now = {"state": "running", "lock": run.lock, "pid": holder.pid, "started": holder.started}
            status = status.model_copy(update={**now, "go_on_with": None})
        yield status


def _datasets(folder: Path) -> Iterator[DatasetStatus]:
    """Every dataset below `folder`: a folder with a manifest and no weights."""
    for path in files_below(folder):
        if path.name != MANIFEST or (path.parent / _BUNDLE_WEIGHTS).exists():
            continue
        try:
            manifest = Dataset.open(path.parent).manifest
        except DatasetError as error:
            yield DatasetStatus(path=path.parent, error=str(error))
            continue
        yield DatasetStatus(
            path=path.parent,
            servers=len(manifest.servers),
            rows=manifest.rows,
            start=manifest.start,
            end=manifest.end,
            metrics=manifest.metrics,
            contract_version=manifest.contract_version,
        )


def _models(folder: Path) -> Iterator[ModelStatus]:
    """The current model of every models folder below `folder` (a link or folder named `current`)."""
    for parent, names in _folders(folder):
        if "current" not in names:
            continue
        for bundle in (parent / "current", parent / "current" / "bundle"):
            file = bundle / MANIFEST
            if file.exists() and (bundle / _BUNDLE_WEIGHTS).exists():
                content = json.loads(file.read_text())
                yield ModelStatus(path=bundle, manifest={name: content.get(name) for name in _MODEL_FIELDS})


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    for parent, names, files in os.walk(folder, followlinks=False):
        yield Path(parent), [*names, *files]


def _ray(settings: Settings) -> RayStatus:
    address = settings.ray.address or os.environ.get("RAY_ADDRESS") or _last_local_ray()
    return RayStatus(version=version("ray"), address=address, reachable=_listens(address) if address else None)


def _last_local_ray() -> str | None:
    """The address that Ray notes down for the cluster last started on this machine."""
    root = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
    try:
        return (root / "ray" / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def _listens(address: str) -> bool:
    host, _, port = address.removeprefix("ray://").removeprefix("http://").rpartition(":")
    if not port.isdigit():
        return False
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False
