"""Results on standard output, everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

JSON_OPTION = typer.Option(False, "--json", help="Print the result as JSON.")


def say(line: str) -> None:
    """A line of progress or explanation, on standard error."""
    typer.echo(line, err=True)


def print_json(result: Any) -> None:
    """The result as JSON."""
    typer.echo(json.dumps(result, indent=1, default=str))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _text(value))
    Console().print(table)


def show(facts: Mapping[str, Any], as_json: bool) -> None:
    """The result as JSON or in two columns."""
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
