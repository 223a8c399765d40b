"""Commands that make and check datasets: simulate, import, validate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fleetcast.cli.output import JSON_OPTION, print_json, say, show
from fleetcast.cli.parse import parse_time, parse_words

if TYPE_CHECKING:
    from fleetcast.dataset.manifest import Manifest
    from fleetcast.simulate.spec import FleetSpec

QUARANTINE_LINES = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(simulate)
    imports = typer.Typer(help="Import real telemetry as a dataset.", no_args_is_help=True)
    imports.command("csv")(import_csv)
    imports.command("parquet")(import_parquet)
    imports.command("prometheus")(import_prometheus)
    app.add_typer(imports, name="import")
    app.command()(validate)


def simulate(
    out: str = typer.Option(..., help="Folder or URI of the new dataset."),
    servers: int = typer.Option(25, help="Number of servers."),
    hours: float | None = typer.Option(None, help="Length of the span; default 168."),
    seed: int = typer.Option(7, help="Another seed is another fleet."),
    start: str | None = typer.Option(None, help="First time stamp, ISO 8601; default a fixed Thursday."),
    end: str | None = typer.Option(None, help="Where the span ends, ISO 8601, instead of --hours."),
    profiles: str | None = typer.Option(None, help="Profiles that occur, separated by commas; default all seven."),
    incidents_per_day: float | None = typer.Option(None, help="Incidents a server and day that no other one caused."),
    without_kinds: str | None = typer.Option(
        None, help="Kinds of incident that never strike, separated by commas; default none."
    ),
    scenario: str = typer.Option("healthy", help="Trouble beside the fleet's own: degrading, critical, cascade."),
    scenario_after: float = typer.Option(0.0, help="Hours from the start to the scenario's first wave."),
    noise: float = typer.Option(1.0, help="Scale of the noise; 0 is none."),
    dirt: float = typer.Option(0.0, help="Share of samples that are lost; as many come late and twice (arrivals/)."),
    shard_servers: int = typer.Option(25, help="Servers a part."),
    workers: int | None = typer.Option(None, help="Tasks that run at once; default as many as there are cores."),
    overwrite: bool = typer.Option(False, help="Replace another dataset in the folder."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Simulate a fleet with Ray Data: samples, incidents, topology, planned maintenance.

    The same command finishes a run that was interrupted.
    """
    from fleetcast.simulate.spec import make_spec

    spec = make_spec(
        parse_time(start),
        parse_time(end),
        hours,
        servers=servers,
        seed=seed,
        profiles=parse_words(profiles),
        incidents_per_day=incidents_per_day,
        without_kinds=parse_words(without_kinds),
        scenario=scenario,
        scenario_after=scenario_after,
        noise=noise,
        dirt=dirt,
    )
    manifest = simulate_fleet(spec, out, shard_servers, overwrite, workers)
    show(
        {
            "dataset": out,
            "servers": len(manifest.servers),
            "rows": manifest.rows,
            "start": manifest.start.isoformat(),
            "end": manifest.end.isoformat(),
            "parts": len(manifest.parts),
            "fingerprint": manifest.fingerprint,
        },
        as_json,
    )


def simulate_fleet(
    spec: FleetSpec, out: str, shard_servers: int = 25, overwrite: bool = False, workers: int | None = None
) -> Manifest:
    """Simulate into a folder or URI and draw `overview.png` next to the data."""
    from fleetcast.dataset.reader import Dataset
    from fleetcast.settings import Settings
    from fleetcast.simulate.overview import write_overview
    from fleetcast.simulate.shards import simulate_dataset

    manifest = simulate_dataset(spec, out, shard_servers, workers, overwrite, ray_settings=Settings().ray)
    write_overview(Dataset.open(out))
    return manifest


def import_csv(
    path: Path = typer.Argument(help="A .csv or .csv.gz file, or a folder of them."),
    mapping: Path = typer.Option(..., help="YAML that maps columns, units and time stamps to the contract."),
    out: str = typer.Option(..., help="Folder of the new dataset."),
    overwrite: bool = typer.Option(False, help="Replace another dataset in the folder."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Import CSV files onto the 5-minute grid; bad rows go to quarantine.parquet beside the dataset."""
    from fleetcast.sources.ingest import import_csv as run

    show(run(path, mapping, out, overwrite=overwrite).summary(), as_json)


def import_parquet(
    path: Path = typer.Argument(help="A .parquet file, or a folder of them."),
    mapping: Path = typer.Option(..., help="YAML that maps columns, units and time stamps to the contract."),
    out: str = typer.Option(..., help="Folder of the new dataset."),
    overwrite: bool = typer.Option(False, help="Replace another dataset in the folder."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Import Parquet files onto the 5-minute grid; bad rows go to quarantine.parquet beside the dataset."""
    from fleetcast.sources.ingest import import_parquet as run

    show(run(path, mapping, out, overwrite=overwrite).summary(), as_json)


def import_prometheus(
    url: str | None = typer.Argument(None, help="Address of Prometheus; default that of the settings."),
    start: str = typer.Option(..., help="Where the span begins, ISO 8601."),
    end: str | None = typer.Option(None, help="Where it ends; default now."),
    out: str = typer.Option(..., help="Folder of the new dataset."),
    timezone: str = typer.Option("UTC", help="The fleet's own time zone, for calendar features."),
    overwrite: bool = typer.Option(False, help="Replace another dataset in the folder."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Import the history of a Prometheus that scrapes node_exporter onto the 5-minute grid.

    PromQL, labels and rules are those of the settings FLEETCAST_PROMETHEUS__...
    """
    from fleetcast.settings import Settings
    from fleetcast.sources.prometheus.history import import_prometheus as run

    settings = Settings().prometheus
    if url is not None:
        settings = settings.model_copy(update={"url": url})
    first, last = parse_time(start), parse_time(end) or datetime.now(UTC)
    assert first is not None
    show(run(settings, first, last, out, timezone=timezone, overwrite=overwrite).summary(), as_json)


def validate(dataset: str = typer.Argument(help="Folder or URI of a dataset."), as_json: bool = JSON_OPTION) -> None:
    """Check a dataset against the contract; exit code 1 when a row or a part breaks it.

    Rows that an import quarantined are not in the dataset: they are shown, and are no failure.
    """
    from fleetcast.dataset.check import check_dataset

    report = check_dataset(dataset)
    if as_json:
        print_json({**report.summary(), "quarantine": report.quarantine.slice(0, 1000).to_pylist()})
    else:
        show(report.summary(), as_json=False)
        for row in report.quarantine.slice(0, QUARANTINE_LINES).to_pylist():
            say(f"{row['file']} row {row['row']}: {row['column']} = {row['value']}: {row['rule']}")
        more = report.quarantine.num_rows - QUARANTINE_LINES
        if more > 0:
            say(f"... and {more:,} more; --json shows up to 1,000")
    if not report.ok:
        raise typer.Exit(1)
