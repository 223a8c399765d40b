"""YAML into typed models, with errors that say file, line and column."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fleetcast.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)
Place = Sequence[int | str]
SECRETIVE = frozenset({"model_type", "model_attributes_type", "extra_forbidden"})
"""Kinds of mistakes that somebody makes who writes a secret down instead of its place: its value is not repeated."""
MOST_BYTES = 4 * 1024 * 1024


class Located:
    """A parsed YAML text that knows where each of its values stands. Raises `UsageError` when it is not YAML."""

    def __init__(self, content: str, origin: str) -> None:
        self.origin = origin
        try:
            self._root = yaml.compose(content, yaml.SafeLoader)
            self.data: Any = yaml.safe_load(content)
        except yaml.MarkedYAMLError as error:
            raise UsageError(f"{self._at(error.problem_mark)}: {error.problem or error}") from error
        except yaml.YAMLError as error:
            raise UsageError(f"{origin}: {error}") from error
        self._refuse_doubles(self._root)

    def read(self, model: type[Model], context: object = None) -> Model:
        """The data as a model, validated in this context. Raises `UsageError` that names the place of each mistake."""
        try:
            return model.model_validate(self.data, context=context)
        except ValidationError as error:
            raise UsageError("; ".join(self._sentence(item) for item in error.errors()[:10])) from error

    def wrong(self, place: Place, what: str) -> UsageError:
        """An error about the value at a place of the data."""
        name = ".".join(map(str, place)) or "the file"
        return UsageError(f"{self._at(self._mark(place))}: {name}: {what}")

    def line(self, place: Place) -> int:
        """The line of the value at a place, counted from 1."""
        mark = self._mark(place)
        return 1 if mark is None else mark.line + 1

    def _sentence(self, item: Any) -> str:
        found, kind = item["input"], item["type"]
        shown = f" (found {found!r})" if isinstance(found, str | int | float | bool) and kind not in SECRETIVE else ""
        return str(self.wrong(item["loc"], item["msg"].removeprefix("Value error, ") + shown))

    def _at(self, mark: yaml.Mark | None) -> str:
        return self.origin if mark is None else f"{self.origin}, line {mark.line + 1}, column {mark.column + 1}"

    def _mark(self, place: Place) -> yaml.Mark | None:
        """Where a place starts; of one that is not there, the nearest one around it."""
        node = self._root
        mark = None if node is None else node.start_mark
        for step in place:
            if isinstance(node, yaml.MappingNode):
                pair = next(((key, value) for key, value in node.value if key.value == str(step)), None)
                if pair is None:
                    continue
                mark, node = pair[0].start_mark, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.start_mark
        return mark

    def _refuse_doubles(self, node: yaml.Node | None) -> None:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if key.value in seen:
                    raise UsageError(f"{self._at(key.start_mark)}: {key.value!r} is there twice")
                seen.add(key.value)
                self._refuse_doubles(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self._refuse_doubles(value)


def read_yaml(path: str | os.PathLike[str]) -> Located:
    """A YAML file. Raises `UsageError` when it cannot be read."""
    try:
        content = Path(path).read_bytes()
        if len(content) > MOST_BYTES:
            raise UsageError(f"{os.fspath(path)} has {len(content):,} bytes, the most are {MOST_BYTES:,}")
        return Located(content.decode("utf-8"), os.fspath(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {os.fspath(path)}: {error}") from error
