"""Reading a mapping file: every mistake is reported with its line and field."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from fleetcast.errors import MappingError
from fleetcast.sources.mapping import Mapping


def load_mapping(path: str | os.PathLike[str]) -> Mapping:
    """Read and check a mapping. Raises `MappingError` that names the line and field of each mistake."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"cannot read the mapping {path}: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MappingError(f"the mapping {path} is no YAML: {error}") from error
    if not isinstance(node, yaml.MappingNode):
        raise MappingError(f"the mapping {path} must be a YAML mapping with the field `files`; see docs/importing.md")
    repeated = [f"{path}:{line}: {key}: the field is given twice" for line, key in _repeated_keys(node)]
    if repeated:
        raise MappingError("\n".join(repeated))
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{path}:{_line(node, problem['loc'])}: {'.'.join(map(str, problem['loc']))}: {_message(problem['msg'])}"
            for problem in error.errors()
        ]
        raise MappingError("\n".join(lines)) from error


def _message(text: str) -> str:
    if text == "Extra inputs are not permitted":
        return "unknown field; see docs/importing.md for those there are"
    return text.removeprefix("Value error, ")


def _line(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """Line (from 1) of the innermost node on the way to the location that the file has."""
    line = node.start_mark.line
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = {key.value: (key, value) for key, value in node.value}
            if step not in found:
                break
            line, node = found[step][0].start_mark.line, found[step][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def _repeated_keys(node: yaml.Node) -> Iterator[tuple[int, str]]:
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _repeated_keys(child)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, str(key.value)
            seen.add(key.value)
            yield from _repeated_keys(value)
