"""Commands that forecast: a backtest and a batch forecast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from fleetcast.cli.output import JSON_OPTION, print_json, say, show
from fleetcast.cli.parse import parse_count, parse_numbers, parse_time, parse_words, require_local

if TYPE_CHECKING:
    from rich.progress import Progress

    from fleetcast.dataset.reader import Dataset
    from fleetcast.evaluation.figures import BacktestReport
    from fleetcast.evaluation.incident_scoring import IncidentScoring
    from fleetcast.forecast.forecaster import Forecaster


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backtest)
    app.command()(spread)
    app.command()(forecast)


def backtest(
    model: Path = typer.Option(..., help="Bundle."),
    data: str = typer.Option(..., help="Dataset: folder or URI."),
    out: Path = typer.Option(..., help="Folder of the report."),
    windows: str = typer.Option("18", help="Number of origins; `all` takes as many as fit."),
    stride: int | None = typer.Option(None, help="Steps between origins; default the model's horizon."),
    quantiles: str | None = typer.Option(None, help="Quantile levels to score; default the model's."),
    purge: int | None = typer.Option(
        None, help="Steps between the last origin fitted on and the first scored; at least and by default the horizon."
    ),
    rivals: str | None = typer.Option(
        None,
        help="Between commas: untrained (the default), its names, lightgbm, auto_theta, oracle, reference, none.",
    ),
    reference_windows: int | None = typer.Option(
        None, min=1, help="Windows of a simulated corpus that the rival `reference` learns on; default a million."
    ),
    trained_on: str | None = typer.Option(None, help="The dataset that the bundle was trained on, if another one."),
    unseen: bool = typer.Option(False, help="Score only servers that training never saw."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Forecast rolling origins after the bundle's cutoff and score them beside rivals."""
    levels, names = parse_numbers(quantiles), parse_words(rivals)
    report = run_report(
        model,
        data,
        out,
        parse_count(windows),
        stride,
        levels,
        purge,
        names,
        reference_windows=reference_windows,
        trained_on=trained_on,
        unseen=unseen,
    )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        from fleetcast.evaluation.report import tables

        Console(width=160).print(tables(report))
        say(f"report, figures and forecasts: {out}")


def run_report(
    model: Path,
    data: str,
    out: Path,
    windows: int | None,
    stride: int | None,
    levels: tuple[float, ...] | None,
    purge: int | None = None,
    rivals: tuple[str, ...] | None = None,
    *,
    reference_windows: int | None = None,
    trained_on: str | None = None,
    unseen: bool = False,
) -> BacktestReport:
    """Run a backtest with a progress bar, write its report and record its figures in the bundle."""
    from fleetcast.dataset.reader import Dataset
    from fleetcast.evaluation.backtest import run_backtest
    from fleetcast.evaluation.catalogue import make_rivals, make_scorings, rival_names
    from fleetcast.evaluation.forecast_file import ForecastFile
    from fleetcast.evaluation.levels import checked_levels
    from fleetcast.evaluation.limits import REFERENCE_WINDOWS
    from fleetcast.evaluation.report import write_report
    from fleetcast.evaluation.seen import seen_servers, unseen_only
    from fleetcast.evaluation.source import DatasetSource
    from fleetcast.evaluation.splits import rolling_origins
    from fleetcast.forecast.forecaster import Forecaster
    from fleetcast.model.manifest import update_manifest

    require_local(model, out)
    names = rival_names(rivals)
    forecaster, dataset = Forecaster.load(model), Dataset.open(data)
    learnt = None if trained_on is None else Dataset.open(trained_on)
    manifest, chosen = forecaster.manifest, checked_levels(levels or forecaster.manifest.levels)
    seen = seen_servers(manifest, dataset.manifest, None if learnt is None else learnt.manifest)
    source = DatasetSource(dataset, unseen_only(seen) if unseen else None)
    origins = rolling_origins(source.start, source.steps, manifest.horizon, windows, stride, manifest.cutoff, purge)
    fitted = source if learnt is None else DatasetSource(learnt)
    learns_on = reference_windows or REFERENCE_WINDOWS
    made = make_rivals(names, fitted, dataset.manifest, manifest, chosen, origins.times[0], learns_on, say)
    scorings = make_scorings(names, source, origins)
    if chosen == checked_levels(manifest.levels):
        scorings.insert(0, _incident_scoring(forecaster, dataset))
    else:
        say("incidents are not scored: their probabilities are fitted for the model's own levels, without --quantiles")
    with _progress() as bar, ForecastFile(out, chosen) as file:
        task = bar.add_task("servers", total=len(source.servers))
        result = run_backtest(
            forecaster,
            source,
            windows,
            stride,
            chosen,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            rivals=made,
            purge=purge,
            listeners=[file, *scorings],
        )
    about = {
        "model": f"{manifest.run} ({manifest.preset}, {manifest.parameters:,} parameters)",
        "trained up to": manifest.cutoff.isoformat(),
        "data": f"{data} ({len(source.servers)} servers, fingerprint {dataset.manifest.fingerprint[:12]})",
    }
    kept = None if seen is None else seen[source.keep]
    report = write_report(result, forecaster, source, out, about, kept, dataset.manifest.fingerprint, scorings)
    update_manifest(model, evaluation=_figures(report))
    return report


def _incident_scoring(forecaster: Forecaster, dataset: Dataset) -> IncidentScoring:
    from fleetcast.evaluation.incident_scoring import IncidentScoring
    from fleetcast.risk.calibration import Calibration
    from fleetcast.risk.model import RiskModel

    manifest, text = forecaster.manifest, forecaster.risk_text
    lines = Calibration.model_validate(manifest.calibration) if manifest.calibration else None
    model = RiskModel.loads(text) if text else None
    known = dataset.incidents(), dataset.remediations(), dataset.topology()
    return IncidentScoring(manifest.cutoff, lines, model, *known)


def spread(
    reports: list[Path] = typer.Argument(..., help="report.json files, or their folders, of one backtest each."),
    out: Path | None = typer.Option(None, help="Folder for spread.json and spread.md."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Join the reports of models that differ in their seed, on the same windows: mean and spread of each figure."""
    from fleetcast.evaluation.spread import load_report, spread_of, table, write_spread

    require_local(*reports, *([out] if out else []))
    found = spread_of([load_report(path) for path in reports])
    if out is not None:
        write_spread(found, out)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        Console(width=140).print(table(found))


def _progress() -> Progress:
    from rich.progress import Progress

    return Progress(console=Console(stderr=True))


def _figures(report: BacktestReport) -> dict[str, Any]:
    """What a bundle carries of its backtest: how much was scored, and the ratios to the rivals."""
    ratios = {f"wql_vs_{item.rival}": item.wql_ratio for item in report.comparisons}
    ratios |= {f"mase_vs_{item.rival}": item.mase_ratio for item in report.comparisons}
    closed = {f"closed_from_{item.rival}": item.closed for item in report.comparisons if item.closed is not None}
    scope = {"windows": report.windows, "stride": report.stride, "best_rival": report.best_rival}
    return {**scope, **ratios, **closed}


def forecast(
    model: Path = typer.Option(..., help="Bundle."),
    data: str = typer.Option(..., help="Dataset: folder or URI."),
    out: Path = typer.Option(..., help="Parquet file of the forecast table."),
    origin: str | None = typer.Option(None, help="Origin of the run, ISO 8601; default the data's last time stamp."),
    workers: int | None = typer.Option(None, help="Forecasting workers; default one a core."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Forecast every server of a dataset with Ray Data into a forecast table."""
    from fleetcast.forecast.batch import forecast_dataset
    from fleetcast.runtime import connect
    from fleetcast.settings import Settings

    require_local(model, out)
    connect(Settings().ray, log_to_driver=False)
    location = data if "://" in data else str(Path(data).absolute())
    with _progress() as bar:
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
