"""The command of the closed-loop trial."""

from __future__ import annotations

from pathlib import Path

import typer

from fleetcast.cli.database import DATABASE, HOME, opened
from fleetcast.cli.output import JSON_OPTION, say, show


def trial(
    model: Path | None = typer.Option(None, help="Bundle that sees trouble coming, as in the service."),
    perfect: bool = typer.Option(False, "--perfect", help="In place of a bundle: one that knows what is coming."),
    servers: int = typer.Option(50, min=1, help="Servers of each fleet."),
    hours: float = typer.Option(72.0, help="Length of the trial."),
    warm_up: float = typer.Option(96.0, help="Hours of samples before it."),
    every: int = typer.Option(30, help="Minutes from one forecast to the next."),
    seed: list[int] = typer.Option([1, 2, 3, 4], help="Seeds of the fleets; may be given several times."),
    holdout: float | None = typer.Option(None, help="Share of servers that is never acted on; default the setting."),
    record: bool = typer.Option(False, "--record", help="Keep the effects in the database, for later plans."),
    out: Path | None = typer.Option(None, help="Write the report here as JSON as well."),
    home: Path | None = HOME,
    database: str | None = DATABASE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure what remediation does: the same simulated fleets with it and without it."""
    from datetime import UTC, datetime

    from fleetcast.errors import UsageError
    from fleetcast.operate.closed_loop import run_seed
    from fleetcast.operate.detectors import model_detector, perfect_detector
    from fleetcast.remediation.trial import Case, ServerCount, keep, make_report
    from fleetcast.settings import Settings
    from fleetcast.simulate.spec import FleetSpec

    if (model is None) == (not perfect):
        raise UsageError("give --model BUNDLE, or --perfect for the yardstick")
    changes = {} if holdout is None else {"holdout_share": holdout}
    settings = type(base := Settings().remediation).model_validate({**base.model_dump(), **changes})
    forecaster = None
    if model is not None:
        from fleetcast.forecast.forecaster import Forecaster

        forecaster = Forecaster.load(model)
    counts: list[ServerCount] = []
    cases: list[Case] = []
    refused = 0
    for number in seed:
        spec = FleetSpec(servers=servers, hours=warm_up, seed=number)
        detector = perfect_detector(spec) if forecaster is None else model_detector(forecaster, spec)
        found = run_seed(spec, hours, every, detector, settings)
        counts, cases, refused = counts + found.counts, cases + found.cases, refused + found.refused
        say(f"seed {number}: {len(found.cases)} plans carried out, {found.refused} refused")
    name = "perfect" if forecaster is None else f"model {forecaster.manifest.run}"
    report = make_report(
        {
            "detector": name, "seeds": seed, "servers": servers, "hours": hours, "every_minutes": every,
            "holdout_share": settings.holdout_share,
        },
        counts, cases, refused,
    )  # fmt: skip
    if record:
        with opened(home, database) as (store, _), store.session() as session:
            keep(session, datetime.now(UTC), cases, f"trial of {name}, seeds {seed}")
    if out is not None:
        out.write_text(report.model_dump_json(indent=1) + "\n", "utf-8")
    show(report.model_dump(mode="json"), as_json)
