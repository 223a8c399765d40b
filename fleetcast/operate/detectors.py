"""Who sees trouble coming in a closed-loop trial: a model, or a yardstick that knows the truth."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.operate.closed_loop import Detector, topology_of
from fleetcast.risk.assess import Risk
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.cycle import Watch, watch
from fleetcast.risk.model import RiskModel
from fleetcast.simulate.live import LiveFleet
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World
from fleetcast.windows.arrays import arrays_from_table

if TYPE_CHECKING:
    from fleetcast.forecast.forecaster import Forecaster

AHEAD = timedelta(hours=8)
SEEN = 0.9


def model_detector(forecaster: Forecaster, spec: FleetSpec) -> Detector:
    """The path of the service: the bundle's forecasts, its calibration and its risk model."""
    manifest, topology = forecaster.manifest, topology_of(spec)
    calibration = None if manifest.calibration is None else Calibration.model_validate(manifest.calibration)
    fitted = None if forecaster.risk_text is None else RiskModel.loads(forecaster.risk_text)
    kept = Watch()

    def detect(live: LiveFleet, now: datetime) -> list[Risk]:
        nonlocal kept
        first = max(spec.start, now - timedelta(seconds=STEP_SECONDS * (forecaster.history_steps - 1)))
        rows, planned = live.rows(first, now), live.maintenance(now)
        fleet = arrays_from_table(rows, first, now, planned, manifest.timezone)
        risks, kept = watch(fleet, forecaster.forecast(fleet, now), kept, calibration, fitted, topology)
        return risks

    return detect


def perfect_detector(spec: FleetSpec) -> Detector:
    """A yardstick: knows every incident whose precursor has begun, and nothing else."""
    layout = World(spec).layout
    profiles = {layout.name(server): layout.profile(server) for server in range(spec.servers)}

    def detect(live: LiveFleet, now: datetime) -> list[Risk]:
        coming = {
            row["server"]: row["onset"] <= now
            for row in live.incidents(now + AHEAD).to_pylist()
            if (row["precursor_start"] or row["onset"]) <= now < row["end"]
        }
        return [_risk(name, profile, now, coming.get(name)) for name, profile in profiles.items()]

    return detect


def _risk(server: str, profile: str, now: datetime, coming: bool | None) -> Risk:
    """The risk of a server with an incident that is open (True), is coming (False), or without one (None)."""
    p = 0.0 if coming is None else SEEN
    return Risk(
        server=server, profile=profile, origin=now, p_30m=p, p_2h=p, p_8h=p, open=bool(coming),
        level="P4" if coming is None else "P1", score=100 * p, metric="cpu_utilization",
        metric_probabilities={"cpu_utilization": p}, breach_s=None, breach_low_s=None, breach_high_s=None,
        source="model", reason="",
    )  # fmt: skip
