"""Commands that forecast: a backtest and a batch forecast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from fleetcast.cli.output import JSON_OPTION, print_json, say, show
from fleetcast.cli.parse import parse_numbers, parse_time, require_local

if TYPE_CHECKING:
    from fleetcast.evaluation.summary import BacktestReport


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backtest)
    app.command()(forecast)


def backtest(
    model: Path = typer.Option(..., help="Bundle."),
    data: str = typer.Option(..., help="Dataset: folder or URI."),
    out: Path = typer.Option(..., help="Folder of the report."),
    windows: int = typer.Option(18, help="Number of origins."),
    stride: int = typer.Option(48, help="Steps between origins."),
    quantiles: str | None = typer.Option(None, help="Quantile levels to score; default the model's."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Forecast rolling origins after the bundle's cutoff and score them beside untrained rivals."""
    report = run_report(model, data, out, windows, stride, parse_numbers(quantiles))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        from fleetcast.evaluation.report import tables

        Console(width=140).print(tables(report))
        say(f"report, figures and forecasts: {out}")


def run_report(model: Path, data: str, out: Path, windows: int, stride: int, levels: tuple[float, ...] | None) -> Any:
    """Run a backtest with a progress bar, write its report and record its figures in the bundle."""
    from rich.progress import Progress

    from fleetcast.dataset.reader import Dataset
    from fleetcast.evaluation.backtest import run_backtest
    from fleetcast.evaluation.report import write_report
    from fleetcast.forecast.forecaster import Forecaster
    from fleetcast.model.manifest import update_manifest
    from fleetcast.windows.arrays import arrays_from_dataset

    require_local(model, out)
    forecaster, dataset = Forecaster.load(model), Dataset.open(data)
    fleet = arrays_from_dataset(dataset)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("backtest", total=windows)
        result = run_backtest(
            forecaster,
            fleet,
            windows,
            stride,
            levels,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    manifest = forecaster.manifest
    about = {
        "model": f"{manifest.run} ({manifest.preset}, {manifest.parameters:,} parameters)",
        "trained up to": manifest.cutoff.isoformat(),
        "data": f"{data} ({len(dataset.manifest.servers)} servers, fingerprint {dataset.manifest.fingerprint[:12]})",
    }
    report = write_report(result, out, about)
    update_manifest(model, evaluation=_figures(report))
    return report


def _figures(report: BacktestReport) -> dict[str, Any]:
    """What a bundle carries of its backtest: how much was scored, and the ratios to the rivals."""
    ratios = {f"wql_vs_{item.rival}": item.wql_ratio for item in report.comparisons}
    ratios |= {f"mase_vs_{item.rival}": item.mase_ratio for item in report.comparisons}
    return {"windows": report.windows, "stride": report.stride, **ratios}


def forecast(
    model: Path = typer.Option(..., help="Bundle."),
    data: str = typer.Option(..., help="Dataset: folder or URI."),
    out: Path = typer.Option(..., help="Parquet file of the forecast table."),
    origin: str | None = typer.Option(None, help="Origin of the run, ISO 8601; default the data's last time stamp."),
    workers: int | None = typer.Option(None, help="Forecasting workers; default one a core."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Forecast every server of a dataset with Ray Data into a forecast table."""
    from rich.progress import Progress

    from fleetcast.forecast.batch import forecast_dataset
    from fleetcast.runtime import connect
    from fleetcast.settings import Settings

    require_local(model, out)
    connect(Settings().ray, log_to_driver=False)
    location = data if "://" in data else str(Path(data).absolute())
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("servers", total=None)
        summary = forecast_dataset(
            model,
            location,
            out,
            parse_time(origin),
            workers,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )
    show(summary.model_dump(mode="json"), as_json)
