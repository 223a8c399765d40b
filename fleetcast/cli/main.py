"""The `fleetcast` program: its commands, and how errors end it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError

from fleetcast import __version__
from fleetcast.cli import (
    alerts,
    audit,
    compare,
    cost,
    data,
    evaluate,
    explain,
    housekeeping,
    keys,
    models,
    remediate,
    service,
    training,
)
from fleetcast.errors import FleetCastError
from fleetcast.runtime import prepare_environment
from fleetcast.settings import Settings

app = typer.Typer(
    name="fleetcast",
    help="Forecast a server fleet eight hours ahead: simulate or import, train, backtest, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for room in (
    service,
    data,
    compare,
    training,
    evaluate,
    explain,
    models,
    alerts,
    remediate,
    cost,
    audit,
    keys,
    housekeeping,
):
    room.register(app)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and leave.")
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line. Exit code 0 is success, 1 a failure, 2 wrong use, 130 Ctrl-C; errors are one line."""
    try:
        prepare_environment(Settings().ray)
        app(args=list(sys.argv[1:] if arguments is None else arguments))
    except FleetCastError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        raise SystemExit(error.exit_code) from None
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        typer.secho(f"error: settings from FLEETCAST_ variables: {'; '.join(lines)}", err=True, fg=typer.colors.RED)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise SystemExit(130) from None
