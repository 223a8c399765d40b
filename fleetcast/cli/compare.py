"""The command that compares the statistics of two datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from fleetcast.cli.output import JSON_OPTION, print_json, say
from fleetcast.cli.parse import require_local
from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from fleetcast.simulate.realism.report import Comparison

WIDTH = 150
COLUMNS = {  # heading: where it is in the summary of a metric
    "r 5 min": ("autocorrelation", "5min"),
    "1 h": ("autocorrelation", "1h"),
    "8 h": ("autocorrelation", "8h"),
    "24 h": ("autocorrelation", "24h"),
    "168 h": ("autocorrelation", "168h"),
    "B level": ("burstiness", "level"),
    "B waits": ("burstiness", "waits"),
    "kurtosis": ("burstiness", "increment_kurtosis"),
    "jumps": ("burstiness", "increment_jumps"),
    "peak": ("burstiness", "peak_to_mean"),
    "day": ("seasonality", "hour_of_day"),
    "week": ("seasonality", "hour_of_week"),
}
CAPTION = (
    "Pooled quantiles; then medians over servers: r autocorrelation, B burstiness, kurtosis and jumps of 5-minute "
    "increments, peak 99 % / mean, variance explained by the hour of day and week; between: servers' means, SD / "
    "mean; KS distance of the pooled levels, 0 alike to 1 apart. --json has quartiles, correlations and counts."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    a: str = typer.Argument(help="Folder or URI of a dataset."),
    b: str = typer.Argument(help="Folder or URI of the other."),
    out: Path | None = typer.Option(None, help="PNG file of a figure."),
    servers: int = typer.Option(200, help="Most servers to sample of each."),
    seed: int = typer.Option(0, help="Another seed is another sample."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compare the statistics of two datasets, such as a simulated fleet and a real one."""
    if out is not None:
        require_local(out)
        if out.suffix.lower() != ".png":
            raise UsageError(f"{out} is not a .png file")
    comparison = _run(a, b, servers, seed)
    summary = comparison.summary()
    if out is not None:
        from fleetcast.simulate.realism.figure import write_figure

        write_figure(comparison, out)
    if as_json:
        print_json({**summary, "figure": None if out is None else str(out)})
        return
    Console(width=WIDTH).print(_table(summary))
    _say_the_rest(summary)
    if out is not None:
        say(f"figure: {out}")


def _run(a: str, b: str, servers: int, seed: int) -> Comparison:
    from rich.progress import Progress

    from fleetcast.dataset.reader import Dataset
    from fleetcast.simulate.realism.report import compare_datasets

    first, second = Dataset.open(a), Dataset.open(b)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("servers", total=None)
        return compare_datasets(
            first,
            second,
            servers,
            seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _table(summary: dict[str, Any]) -> Table:
    """Two rows a metric, one for each dataset."""
    table = Table("metric", "", caption=CAPTION, caption_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in ("2 %", "50 %", "98 %", *COLUMNS, "between", "KS"):
        table.add_column(heading, justify="right")
    for name, entry in summary["metrics"].items():
        for side in ("a", "b"):
            found = entry[side]
            pooled = dict(zip(found["quantiles"]["levels"], found["quantiles"]["pooled"] or [], strict=False))
            cells = [pooled.get(level) for level in (0.02, 0.5, 0.98)]
            cells += [found[group][word]["median"] for group, word in COLUMNS.values()]
            cells.append(found["mean"]["between_servers"])
            cells.append(entry["difference"]["marginal_ks"] if side == "b" else None)
            table.add_row(name if side == "a" else "", side.upper(), *map(_cell, cells))
    return table


def _cell(value: float | None) -> str:
    """Three digits, thousands as k, M, G; a dash for what is undefined."""
    if value is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"


def _say_the_rest(summary: dict[str, Any]) -> None:
    """What the table does not hold: the sides, what only one has, notes."""
    for side in ("a", "b"):
        about, only = summary[side], summary[f"only_in_{side}"]
        sampled = f"{about['sampled']} of {about['servers']} servers"
        say(f"{side.upper()}: {about['dataset']}, {sampled}, {about['days']:.1f} days")
        if only:
            say(f"only {side.upper()} has {', '.join(only)}")
    apart = summary["correlation"]["difference"]
    if apart is not None:
        say(f"correlations between metrics differ by {apart:.2f} on average")
    for note in summary["notes"]:
        say(note)
