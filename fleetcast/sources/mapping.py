"""The mapping: a small YAML file that says how files of another system become samples (docs/importing.md)."""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fleetcast.contract.metrics import METRIC_NAMES, metric
from fleetcast.contract.vocabulary import PROFILES, UNKNOWN
from fleetcast.sources.units import dimension_of, unit

TIME_FORMATS = ("unix_s", "unix_ms", "iso", "timestamp")


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"unknown time zone {name!r}; expected an IANA name such as UTC or Europe/Berlin") from error
    return name


def _profile(word: str) -> str:
    if word not in (*PROFILES, UNKNOWN):
        raise ValueError(f"unknown profile {word!r}; the contract has {', '.join(PROFILES)}")
    return word


def _time_format(text: str) -> str:
    if text not in TIME_FORMATS and "%" not in text:
        raise ValueError(f"unknown time format {text!r}; expected {', '.join(TIME_FORMATS)} or a strptime pattern")
    return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


Zone = Annotated[str, AfterValidator(_zone)]
ProfileWord = Annotated[str, AfterValidator(_profile)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ServerName(_Strict):
    """Where the server's name comes from: a column, or the file's path below the imported folder."""

    column: str | None = Field(None, description="the column that holds it")
    file: Annotated[str, AfterValidator(_regex)] | None = Field(None, description="regular expression, searched")
    name: str = Field("{server}", description="the name, made of the expression's named groups")

    @model_validator(mode="after")
    def _one_of(self) -> ServerName:
        if (self.column is None) == (self.file is None):
            raise ValueError("give either `column` or `file`")
        if self.file is not None:
            groups = re.compile(self.file).groupindex
            try:
                self.name.format_map(dict.fromkeys(groups, ""))
            except (KeyError, ValueError, IndexError) as error:
                raise ValueError(f"`name` {self.name!r} needs named groups that `file` has: {list(groups)}") from error
        return self


class ProfileRule(_Strict):
    """A server's profile: a fixed word, from its host name, from a column, or from a map of words or server names."""

    fixed: ProfileWord | None = None
    from_host: bool = Field(False, description="by the contract's host-name prefixes")
    column: str | None = Field(None, description="the column that holds it, or a word that `map` translates")
    map: dict[str, ProfileWord] | None = Field(None, description="the column's words, or without one server names")
    otherwise: ProfileWord = Field("generic", description="for what `map` does not have, and for empty cells")

    @model_validator(mode="after")
    def _one_way(self) -> ProfileRule:
        ways = (self.fixed is not None, self.from_host, self.column is not None or self.map is not None)
        if sum(ways) != 1:
            raise ValueError("give one of `fixed`, `from_host`, `column` (with or without `map`), `map`")
        return self


class TimeColumn(_Strict):
    """The time stamp; `zone` is that of stamps that name none."""

    column: str
    format: Annotated[str, AfterValidator(_time_format)] = "iso"
    zone: Zone = "UTC"


class Capacity(_Strict):
    """The column that a metric is a share of."""

    column: str
    unit: str


class MetricColumn(_Strict):
    """A column with its unit, divided by a capacity column where there is one."""

    column: str
    unit: str
    capacity: Capacity | None = None
    complement: bool = Field(False, description="the metric is 1 - this ratio: idle CPU, available memory")

    @property
    def factor(self) -> float:
        """What a number (or the quotient of the two numbers) is multiplied by."""
        return unit(self.unit).factor / (unit(self.capacity.unit).factor if self.capacity else 1.0)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [self.column, *([self.capacity.column] if self.capacity else [])]

    def check(self, name: str) -> None:
        """Raise `ValueError` unless this can be the contract's metric `name`."""
        if name not in METRIC_NAMES:
            raise ValueError(f"unknown metric {name!r}; the contract has {', '.join(METRIC_NAMES)}")
        needed = dimension_of(metric(name).unit)
        found = unit(self.unit).dimension
        if self.capacity is not None:
            of = unit(self.capacity.unit).dimension
            if found != of:
                raise ValueError(f"{name}: {self.unit} ({found}) is no share of {self.capacity.unit} ({of})")
            if needed not in ("ratio", "count"):
                raise ValueError(f"{name} is in {metric(name).unit}, no share of a capacity")
        elif found != needed:
            raise ValueError(f"{name} is in {metric(name).unit} ({needed}), but {self.unit} is {found}")
        if self.complement and needed != "ratio":
            raise ValueError(f"{name} is no ratio, so it has no complement")


class FileMapping(_Strict):
    """How the files with matching names are read."""

    match: str = Field(description="glob of file names, or of paths below the imported folder")
    server: ServerName
    profile: ProfileRule
    time: TimeColumn
    metrics: dict[str, MetricColumn] = Field(min_length=1)
    ignore: list[str] = Field(default_factory=list, description="columns that are left out on purpose")
    delimiter: str = Field(",", min_length=1, max_length=1)
    missing: list[str] = Field(default_factory=lambda: ["", "NA", "NaN", "nan", "null"], description="no value")

    @model_validator(mode="after")
    def _fits_contract(self) -> FileMapping:
        for name, column in self.metrics.items():
            column.check(name)
        both = sorted(self.mapped_columns & set(self.ignore))
        if both:
            raise ValueError(f"columns both mapped and ignored: {', '.join(both)}")
        return self

    @property
    def mapped_columns(self) -> set[str]:
        """The columns that a file must have."""
        named = {self.server.column, self.profile.column, self.time.column}
        named |= {column for found in self.metrics.values() for column in found.columns}
        return {column for column in named if column is not None}


class SkippedFiles(_Strict):
    """Files that are left out on purpose; they are named in the report."""

    match: str
    reason: str = Field(min_length=1)


class Mapping(_Strict):
    """A whole mapping file."""

    description: str = ""
    timezone: Zone = Field("UTC", description="the fleet's own zone, for calendar features and the morning hours")
    files: list[FileMapping] = Field(min_length=1)
    skip: list[SkippedFiles] = Field(default_factory=list)

    @property
    def metrics(self) -> set[str]:
        """The contract's metrics that some file has."""
        return {name for files in self.files for name in files.metrics}
