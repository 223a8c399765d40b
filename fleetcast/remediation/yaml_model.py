"""YAML text as a typed model; whatever is wrong is named with its file and line."""

from __future__ import annotations

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fleetcast.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]


def parse_model(text: str, origin: str, model: type[Model], context: object = None) -> Model:
    """The model that a YAML document describes; `origin` names the file in errors.

    Raises `UsageError` with one `file:line: place: what is wrong` for every fault: YAML that cannot be read, a key
    given twice, a value that the model does not take.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise UsageError(f"{origin}:1: the file is empty")
            lines = _lines(root, origin)
            value = loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{origin}:{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{origin}: {error}") from error
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise UsageError("\n".join(_fault(item, origin, lines) for item in error.errors())) from error


def _fault(item: Any, origin: str, lines: dict[Place, int]) -> str:
    place: Place = tuple(item["loc"])
    known = tuple(part for part in place if part not in ("http", "kubernetes", "ansible", "simulator"))
    while known and known not in lines:
        known = known[:-1]
    name = ".".join(str(part) for part in place) or "the file"
    message = item["msg"].removeprefix("Value error, ")
    found = item["input"]
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{origin}:{lines[known]}: {name}: {message}{shown}"


def _lines(root: yaml.Node, origin: str) -> dict[Place, int]:
    """The line of every key and item, counted from 1. Raises `UsageError` for a key that is given twice."""
    found: dict[Place, int] = {(): root.start_mark.line + 1}
    waiting: list[tuple[Place, yaml.Node]] = [((), root)]
    while waiting:
        place, node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*place, str(key.value))
                if inner in found:
                    raise UsageError(
                        f"{origin}:{key.start_mark.line + 1}: {key.value} is given twice, first in line {found[inner]}"
                    )
                found[inner] = key.start_mark.line + 1
                waiting.append((inner, value))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                found[(*place, number)] = value.start_mark.line + 1
                waiting.append(((*place, number), value))
    return found
