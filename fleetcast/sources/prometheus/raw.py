"""Raw samples of node_exporter: the table they are kept in, and their series as numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.vocabulary import STEP_SECONDS

STEP_MS = 1000 * STEP_SECONDS
_WORD = pa.dictionary(pa.int32(), pa.string())
RAW = pa.schema([("host", _WORD), ("name", _WORD), ("part", _WORD), ("ms", pa.int64()), ("value", pa.float64())])
"""`host` is the host's labels as JSON, `part` the rest of a series' labels, joined by `|`; `ms` is Unix time.

A host's labels are some hundred bytes, and there are millions of samples: so each word is there once.
"""

Cell = tuple[str, int]  # a host's labels, the cell's start
Ints = npt.NDArray[np.int64]


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table (`RAW`) in one piece, in the order given."""
    whole = pa.concat_tables([RAW.empty_table(), *(table.cast(RAW) for table in tables)])
    return whole.unify_dictionaries().combine_chunks()


def of_samples(raw: pa.Table, kept: npt.NDArray[np.bool_]) -> pa.Table:
    """Some of the samples, without the words that were the others' alone."""
    raw = raw.filter(pa.array(kept)).combine_chunks()
    for place, name in enumerate(raw.column_names[:3]):
        column = _words_of(raw, name)
        codes = column.indices.to_numpy()
        used = np.bincount(codes, minlength=len(column.dictionary)) > 0
        renumbered = (np.cumsum(used) - 1).astype(np.int32)[codes]
        column = pa.DictionaryArray.from_arrays(pa.array(renumbered), column.dictionary.filter(pa.array(used)))
        raw = raw.set_column(place, RAW.field(name), column)
    return raw


def _words_of(raw: pa.Table, name: str) -> pa.DictionaryArray:
    """A column of words of a table of one piece; a table without rows has none."""
    column = raw[name]
    return column.chunk(0) if column.num_chunks else pa.array([], pa.string()).dictionary_encode()


def hosts_of(raw: pa.Table) -> list[str]:
    """The hosts that have samples."""
    column = _words_of(raw, "host")
    return list(column.dictionary.take(pa.array(np.unique(column.indices.to_numpy()))).to_pylist())


def without_hosts(raw: pa.Table, hosts: Collection[str]) -> pa.Table:
    """The samples of other hosts."""
    return of_samples(raw, ~Coded.of(raw).of_hosts(hosts))


@dataclass(frozen=True)
class Coded:
    """A table of one piece as arrays [sample]: the series' number, and time and value."""

    words: dict[str, list[str]]  # of each of the three columns
    host: Ints
    series: Ints  # ascending with (host, name, part) as they are in `words`
    ms: Ints
    value: npt.NDArray[np.float64]

    @classmethod
    def of(cls, raw: pa.Table) -> Coded:
        """The codes of a table that `joined` has made."""
        words, codes = dict[str, list[str]](), list[Ints]()
        for name in ("host", "name", "part"):
            column = _words_of(raw, name)
            words[name] = column.dictionary.to_pylist()
            codes.append(column.indices.to_numpy().astype(np.int64))
        host, name_, part = codes
        series = (host * len(words["name"]) + name_) * len(words["part"]) + part
        return cls(words, host, series, raw["ms"].to_numpy(), raw["value"].to_numpy())

    def take(self, places: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Coded:
        """Some of the samples."""
        return Coded(self.words, self.host[places], self.series[places], self.ms[places], self.value[places])

    def in_order(self) -> Ints:
        """Places of the samples by series and time; those of one series and time as they came."""
        return np.lexsort((self.ms, self.series))

    def of_hosts(self, hosts: Collection[str]) -> npt.NDArray[np.bool_]:
        """Which samples are of these hosts."""
        return np.array([word in hosts for word in self.words["host"]], dtype=bool)[self.host]

    def parts_of(self, series: Ints) -> tuple[Ints, Ints, Ints]:
        """The codes of host, name and part of series' numbers."""
        rest, part = np.divmod(series, max(1, len(self.words["part"])))
        host, name = np.divmod(rest, max(1, len(self.words["name"])))
        return host, name, part


def cells_of(raw: pa.Table) -> set[Cell]:
    """The hosts and cells that have samples."""
    coded = Coded.of(raw)
    cells = coded.ms // STEP_MS
    pairs = np.unique(np.stack([coded.host, cells]), axis=1) if len(cells) else np.empty((2, 0), np.int64)
    hosts = coded.words["host"]
    return {(hosts[host], cell * STEP_SECONDS) for host, cell in pairs.T.tolist()}


def still_needed(raw: pa.Table, opened: Mapping[str, int], oldest: int) -> npt.NDArray[np.bool_]:
    """Which samples a later step can read: of each series two steps, what is open, and the sample before that.

    Args:
        raw: as `joined` makes it.
        opened: the first cell of each host that is not rolled up yet, Unix seconds.
        oldest: hosts whose newest sample is in a cell before this time (Unix seconds) are let go, unless they are open.
    """
    coded = Coded.of(raw)
    hosts, cells = coded.words["host"], coded.ms // STEP_MS
    newest = np.full(len(hosts), -1, np.int64)
    np.maximum.at(newest, coded.host, cells)
    first = np.array([opened.get(host, 2**53) for host in hosts], np.int64) // STEP_SECONDS - 1
    recent = cells >= np.minimum(newest - 1, first)[coded.host]
    keep = recent.copy()
    older = np.flatnonzero(~recent)
    older = older[coded.take(older).in_order()]
    last = np.append(coded.series[older][1:] != coded.series[older][:-1], True)[: len(older)]
    keep[older[last]] = True
    alive = (newest * STEP_SECONDS >= oldest) | np.array([host in opened for host in hosts], dtype=bool)
    return np.asarray(keep & alive[coded.host])
