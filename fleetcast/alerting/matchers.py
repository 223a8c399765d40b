"""What an alert has to be like: `level="P1"`, `team!=db`, `server=~"web.*"`, `profile!~"ml_.*"`.

The manner is Alertmanager's: an expression matches the whole value, and a label that is not there is empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

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
                re.compile(matcher.value)
            except re.error as error:
                raise UsageError(f"{value!r} is not a regular expression: {error}") from error
        return matcher

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{json.dumps(self.value, ensure_ascii=False)}"

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Whether an alert with these attributes fits."""
        found = attributes.get(self.name, "")
        same = self._pattern.fullmatch(found) is not None if "~" in self.operator else found == self.value
        return same != self.operator.startswith("!")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.value)


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
