"""On what a variant is trained and scored: a kind of data, its windows, and a part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from pyarrow import csv

from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import UsageError
from fleetcast.evaluation.backtest import MODEL_NAME, BacktestResult, run_backtest
from fleetcast.evaluation.figures import BacktestReport
from fleetcast.evaluation.rivals import UNTRAINED
from fleetcast.evaluation.summary import summarise
from fleetcast.forecast.forecaster import Forecaster as BundleForecaster
from fleetcast.forecast.table import ForecastArrays
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import BundleManifest
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan, make_plan
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset

FLOOR = "residual_floor"
SCORED = 300  # servers at most, evenly spread; all are trained on


@dataclass(frozen=True)
class Protocol:
    """What is forecast: targets (None is the data's default), horizon, levels, and rolling windows that do not overlap.

    The test part is the last `windows` horizons of the data, the validation part as many before them. Everything is
    fitted before the part that is scored.
    """

    name: str
    targets: tuple[str, ...] | None
    horizon: int
    levels: tuple[float, ...]
    windows: int


VMS = Protocol("vms", ("cpu_utilization",), 48, tuple(round(0.1 * step, 1) for step in range(1, 10)), 18)
FLEET = Protocol("fleet", None, 96, QUANTILE_LEVELS, 18)


class Bench:
    """A dataset under a protocol, its scored servers in memory once for all variants; scores what was trained on it."""

    def __init__(self, protocol: Protocol, data: str, part: str, capacities: dict[str, float] | None = None) -> None:
        """`capacities` are MHz by server, for the loss in MHz. Raises `UsageError` when the data is too short."""
        self.protocol, self.data, self.part = protocol, data, part
        self.capacities = capacities
        dataset = Dataset.open(data)
        self.manifest = dataset.manifest
        whole = spread(arrays_from_dataset(dataset), SCORED)
        back = protocol.horizon * protocol.windows
        self.fleet = whole if part == "test" else replace(whole, values=whole.values[:, : whole.steps - back])
        cut = self.fleet.steps - 1 - back
        if cut < 1:
            raise UsageError(
                f"{data} is too short: {protocol.windows} windows of {protocol.horizon} steps for each part"
            )
        self.cutoff = self.fleet.time_at(cut)

    def plan(self, seed: int, epochs: int | None = None, samples: int | None = None) -> TrainPlan:
        """The `default` preset on this data, up to the first origin that is scored."""
        protocol = self.protocol
        options = TrainOptions(
            data=self.data, models="-", targets=protocol.targets, horizon=protocol.horizon, levels=protocol.levels,
            cutoff=self.cutoff, workers=1, epochs=epochs, samples_per_epoch=samples, seed=seed,
        )  # fmt: skip
        return make_plan(options, self.manifest)

    def score(self, bundles: list[Bundle]) -> tuple[BacktestReport, dict[str, float]]:
        """The report of the models' median forecast beside the untrained rivals, and figures that a report has not."""
        forecaster = MedianForecaster(tuple(BundleForecaster(bundle) for bundle in bundles))
        result = run_backtest(forecaster, self.fleet, self.protocol.windows, None, rivals=UNTRAINED)
        return summarise(result), {} if self.capacities is None else in_megahertz(result, self.capacities)


@dataclass(frozen=True)
class MedianForecaster:
    """Several models of one specification: the median of their quantiles, level by level."""

    members: tuple[BundleForecaster, ...]

    @property
    def manifest(self) -> BundleManifest:
        """That of the first one."""
        return self.members[0].manifest

    def forecast(self, fleet: FleetArrays, origin: datetime) -> ForecastArrays:
        """As `Forecaster`."""
        made = [member.forecast(fleet, origin) for member in self.members]
        if len(made) == 1:
            return made[0]
        return replace(made[0], quantiles=np.median(np.stack([one.quantiles for one in made]), axis=0))


def in_megahertz(result: BacktestResult, capacities: dict[str, float]) -> dict[str, float]:
    """Weighted quantile losses of CPU over the servers in MHz: of the model, and over the best rival's."""
    column = result.metrics.index("cpu_utilization")
    missing = [server for server in result.servers if server not in capacities]
    if missing:
        raise UsageError(f"--raw has no capacity of {missing[0]}")
    size = np.array([capacities[server] for server in result.servers])
    weight = float((size * result.truth.weight[:, column].sum(axis=1)).sum()) * len(result.levels)
    loss = {name: 2 * float(size @ found.pinball[:, column].sum(axis=(1, 2))) for name, found in result.scores.items()}
    best = min(own for name, own in loss.items() if name != MODEL_NAME)
    return {"wql_mhz": loss[MODEL_NAME] / weight, "wql_mhz_to_best": loss[MODEL_NAME] / best}


def spread(fleet: FleetArrays, most: int) -> FleetArrays:
    """At most so many of the servers, evenly spread."""
    total = len(fleet.servers)
    if total <= most:
        return fleet
    return fleet.of_servers(np.linspace(0, total - 1, most).round().astype(int))


def capacities_of(raw: str) -> dict[str, float]:
    """MHz of each VM at the end of its raw file `vm_*.csv.gz`. Raises `UsageError` when there is none."""
    files = sorted(Path(raw).glob("vm_*.csv.gz"))
    if not files:
        raise UsageError(f"{raw} has no vm_*.csv.gz: give the folder that the VMs were imported from")
    found = {file.name.removesuffix(".csv.gz"): csv.read_csv(file)["cpu_capacity_mhz"][-1].as_py() for file in files}
    return {name: float(capacity) for name, capacity in found.items()}


def short(protocol: Protocol) -> Protocol:
    """A smoke run's: two windows."""
    return replace(protocol, windows=2)
