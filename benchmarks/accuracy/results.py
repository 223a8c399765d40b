"""Results as JSON lines, one a run, and the table that is made of them."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

import fleetcast
from benchmarks.accuracy.protocol import FLOOR
from benchmarks.accuracy.variants import Variant
from fleetcast.errors import EvaluationError
from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import BacktestReport
from fleetcast.evaluation.metrics import geometric_mean
from fleetcast.evaluation.profiles import profile_coverage

ROOT = Path(fleetcast.__file__).parent
CODE = ("model", "training", "windows", "forecast")
COLUMNS = {
    "wql_to_floor": "WQL / floor",
    "wql_to_best": "WQL / best",
    "wql_mhz_to_best": "in MHz / best",
    "mase_to_best": "MASE / best",
    "coverage_80": "in 80 % band",
    "coverage_lowest": "lowest profile",
    "coverage_highest": "highest profile",
}
FIELDS = ("wql", "mase_mean", "mase_median", "coverage_80", "coverage_96", "peak_wql")


class Run(BaseModel):
    """One variant trained with one seed and scored on one part of one dataset."""

    variant: str
    seed: int
    protocol: str
    data: str = Field(description="fingerprint of the dataset")
    part: str
    settings: str = Field(description="digest of all that was fixed but seed and data: the preset and the changes")
    figures: dict[str, float] = Field(description="over all metrics; ratios are geometric means over the metrics")
    metrics: dict[str, dict[str, float]] = Field(description="figures by metric")
    servers: int
    windows: int
    parameters: int
    seconds: float = Field(description="of training, wall time")
    versions: dict[str, str]

    @property
    def key(self) -> tuple[str, int, str, str, str]:
        """What a resumed experiment need not do again."""
        return self.variant, self.seed, self.data, self.part, self.settings


def digest_of(described: dict[str, Any]) -> str:
    """Digest of `Variant.describe`."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """What made a result: packages, and a digest of the code that a model depends on."""
    digest = hashlib.sha256()
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    packages = {name: version(name) for name in ("torch", "numpy", "lightning")}
    return {"fleetcast": fleetcast.__version__, "code": digest.hexdigest()[:12], "python": platform.python_version(),
            **packages}  # fmt: skip


def figures_of(report: BacktestReport, extra: dict[str, float]) -> dict[str, float]:
    """A run's figures over all metrics; those that do not exist are left out.

    `_to_best` is relative to the untrained rival that is best in the metric and figure.
    """
    compared = next(item for item in report.comparisons if item.rival == FLOOR)
    rows = [row for row in report.rows if row.forecaster == MODEL_NAME and row.coverage_80 is not None]
    points = sum(row.points for row in rows)
    shares = list(profile_coverage(report).values())
    found = {
        "wql_to_floor": compared.wql_ratio,
        "mase_to_floor": compared.mase_ratio,
        "wql_to_best": _mean([row.wql_ratio for row in rows]),
        "mase_to_best": _mean([row.mase_ratio for row in rows]),
        "coverage_80": sum((row.coverage_80 or 0.0) * row.points for row in rows) / points if points else None,
        "coverage_lowest": min(shares, default=None),
        "coverage_highest": max(shares, default=None),
        **extra,
    }
    return {name: value for name, value in found.items() if value is not None}


def _mean(ratios: Sequence[float | None]) -> float | None:
    """Geometric mean of the ratios that exist."""
    mean = geometric_mean([ratio for ratio in ratios if ratio is not None])
    return None if np.isnan(mean) else mean


def metrics_of(report: BacktestReport) -> dict[str, dict[str, float]]:
    """A run's figures by metric."""
    rows = {row.metric: row.model_dump() for row in report.rows if row.forecaster == MODEL_NAME}
    return {metric: {name: row[name] for name in FIELDS if row[name] is not None} for metric, row in rows.items()}


def read(path: Path) -> list[Run]:
    """The runs of a file, in the order that they were made; none where there is no file.

    A last line that was cut off by a kill is left out. Raises `EvaluationError` for any other that is no run.
    """
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Run.model_validate_json(line))
        except ValidationError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise EvaluationError(f"{path}, line {number} is no result of this experiment: delete it") from error
    return found


def append(path: Path, known: Sequence[Run], run: Run) -> None:
    """Add a run: the file is replaced by a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(one.model_dump_json() + "\n" for one in (*known, run)))
    partial.replace(path)


def table(runs: Sequence[Run], catalogue: Sequence[Variant]) -> str:
    """Markdown: mean and standard deviation over the seeds by protocol, part and variant, newest settings of each."""
    lines: list[str] = []
    for protocol, data, part in dict.fromkeys((run.protocol, run.data, run.part) for run in runs):
        some = [run for run in runs if (run.protocol, run.data, run.part) == (protocol, data, part)]
        shown = [column for column in COLUMNS if any(column in run.figures for run in some)]
        heads = [COLUMNS[column] for column in shown]
        lines += [
            f"{protocol}, {part} part ({some[-1].servers} servers, {some[-1].windows} windows, data {data[:12]})",
            "",
        ]
        lines += ["| " + " | ".join(["variant", "change", "seeds", *heads, "parameters", "training"]) + " |"]
        lines += ["| --- | --- |" + " --: |" * (len(heads) + 3)]
        for variant in catalogue:
            own = newest(some, variant.name)
            if own:
                cells = [spread([run.figures[column] for run in own if column in run.figures]) for column in shown]
                seconds = f"{np.mean([run.seconds for run in own]):.0f} s"
                cells = [variant.name, variant.what, str(len(own)), *cells, f"{own[-1].parameters:,}", seconds]
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def newest(runs: Sequence[Run], variant: str) -> list[Run]:
    """The runs of a variant with the settings of the last one, one a seed."""
    own = [run for run in runs if run.variant == variant]
    return list({run.seed: run for run in own if run.settings == own[-1].settings}.values())


def spread(values: Sequence[float]) -> str:
    """Mean, and the sample standard deviation where there are several values."""
    if not values:
        return "–"
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.3f}"
