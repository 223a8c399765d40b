"""A slow rival from another environment, on a sample of servers and origins, as a section of the report."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.errors import EvaluationError, UsageError
from fleetcast.evaluation import auto_theta, wording
from fleetcast.evaluation.backtest import MODEL_NAME, BacktestResult
from fleetcast.evaluation.figures import Section
from fleetcast.evaluation.metrics import SEASON, seasonal_scale
from fleetcast.evaluation.rivals import UNTRAINED
from fleetcast.evaluation.scores import Scores, Truth, add, join, score, truth_sums
from fleetcast.evaluation.splits import Origins, Window
from fleetcast.evaluation.summary import summarise
from fleetcast.forecast.table import ForecastArrays
from fleetcast.model.floor import forward_fill
from fleetcast.windows.arrays import FleetArrays

SERVERS, ORIGINS = 10, 4  # of the sample, evenly spread
CONTEXT = 7 * STEPS_PER_DAY
FLOOR = "residual_floor"
PYTHON = Path(sys.prefix) / "peers-stats" / "bin" / "python"

Floats = npt.NDArray[np.float32]


def auto_theta_command() -> list[str]:
    """How AutoTheta is run; raises `UsageError` where its environment is not there."""
    if not PYTHON.exists():
        raise UsageError(f"the rival auto_theta needs statsforecast in {PYTHON.parents[1]}: run `make peers-stats`")
    return [str(PYTHON), auto_theta.__file__]


class SampledRival:
    """A rival that another program forecasts (see `auto_theta`), beside the model and the floor on the same points."""

    def __init__(self, name: str, command: Sequence[str], servers: Sequence[str], origins: Origins) -> None:
        self.name, self.command = name, list(command)
        self.servers = {servers[place] for place in _even(len(servers), SERVERS)}
        self.places = _even(len(origins.positions), ORIGINS)
        self.origins = replace(origins, positions=tuple(origins.positions[place] for place in self.places))
        self.truths: list[Truth] = []
        self.scores: dict[str, list[Scores]] = {MODEL_NAME: [], FLOOR: [], name: []}
        self.scored: list[tuple[str, str]] = []  # servers and their profiles
        self.last: ForecastArrays | None = None

    def add(self, fleet: FleetArrays, forecasts: Sequence[ForecastArrays]) -> None:
        """As `Listener`. Raises `EvaluationError` when the program fails."""
        rows = [row for row, server in enumerate(fleet.servers) if server in self.servers]
        if not rows:
            return
        some = fleet.of_servers(rows)
        windows = self.origins.windows(some)
        ours = [forecasts[place].of_servers(rows) for place in self.places]
        theirs = self._run(windows, ours[0])
        truths = []
        parts: dict[str, list[Scores]] = {name: [] for name in self.scores}
        for window, forecast, other in zip(windows, ours, theirs, strict=True):
            past, truth = window.input(), window.truth(forecast.metrics)
            floor = UNTRAINED[FLOOR].quantiles(past, forecast.metrics, window.horizon, forecast.levels)
            scale = seasonal_scale(past.select(forecast.metrics).transpose(0, 2, 1))
            quantiles = {MODEL_NAME: forecast.quantiles, FLOOR: floor, self.name: other}
            known = np.stack([~np.isnan(found).any(axis=-1) for found in quantiles.values()]).all(axis=0)
            kept = np.where(known, truth, np.float32(np.nan))
            truths.append(truth_sums(kept, ~np.isnan(truth), scale))
            for name, found in quantiles.items():
                parts[name].append(score(kept, found, forecast.levels, scale))
        self.truths.append(add(truths))
        for name, made in parts.items():
            self.scores[name].append(add(made))
        self.scored += zip(some.servers, some.profiles, strict=True)
        self.last = ours[-1]

    def section(self) -> Section:
        """As `Scoring`."""
        if self.last is None:
            raise EvaluationError(f"{self.name} was given no server of its sample")
        result = BacktestResult(
            self.origins, self.last.metrics, self.last.levels,
            tuple(server for server, _ in self.scored), tuple(profile for _, profile in self.scored),
            join(self.truths), {name: join(parts) for name, parts in self.scores.items()}, {}, {}, (),
        )  # fmt: skip
        rows = summarise(result).rows
        text = (
            f"{self.name}, beside the model and the floor, on {len(result.servers)} servers and "
            f"{len(self.origins.positions)} origins, evenly spread, from the last {CONTEXT // STEPS_PER_DAY} days."
        )
        return Section(
            title=f"{self.name} on a sample",
            text=[text],
            headings=["metric", *wording.HEADINGS],
            rows=[[row.metric, *wording.cells(row)] for row in rows],
            data={"rows": [row.model_dump(mode="json") for row in rows], "servers": sorted(self.servers)},
        )

    def images(self) -> Mapping[str, bytes]:
        """As `Scoring`: none."""
        return {}

    def _run(self, windows: Sequence[Window], like: ForecastArrays) -> Floats:
        """Quantiles [origin, server, metric, step, level] by the program; NaN for a series without a value."""
        pasts = [window.input().select(like.metrics)[:, -CONTEXT:].transpose(0, 2, 1) for window in windows]
        steps = min(past.shape[-1] for past in pasts)
        series = np.stack([past[..., -steps:] for past in pasts]).reshape(-1, steps)
        filled = forward_fill(series)
        first = np.take_along_axis(series, (~np.isnan(series)).argmax(axis=1)[:, None], axis=1)
        begun = np.logical_or.accumulate(~np.isnan(series), axis=1)
        silent = ~begun[:, -1]
        given = np.where(begun, filled, np.where(silent[:, None], 0.0, first))
        with tempfile.TemporaryDirectory() as folder:
            into, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(into, past=given, horizon=like.horizon, levels=np.array(like.levels), season=SEASON)
            done = subprocess.run([*self.command, str(into), str(out)], capture_output=True, text=True, check=False)
            if done.returncode or not out.exists():
                last = (done.stderr.strip() or "no output").splitlines()[-1]
                raise EvaluationError(f"{self.name} failed: {last}; leave it out of --rivals")
            found = np.load(out)["quantiles"]
        found = np.sort(np.maximum(found, 0).astype(np.float32), axis=-1)
        found[silent] = np.nan
        return found.reshape(len(windows), *like.quantiles.shape)


def _even(count: int, most: int) -> list[int]:
    """At most `most` of `count` positions, evenly spread."""
    return sorted(set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()))
