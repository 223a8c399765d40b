"""Commands on the bundles of a models folder."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from fleetcast.cli.output import JSON_OPTION, print_json, show

MODELS_OPTION = typer.Option(Path("models"), help="Folder of the runs and bundles.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="List, show and promote trained bundles.", no_args_is_help=True)
    commands.command("list")(list_models)
    commands.command("show")(show_model)
    commands.command("promote")(promote_model)
    app.add_typer(commands, name="models")


def list_models(models: Path = MODELS_OPTION, as_json: bool = JSON_OPTION) -> None:
    """List finished runs, oldest first."""
    from fleetcast.model.registry import current_bundle, list_bundles

    current = current_bundle(models)
    rows = [
        {
            "run": path.parent.name,
            "current": path.resolve() == current,
            "preset": manifest.preset,
            "targets": list(manifest.targets),
            "cutoff": manifest.cutoff.isoformat(),
            "created": manifest.created.isoformat(),
            "validation_loss": manifest.training.get("best", {}).get("validation_loss"),
        }
        for path, manifest in list_bundles(models)
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("run", "current", "preset", "targets", "trained up to", "validation loss")
    for row in rows:
        loss = row["validation_loss"]
        table.add_row(
            str(row["run"]),
            "*" if row["current"] else "",
            str(row["preset"]),
            ", ".join(row["targets"]),
            str(row["cutoff"]),
            f"{loss:.4f}" if isinstance(loss, float) else "",
        )
    Console().print(table)


def show_model(bundle: Path = typer.Argument(help="Bundle."), as_json: bool = JSON_OPTION) -> None:
    """Show a bundle's manifest after checking its weights."""
    from fleetcast.model.bundle import Bundle

    show(Bundle.load(bundle).manifest.model_dump(mode="json"), as_json)


def promote_model(
    run: str = typer.Argument(help="Name of a finished run."), models: Path = MODELS_OPTION, as_json: bool = JSON_OPTION
) -> None:
    """Make a run's bundle the current one, after checking that it loads."""
    from fleetcast.model.registry import promote

    show({"current": str(promote(models, run))}, as_json)
