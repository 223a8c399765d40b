"""What all benchmarks share: `--quick`, and the line of JSON at the end, which fails where a limit is missed."""

from __future__ import annotations

import argparse
import json
import sys


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A command line with `--quick`; `doc` is the benchmark's help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: small, and without limits")
    return parser


def is_quick(doc: str | None) -> bool:
    """Whether the command line asks for a smoke run."""
    return bool(parser_of(doc).parse_args().quick)


def finish(result: dict[str, object], quick: bool) -> None:
    """Print the result; a full run that misses a limit ends the program with code 1 and says which.

    `result["limit"]` is None or holds by name of a figure `{"at_least": x}` or `{"at_most": x}`.
    """
    print(json.dumps(result))
    missed = missed_limits(result)
    if missed and not quick:
        sys.exit("missed: " + "; ".join(missed))


def missed_limits(result: dict[str, object]) -> list[str]:
    limits, missed = result["limit"], []
    assert limits is None or isinstance(limits, dict)
    for name, limit in (limits or {}).items():
        figure = result[name]
        assert isinstance(figure, int | float)
        missed += [f"{name} is {figure:g}, asked at least {x:g}" for x in _values(limit, "at_least") if figure < x]
        missed += [f"{name} is {figure:g}, asked at most {x:g}" for x in _values(limit, "at_most") if figure > x]
    return missed


def _values(limit: dict[str, float], word: str) -> list[float]:
    return [limit[word]] if word in limit else []
