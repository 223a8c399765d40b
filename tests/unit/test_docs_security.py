"""Every line of docs/security.md that says that something is defended names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(test_\w+)\.py(?:::(test_\w+))?`")


def _lines() -> list[str]:
    text = (ROOT / "docs" / "security.md").read_text()
    table = text.partition("## Defended")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def test_there_are_lines() -> None:
    assert len(_lines()) > 10


@pytest.mark.parametrize("line", _lines(), ids=lambda line: line.split("|")[1].strip())
def test_a_line_names_tests_that_there_are(line: str) -> None:
    named = NAMED.findall(line)
    assert named, "it names no test"
    for file, test in named:
        (path,) = (ROOT / "tests").rglob(f"{file}.py")
        assert not test or f"def {test}(" in path.read_text(), f"{file}.py has no {test}"
