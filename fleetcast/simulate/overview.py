"""`overview.png`: a week of one server of each profile, and the fleet's incidents by kind and lead time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from fleetcast.contract.vocabulary import PROFILES, STEP_SECONDS
from fleetcast.dataset.reader import Dataset

NAME = "overview.png"
STEPS = 7 * 24 * 12
LINES = {
    "cpu_utilization": "tab:blue",
    "memory_used": "tab:green",
    "cpu_iowait": "tab:purple",
    "filesystem_used": "tab:brown",
}
STATE_COLORS = {
    "critical_issue": "tab:red",
    "heavy_load": "gold",
    "idle": "lightsteelblue",
    "maintenance": "silver",
    "morning_spike": "orange",
    "recovery": "mediumaquamarine",
}  # healthy is left white, offline has no samples


def write_overview(dataset: Dataset) -> None:
    """Draw `overview.png` next to a simulated dataset's parts, from its files alone."""
    chosen = _one_of_each_profile(dataset)
    incidents = dataset.incidents()
    figure = Figure(figsize=(16, 2.1 * (len(chosen) + 2)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(chosen) + 1, 2, height_ratios=[1.0] * len(chosen) + [1.8])
    for row, table in enumerate(chosen):
        _draw_server(figure.add_subplot(grid[row, :]), table, incidents, legend=row == 0)
    _draw_kinds(figure.add_subplot(grid[-1, 0]), incidents)
    _draw_leads(figure.add_subplot(grid[-1, 1]), incidents)
    image = io.BytesIO()
    figure.savefig(image, dpi=80, metadata={"Software": None})
    dataset.storage.write_bytes(NAME, image.getvalue())


def _one_of_each_profile(dataset: Dataset) -> list[pa.Table]:
    """The first week of the first server of each profile that occurs, in the contract's order."""
    columns = ["server", "profile", "timestamp", "state", *LINES]
    found: dict[str, pa.Table] = {}
    for part in dataset.manifest.parts:
        table = dataset.read(part, columns)
        for profile in PROFILES:
            if profile not in found:
                rows = table.filter(pc.equal(table["profile"], profile))
                if rows.num_rows:
                    found[profile] = rows.filter(pc.equal(rows["server"], rows["server"][0])).slice(0, STEPS)
        if len(found) == len(PROFILES):
            break
    return [found[profile] for profile in PROFILES if profile in found]


def _draw_server(axes: Axes, table: pa.Table, incidents: pa.Table, legend: bool) -> None:
    server, profile = table["server"][0].as_py(), table["profile"][0].as_py()
    times = np.asarray(table["timestamp"].to_numpy(), dtype="datetime64[s]")
    for name, color in LINES.items():
        axes.plot(times, table[name].to_numpy(), color=color, linewidth=0.8, label=name)
    for word, color in STATE_COLORS.items():
        _shade(axes, times, np.asarray(pc.equal(table["state"], word)), color, word)
    for incident in incidents.filter(pc.equal(incidents["server"], server)).to_pylist():
        onset = np.datetime64(incident["onset"].replace(tzinfo=None), "s")
        if times[0] <= onset <= times[-1]:
            axes.axvline(_number(onset), color="black", linewidth=1.0, linestyle="--")
            axes.annotate(
                incident["kind"], (_number(onset), 1.0), fontsize=8, xytext=(2, -8), textcoords="offset points"
            )
    axes.set(ylim=(0, 1), xlim=(times[0], times[-1]), ylabel=f"{profile}\n{server}")
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    if legend:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(LINES) + len(STATE_COLORS), fontsize=8)


def _shade(axes: Axes, times: npt.NDArray[Any], held: npt.NDArray[np.bool_], color: str, word: str) -> None:
    """Shade the runs of steps at which a state held."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    starts = times[runs[:, 0]]
    lengths = times[runs[:, 1] - 1] - starts + np.timedelta64(STEP_SECONDS, "s")
    spans = [(_number(start), length / np.timedelta64(1, "D")) for start, length in zip(starts, lengths, strict=True)]
    axes.broken_barh(spans, (0, 1), color=color, alpha=0.35, linewidth=0, label=word)


def _number(moment: np.datetime64) -> float:
    """Matplotlib's number for a time."""
    return float(date2num(moment))  # type: ignore[no-untyped-call]


def _draw_kinds(axes: Axes, incidents: pa.Table) -> None:
    counts = pc.value_counts(incidents["kind"]).to_pylist()
    counts.sort(key=lambda entry: (entry["counts"], entry["values"]))
    axes.barh([entry["values"] for entry in counts], [entry["counts"] for entry in counts], color="tab:red")
    axes.set(xlabel="incidents", title=f"{incidents.num_rows} incidents by kind")


def _draw_leads(axes: Axes, incidents: pa.Table) -> None:
    leads = _hours(incidents, "precursor_start", "onset")
    announced = [lead for lead in leads if lead > 0]
    axes.hist(announced, bins=24, color="tab:blue")
    axes.set(
        xlabel="hours from the precursor's start to the onset",
        ylabel="incidents",
        title=f"lead times; {len(leads) - len(announced)} incidents without a precursor",
    )


def _hours(table: pa.Table, first: str, last: str) -> Sequence[float]:
    return [(row[last] - row[first]).total_seconds() / 3600 for row in table.to_pylist()]
