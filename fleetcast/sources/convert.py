"""Rows of a file to samples in the contract's units; bad rows to the quarantine."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import in_contract_order, metric
from fleetcast.contract.schema import QUARANTINE
from fleetcast.contract.vocabulary import profile_from_host
from fleetcast.errors import MappingError
from fleetcast.sources.cells import numbers, texts, times
from fleetcast.sources.mapping import FileMapping, MetricColumn
from fleetcast.sources.reader import RawBlock


@dataclass
class Converted:
    """`samples` has server, profile, time (microseconds UTC) and metrics (float64, NaN where there is no value).

    Each row that was read is a sample, or quarantined (`quarantined_rows`, with a line of `quarantine` for each
    broken rule), or has no value at all (`empty_rows`). `undefined` counts shares of a capacity that is missing or
    zero: such a value is missing. `soft` counts values of samples outside the soft range.
    """

    samples: pa.Table
    quarantine: pa.Table
    quarantined_rows: int = 0
    empty_rows: int = 0
    undefined: Counter[str] = field(default_factory=Counter)
    soft: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Rows that were read."""
        return int(self.samples.num_rows) + self.quarantined_rows + self.empty_rows


class _Break(NamedTuple):
    column: str
    rule: str
    bad: npt.NDArray[np.bool_]
    values: pa.ChunkedArray


class _Values(NamedTuple):
    numbers: npt.NDArray[np.float64]
    undefined: int
    breaks: list[_Break]


def server_of_file(mapping: FileMapping, file: str) -> str | None:
    """The server that the file's path names; None where a column does. Raises `MappingError` when it names none."""
    if mapping.server.file is None:
        return None
    found = re.search(mapping.server.file, file)
    name = mapping.server.name.format_map(found.groupdict("")) if found else ""
    if not name:
        raise MappingError(f"{file}: {mapping.server.file!r} finds no server name in this path")
    return name


def convert(block: RawBlock, mapping: FileMapping, file: str) -> Converted:
    """Convert one block of a file.

    Raises:
        MappingError: a column has a type that the mapping's format does not go with.
    """
    table = block.table
    servers = _servers(table, mapping, file)
    moments, untimed = times(table[mapping.time.column], mapping.time)
    stamps = texts(table[mapping.time.column])
    span = f"is a time ({mapping.time.format}, {mapping.time.zone}) between 1990 and 2100"
    head = [_Break(mapping.time.column, span, untimed, stamps)]
    if mapping.server.column is not None:
        head.append(_Break(mapping.server.column, "names the server", np.asarray(pc.is_null(servers)), servers))
    found = {
        name: _values(table, name, mapping.metrics[name], mapping.missing)
        for name in in_contract_order(mapping.metrics)
    }
    body = [broken for values in found.values() for broken in values.breaks]
    nothing = np.logical_and.reduce([np.isnan(values.numbers) for values in found.values()])
    blank = np.asarray(pc.is_null(stamps))
    empty = nothing & ~_any(body) & (~_any(head) | blank)
    breaks = head + body
    bad = _any(breaks) & ~empty
    columns: dict[str, object] = {"server": servers, "profile": _profiles(table, servers, mapping), "time": moments}
    columns |= {name: values.numbers for name, values in found.items()}
    samples = pa.table(columns).filter(pa.array(~bad & ~empty))
    quarantine = [_quarantine(block, file, servers, stamps, broken, bad) for broken in breaks]
    return Converted(
        samples,
        pa.concat_tables([*quarantine, _ragged(block, file)]).sort_by("row"),
        int(bad.sum()) + len(block.broken),
        int(empty.sum()),
        Counter({name: values.undefined for name, values in found.items() if values.undefined}),
        _soft(samples, tuple(found)),
    )


def _any(breaks: list[_Break]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.logical_or.reduce([broken.bad for broken in breaks]))


def _servers(table: pa.Table, mapping: FileMapping, file: str) -> pa.ChunkedArray:
    if mapping.server.column is not None:
        return texts(table[mapping.server.column])
    return pa.chunked_array([pa.repeat(pa.scalar(server_of_file(mapping, file), pa.string()), table.num_rows)])


def _profiles(table: pa.Table, servers: pa.ChunkedArray, mapping: FileMapping) -> pa.ChunkedArray:
    rule = mapping.profile
    if rule.fixed is not None:
        return pa.chunked_array([pa.repeat(rule.fixed, table.num_rows)])
    words = servers if rule.column is None else texts(table[rule.column])
    encoded = words.combine_chunks().dictionary_encode()
    known = encoded.dictionary.to_pylist()
    if rule.from_host:
        profiles = [profile_from_host(word) for word in known]
    elif rule.map is not None:
        profiles = [rule.map.get(word, rule.otherwise) for word in known]
    else:
        profiles = known
    picked = pa.array(profiles, pa.string()).take(encoded.indices)
    return pa.chunked_array([pc.fill_null(picked, rule.otherwise)])


def _values(table: pa.Table, name: str, spec: MetricColumn, missing: list[str]) -> _Values:
    numerator, bad = numbers(table[spec.column], missing)
    written = texts(table[spec.column], missing)
    breaks = [_Break(spec.column, "is a number", bad, written)]
    values, undefined = numerator, np.zeros(len(numerator), dtype=bool)
    if spec.capacity is not None:
        column = spec.capacity.column
        denominator, unread = numbers(table[column], missing)
        limits = texts(table[column], missing)
        breaks.append(_Break(column, "is a number", unread, limits))
        breaks.append(_Break(column, "is a capacity of at least 0", denominator < 0, limits))
        undefined = ~np.isnan(numerator) & ~(denominator > 0) & ~(denominator < 0) & ~unread
        values = np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
        written = pc.binary_join_element_wise(written, limits, " / ")
    values = values * spec.factor
    if spec.complement:
        values = 1.0 - values
    low, high = metric(name).hard
    outside = (values < low) | (values > high)
    breaks.append(_Break(spec.column, f"{name} lies in the hard range [{low:g}, {high:g}]", outside, written))
    return _Values(values, int(undefined.sum()), breaks)


def _soft(samples: pa.Table, names: tuple[str, ...]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name in names:
        low, high = metric(name).soft
        values = samples[name].to_numpy()
        counts[name] = int(((values < low) | (values > high)).sum())
    return +counts


def _quarantine(
    block: RawBlock,
    file: str,
    servers: pa.ChunkedArray,
    stamps: pa.ChunkedArray,
    broken: _Break,
    kept: npt.NDArray[np.bool_],
) -> pa.Table:
    bad = broken.bad & kept
    picked = pa.array(bad)
    count = int(bad.sum())
    columns = [
        pa.repeat(file, count),
        pa.array(block.rows[bad]),
        servers.filter(picked),
        stamps.filter(picked),
        pa.repeat(broken.column, count),
        broken.values.filter(picked),
        pa.repeat(broken.rule, count),
    ]
    return pa.table(columns, names=QUARANTINE.names).cast(QUARANTINE)


def _ragged(block: RawBlock, file: str) -> pa.Table:
    rule = "has as many columns as the header"
    rows = [
        {"file": file, "row": number, "server": None, "timestamp": None, "column": "", "value": text, "rule": rule}
        for number, text in block.broken
    ]
    return pa.Table.from_pylist(rows, QUARANTINE)
