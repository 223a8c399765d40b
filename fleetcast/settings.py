"""All settings of FleetCast, typed, in one place.

Each can be set by an environment variable: `FLEETCAST_` and the path in upper case joined by two underscores, for
example `FLEETCAST_SERVICE__PORT=9000`. Nothing here is read at import: whoever starts a program builds `Settings()`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RaySettings(BaseModel):
    """How FleetCast starts or joins Ray."""

    address: str | None = Field(None, description="address of a running cluster; None starts Ray on this machine")
    auth_mode: Literal["token", "disabled"] = Field("token", description="RAY_AUTH_MODE of a Ray that FleetCast starts")
    num_cpus: int | None = Field(None, description="cores that a local Ray may use; None is all")


class ForecastSettings(BaseModel):
    """How forecasts are worked out."""

    compiled: bool = Field(True, description="predict with a compiled kernel where there is a compiler")
    kernels: Path | None = Field(None, description="folder of compiled kernels; None is `~/.cache/fleetcast/kernels`")


MOST_USD = 1e12  # sums of so much stay finite


class ProfileCost(BaseModel):
    """Assumptions that differ for a profile; None is the general one."""

    model_config = ConfigDict(extra="forbid")

    downtime_usd_per_hour: float | None = Field(None, ge=0, le=MOST_USD)
    incident_hours: float | None = Field(None, ge=0, le=8760)
    prevented_share: float | None = Field(None, ge=0, le=1)


class CostSettings(BaseModel):
    """Assumptions behind the value of an avoided incident; all are assumptions and shown as such."""

    downtime_usd_per_hour: float = Field(50_000.0, ge=0, le=MOST_USD)
    incident_hours: float = Field(2.5, ge=0, le=8760, description="mean length of an incident")
    prevented_share: float = Field(0.85, ge=0, le=1, description="share of predicted incidents that are prevented")
    false_alarm_usd: float = Field(
        100.0, ge=0, le=MOST_USD, description="an engineer's time for an alert that came to nothing"
    )
    action_usd: float = Field(20.0, ge=0, le=MOST_USD, description="one remediation action")
    project_usd: float = Field(250_000.0, ge=0, le=MOST_USD)
    profiles: dict[str, ProfileCost] = Field(default_factory=dict, description="what differs for a profile")

    def of(self, profile: str) -> tuple[float, float]:
        """Cost of an incident of a profile in US dollars, and the share of predicted ones that is prevented."""
        own = self.profiles.get(profile, ProfileCost())
        hours = self.incident_hours if own.incident_hours is None else own.incident_hours
        rate = self.downtime_usd_per_hour if own.downtime_usd_per_hour is None else own.downtime_usd_per_hour
        share = self.prevented_share if own.prevented_share is None else own.prevented_share
        return hours * rate, share


class AlertSettings(BaseModel):
    """When an alert opens and closes, what belongs together, who is told."""

    open_after_cycles: int = Field(2, ge=1, description="cycles in a row at a level before an alert opens")
    resolve_after_cycles: int = Field(6, ge=1, description="cycles in a row without a level before it resolves")
    cool_down_s: float = Field(3600.0, ge=0, description="an alert that comes back so soon opens again, not anew")
    expire_after_s: float = Field(86_400.0, gt=0, description="an alert of a server not heard of for so long is over")
    group_window_s: float = Field(
        900.0, ge=0, description="alerts of one cause that open within it are one incident, told once"
    )
    group_by: list[str] = Field(
        default_factory=lambda: ["cell", "metric"],
        description="alerts with the same of all these (labels, profile, metric) have one cause; empty: none have",
    )
    shadow: bool = Field(True, description="for routes that do not say: record what would be sent, send nothing")
    routing: Annotated[Path, AfterValidator(Path.absolute)] | None = Field(
        None, description="YAML of receivers and routes; None is the one that ships"
    )
    fleet: Annotated[Path, AfterValidator(Path.absolute)] | None = Field(
        None, description="YAML of servers' labels and what they depend on"
    )
    allow_private: list[str] = Field(
        default_factory=list, description="networks (10.0.0.0/8) that notifications may go to though not public"
    )
    ca_file: Path | None = Field(None, description="certificates trusted besides the system's for what is sent")
    timeout_s: float = Field(10.0, gt=0, description="for one attempt to deliver a notification")
    give_up_s: float = Field(3 * 86_400.0, gt=0, description="a notification not delivered for so long has failed")
    renew_s: float = Field(
        60.0, gt=0, description="what Alertmanager knows of live incidents is told again so often, as it forgets"
    )
    longest_silence_h: float = Field(24.0 * 31, gt=0, description="a silence ends after at most so long")
    keep_days: float = Field(
        400.0, ge=1, description="incidents that are over are kept for so long, with their timeline and messages"
    )


class HttpTarget(BaseModel):
    """An API that playbooks may call."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(pattern=r"^https?://[^\s?#]+$", description="base address; paths of playbooks are added to it")
    allow: list[str] = Field(
        description="requests that it may be sent, as `METHOD /path`; a `*` stands for one segment of a path"
    )
    token_file: Path | None = Field(None, description="file with a token, read for each request")
    token_header: str = Field(
        "Authorization", pattern=r"^[A-Za-z0-9-]+$", description="header that the token is sent in"
    )
    token_prefix: str = Field("Bearer ", pattern=r"^[A-Za-z]* ?$", description="what stands before it there")
    ca_file: Path | None = Field(None, description="certificates that its own is checked against")
    timeout_s: float = Field(30.0, gt=0)
    honours_keys: bool = Field(
        False, description="it carries out a request once for each `Idempotency-Key`, however often it is sent"
    )
    lookup: str | None = Field(
        None, pattern="^/", description="path that `GET` answers 200 for an action that it has taken (`{action_id}`)"
    )


class KubernetesSettings(BaseModel):
    """A cluster that playbooks may act on."""

    kubeconfig: Path | None = Field(None, description="its kubeconfig; None is the cluster that FleetCast runs in")
    namespace: str = Field("default", description="where deployments are scaled")
    operations: list[Literal["cordon", "uncordon", "drain", "scale"]] = Field(default_factory=list)
    max_replicas: int = Field(20, ge=1, description="a deployment is not scaled above it")
    drain_s: float = Field(300.0, gt=0, description="how long a drain waits for pods to go")


class AnsibleSettings(BaseModel):
    """A project folder of Ansible that playbooks may use."""

    project: Path = Field(description="folder with the playbooks and an `inventory`")
    artifacts: Path = Field(description="folder where each run leaves its output and its exit code")
    allow: list[str] = Field(default_factory=list, description="file names of the playbooks that may be run")
    timeout_s: float = Field(900.0, gt=0)


class RemediationSettings(BaseModel):
    """What remediation may do; as it comes it only says what it would have done."""

    mode: Literal["dry_run", "simulated", "live"] = Field(
        "dry_run", description="do nothing, act on a simulated fleet, or act on machines"
    )
    automatic: Literal["never", "dry_run", "always"] = Field(
        "dry_run", description="when the policy may approve what a playbook lets it: never, in dry run, or always"
    )
    playbooks: Path | None = Field(None, description="folder whose playbooks replace those of the package")
    approval_minutes: float = Field(30.0, gt=0, description="an approval holds for so long")
    max_concurrent: int = Field(3, ge=1, description="plans that are carried out at a time")
    max_concurrent_per_profile: int = Field(1, ge=1)
    max_actions_per_hour: int = Field(60, ge=1)
    max_actions_per_hour_per_profile: int = Field(20, ge=1)
    cooldown_minutes: float = Field(60.0, ge=0, description="a server is left alone for so long after an action")
    breaker_failures: int = Field(3, ge=1, description="plans that fail in a row until all is stopped")
    holdout_share: float = Field(
        0.05, ge=0, lt=1, description="share of servers that is never acted on, so that the effect can be measured"
    )
    takeover_s: float = Field(10.0, gt=0, description="a process that gives no sign of life for so long has ended")
    targets: dict[str, HttpTarget] = Field(default_factory=dict, description="APIs by the name that playbooks use")
    kubernetes: KubernetesSettings | None = None
    ansible: AnsibleSettings | None = None


class ServiceSettings(BaseModel):
    """The forecast service."""

    host: str = Field("127.0.0.1", description="address to listen on; others than loopback need TLS or `allow_remote`")
    allow_remote: bool = Field(False, description="listen without TLS on an address that other machines reach")
    tls_certificate: Path | None = Field(None, description="PEM file of the certificate and those that signed it")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key, without a password")
    port: int = Field(8000, ge=1, le=65535)
    ingress_replicas: int = Field(2, ge=1)
    forecaster_min_replicas: int = Field(1, ge=1)
    forecaster_max_replicas: int = Field(4, ge=1)
    forecaster_target: int = Field(8, ge=1, description="calls a replica that the number of replicas aims at")
    forecaster_ongoing: int = Field(64, ge=1, description="calls that a replica takes at a time, to run them together")
    forecaster_queue: int = Field(
        256, ge=1, description="calls of an ingress that wait for a forecaster; further ones are answered 429 at once"
    )
    forecaster_up_s: float = Field(10.0, ge=0, description="seconds of more calls than the target until replicas come")
    forecaster_down_s: float = Field(300.0, ge=0, description="seconds of fewer calls until replicas go")
    history_hours: float = Field(
        80.0, gt=0, description="samples kept in memory for each server; at least what the model reads is kept"
    )
    max_servers: int = Field(
        20_000, ge=1, description="servers kept in memory; samples of further ones are refused until one falls silent"
    )
    retention_hours: float = Field(24.0 * 31, gt=0, description="samples kept in the database")
    forecast_whole_hours: float = Field(168.0, gt=0, description="stored forecasts keep all their steps for so long")
    forecast_minutes: list[int] = Field(
        default_factory=lambda: [30, 120, 480], description="minutes ahead that are kept of older forecasts"
    )
    forecast_hours: float = Field(24.0 * 31, gt=0, description="stored forecasts and risks are kept for so long")
    quarantine_rows: int = Field(100_000, ge=1, description="refused values kept; the oldest go first")
    request_timeout_s: float = Field(30.0, gt=0)
    requests_per_second: float | None = Field(
        200.0, gt=0, description="of one API key, for longer than 10 s; more are answered 429; None is no limit"
    )
    max_rows_per_request: int = Field(100_000, ge=1)
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1)
    shard_servers: int = Field(256, ge=1, description="servers a call to a forecaster")


class MetricsSettings(BaseModel):
    """What `/metrics` tells Prometheus: at most servers x (targets x quantiles x minutes + 5) series and a hundred."""

    public: bool = Field(False, description="answer without an API key; else a key with the scope read is needed")
    servers: int = Field(
        1_000, ge=0, description="servers that have series of their own; of a larger fleet those with the highest risk"
    )
    minutes: list[Annotated[int, Field(gt=0, multiple_of=5)]] = Field(
        default_factory=lambda: [30, 480], description="minutes ahead of forecasts, shown and later compared"
    )
    quantiles: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=lambda: [0.5, 0.9], description="shown as far as the model forecasts them"
    )


class RelabelRule(BaseModel):
    """A rule of Prometheus' relabelling; `server` and `profile` are the labels that FleetCast reads at the end."""

    model_config = ConfigDict(extra="forbid")

    source_labels: list[str] = Field(default_factory=list)
    separator: str = ";"
    regex: str = Field("(.*)", description="matched against the whole text")
    target_label: str = ""
    replacement: str = "$1"
    action: Literal["replace", "keep", "drop", "lowercase"] = "replace"


def _without_port() -> list[RelabelRule]:
    return [RelabelRule(source_labels=["instance"], regex=r"(.+?)(?::\d+)?", target_label="server")]


class PrometheusSettings(BaseModel):
    """A Prometheus that samples are read from or sent by."""

    url: str | None = Field(None, description="base address, for example http://127.0.0.1:9090; None reads from none")
    token_file: Path | None = Field(None, description="file with a bearer token that Prometheus asks for")
    ca_file: Path | None = Field(None, description="certificates that Prometheus' own is checked against")
    queries: dict[str, str] = Field(
        default_factory=dict, description="PromQL by metric in place of the data contract's; empty leaves a metric out"
    )
    labels_from: str = Field(
        "node_uname_info", description="series whose labels, joined by `instance`, the rules see; empty is none"
    )
    relabel: list[RelabelRule] = Field(
        default_factory=_without_port, description="from a host's labels to `server` and `profile`"
    )
    keep_labels: list[str] = Field(
        default_factory=lambda: ["cell", "team", "depends_on"],
        description="labels of a host, after the rules, that its alerts carry; `depends_on` names servers upstream",
    )
    chunk_steps: int = Field(288, ge=1, le=10_999, description="most steps a query; Prometheus answers up to 11,000")
    backfill_hours: float = Field(168.0, gt=0, description="how far back the service reads at its first start")
    delay_s: float = Field(15.0, ge=0, lt=300, description="seconds after a step's end until it is read")
    timeout_s: float = Field(60.0, gt=0)


class Settings(BaseSettings):
    """The settings tree."""

    model_config = SettingsConfigDict(env_prefix="FLEETCAST_", env_nested_delimiter="__", extra="ignore")

    home: Path = Field(Path(".fleetcast"), description="folder of the service's database, state and demo files")
    database_url: str | None = Field(None, description="SQLAlchemy URL; None is SQLite in `home`")
    forecasts: str | None = Field(
        None, description="folder or URI (s3://...) of the stored forecasts; None is `forecasts` in `home`"
    )
    ray: RaySettings = Field(default_factory=RaySettings)
    forecast: ForecastSettings = Field(default_factory=ForecastSettings)
    service: ServiceSettings = Field(default_factory=ServiceSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    cost: CostSettings = Field(default_factory=CostSettings)
    remediation: RemediationSettings = Field(default_factory=RemediationSettings)
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'fleetcast.db').absolute()}"

    @property
    def forecast_folder(self) -> str:
        """Where the stored forecasts are."""
        return self.forecasts or str((self.home / "forecasts").absolute())
