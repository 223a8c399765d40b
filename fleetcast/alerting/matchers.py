"""What an alert has to be like: `level="P1"`, `team!=db`, `server=~"web.*"`, `profile!~"ml_.*"`.

The manner is Alertmanager's: an expression (RE2) matches the whole value, and a label that is not there is empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PlainValidator

from fleetcast.errors import UsageError

_SHAPE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
MOST_LENGTH = 1000


@dataclass(frozen=True)
class Matcher:
    """One condition on one attribute of an alert."""

    name: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """A condition as people write it. Raises `UsageError`."""
        found = _SHAPE.fullmatch(text)
        if found is None or len(text) > MOST_LENGTH:
            raise UsageError(f'{text[:100]!r} is not a condition; write for example level="P1" or team=~"pay.*"')
        name, operator, value = found.groups()
        matcher = cls(name, operator, _unquoted(value))
        if "~" in operator:
            try:
                matcher.matches({})
            except pa.ArrowInvalid as error:
                raise UsageError(f"{value!r} is not a regular expression (RE2): {error}") from error
        return matcher

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{json.dumps(self.value, ensure_ascii=False)}"

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Whether an alert with these attributes fits."""
        found = attributes.get(self.name, "")
        same = self._fits(found) if "~" in self.operator else found == self.value
        return same != self.operator.startswith("!")

    def _fits(self, text: str) -> bool:
        """Whether the expression matches all of a text, in time linear in its length whatever the expression is."""
        found = pc.match_substring_regex(pa.scalar(text, pa.string()), pattern=rf"\A(?:{self.value})\z")
        return bool(found.as_py())


def _validated(value: Any) -> Matcher:
    try:
        return value if isinstance(value, Matcher) else Matcher.parse(str(value))
    except UsageError as error:
        raise ValueError(str(error)) from error


Condition = Annotated[Matcher, PlainValidator(_validated)]
"""A matcher in a model; it is written as text."""


def all_match(matchers: Iterable[Matcher], attributes: Mapping[str, str]) -> bool:
    """Whether every condition fits; without any it does."""
    return all(matcher.matches(attributes) for matcher in matchers)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        raise UsageError(f"{value!r} begins with a quotation mark and is not a quoted text") from None
