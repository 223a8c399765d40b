"""The command that explains one server's forecast."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from fleetcast.cli.output import JSON_OPTION, print_json, say
from fleetcast.cli.parse import parse_span, parse_time, require_local
from fleetcast.cli.what_if import amount, parse_edit, what_if_tables
from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from fleetcast.dataset.reader import Dataset
    from fleetcast.forecast.counterfactual import Counterfactual
    from fleetcast.forecast.explanation import Attribution, Drivers, Explanation
    from fleetcast.windows.arrays import FleetArrays

SHOWN = 6


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain_server)


def explain_server(
    model: Path = typer.Option(..., help="Bundle."),
    data: str = typer.Option(..., help="Dataset: folder or URI."),
    server: str = typer.Option(..., help="Name of the server."),
    origin: str | None = typer.Option(None, help="Origin, ISO 8601; default the data's last time stamp."),
    recent: str = typer.Option(
        "4h", help="So much of each metric's past is replaced by its usual level, and edited by --what-if."
    ),
    what_if: list[str] = typer.Option(
        [],
        help="Forecast again with METRIC=VALUE, in its unit, over --recent: 0.4 is a level, -0.2 and +0.2 move what "
        "was, usual, median and day_before are levels of its own past. Several are made at once.",
    ),
    out: Path | None = typer.Option(None, help="PNG of attention and drivers."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Explain a server's forecast: what drives its peak, where the model looks, and which inputs it weighs."""
    from fleetcast.contract.compatibility import require_fit
    from fleetcast.dataset.reader import Dataset
    from fleetcast.forecast.counterfactual import LEADS, counterfactual
    from fleetcast.forecast.explain import explain
    from fleetcast.forecast.explain_figure import explanation_figure
    from fleetcast.forecast.forecaster import Forecaster
    from fleetcast.forecast.origin import chosen_origin

    require_local(model, *([] if out is None else [out]))
    span = parse_span(recent)
    if not span:
        raise UsageError(f"--recent is {recent}; write for example 90m, 4h or 1d")
    dataset, forecaster = Dataset.open(data), Forecaster.load(model)
    require_fit(forecaster.manifest.side(f"bundle {model}"), dataset.manifest.side(f"dataset {data}"))
    moment = chosen_origin(dataset.manifest, parse_time(origin))
    fleet = _samples(dataset, server, moment)
    hours = span.total_seconds() / 3600
    edits = [parse_edit(text, moment, min(hours, forecaster.history_steps / STEPS_PER_HOUR)) for text in what_if]
    explanation = explain(forecaster, fleet, server, moment, hours)
    found = None
    if edits:
        leads = [lead for lead in LEADS if lead < forecaster.spec.horizon] + [forecaster.spec.horizon]
        found = counterfactual(forecaster, fleet, server, moment, edits, leads)
    if out is not None:
        try:
            out.write_bytes(explanation_figure(explanation))
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error}") from error
        say(f"figure: {out}")
    if as_json:
        answer = None if found is None else found.model_dump(mode="json")
        print_json({**explanation.model_dump(mode="json"), "what_if": answer})
    else:
        _print(explanation, found)


def _samples(dataset: Dataset, server: str, end: datetime) -> FleetArrays:
    """The samples of one server up to `end`; no other server's rows are kept."""
    import numpy as np

    from fleetcast.windows.arrays import arrays_by_chunk

    manifest = dataset.manifest
    if server not in manifest.servers:
        raise UsageError(
            f"no server {server!r} in {dataset.location}; its {len(manifest.servers)} servers are "
            f"{', '.join(manifest.servers[:5])}, ..."
        )
    wanted = np.array([name == server for name in manifest.servers])
    return next(fleet for _, fleet in arrays_by_chunk(dataset, wanted, end, manifest.metrics))


def _print(explanation: Explanation, found: Counterfactual | None) -> None:
    console = Console()
    console.print(
        f"[bold]{explanation.server}[/bold] ({explanation.profile}), forecast from {explanation.origin:%Y-%m-%d %H:%M} "
        f"UTC by {explanation.model}. {explanation.note}"
    )
    if found is not None:
        console.print(*what_if_tables(found))
    for drivers in explanation.drivers:
        console.print(_drivers_table(drivers))
    if explanation.weights is not None:
        console.print(_attention_table(explanation.weights), _weights_table(explanation.weights))


def _drivers_table(drivers: Drivers) -> Table:
    """The largest effects on a target's peak."""
    unit = "" if drivers.unit == "1" else f", {drivers.unit}"
    peak, minutes = amount(drivers.peak, drivers.unit), drivers.peak_step * 5
    title = f"{drivers.target}{unit}: the {drivers.level:g} quantile peaks at {peak} in {minutes} min"
    heads = ("metric", "moves the peak by", f"the peak, had it been as usual for {drivers.hours:g} h")
    table = Table(*heads, title=title, title_justify="left")
    for one in drivers.drivers[:SHOWN]:
        sign = "+" if one.effect > 0 else "-"
        table.add_row(one.metric, sign + amount(abs(one.effect), drivers.unit), amount(one.without, drivers.unit))
    return table


def _attention_table(weights: Attribution) -> Table:
    """Attention by six equal parts of the past, the newest first."""
    length = 1 - weights.past[0].first_step
    edges = [-length * part // SHOWN for part in range(SHOWN + 1)]
    table = Table("hours before the origin", "attention", title="Where the model looks", title_justify="left")
    for near, far in itertools.pairwise(edges):
        inside = [one for one in weights.past if far < one.last_step <= near]
        if inside:
            first, last = inside[0].first_step - 1, inside[-1].last_step
            table.add_row(f"{-first / 12:g} to {-last / 12:g}", f"{sum(one.share for one in inside):.1%}")
    table.add_row("ahead, in the horizon", f"{weights.ahead:.1%}")
    return table


def _weights_table(weights: Attribution) -> Table:
    """The variables with the largest selection weights."""
    table = Table("past", "", "ahead", "", "static", "", title="Which inputs it weighs", title_justify="left")
    columns = [list(found.items())[:SHOWN] for found in (weights.encoder, weights.decoder, weights.static)]
    for row in range(max(map(len, columns))):
        cells = [column[row] if row < len(column) else ("", None) for column in columns]
        table.add_row(*(text for name, share in cells for text in (name, "" if share is None else f"{share:.1%}")))
    return table
