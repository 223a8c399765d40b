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
    """Names and values in two columns; what is nested is indented below its name."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    _add_rows(table, facts, "")
    Console().print(table)


def _add_rows(table: Table, facts: Mapping[str, Any], indent: str) -> None:
    for name, value in facts.items():
        title = indent + str(name).replace("_", " ")
        if isinstance(value, Mapping) and len(value) > 3:
            table.add_row(title)
            _add_rows(table, value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, item in enumerate(value, start=1):
                table.add_row(f"{title} {number}")
                _add_rows(table, item, indent + "  ")
        else:
            table.add_row(title, _text(value))


def show(facts: Mapping[str, Any], as_json: bool) -> None:
    """The result as JSON or in two columns."""
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
