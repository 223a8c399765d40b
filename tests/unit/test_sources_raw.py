"""Raw samples of remote write: a step's metrics are those of a plain reading, and what is let go is never missed."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.settings import PrometheusSettings
from fleetcast.sources.prometheus.raw import RAW, cells_of, joined, of_samples, still_needed
from fleetcast.sources.prometheus.relabel import Relabeller
from fleetcast.sources.prometheus.rollup import roll_up_raw
from fleetcast.sources.prometheus.write import CPU, LOAD

CELL = 1_768_212_000
RULES = Relabeller(PrometheusSettings().relabel)
HOSTS = [json.dumps({"instance": f"ppweb000{number}:9100"}) for number in range(3)]
SERIES = [(CPU, "0|idle"), (CPU, "1|idle"), (LOAD, "")]
Sample = tuple[str, str, str, int, float]

samples = st.lists(
    st.tuples(
        st.sampled_from(HOSTS),
        st.sampled_from(SERIES),
        st.integers(-2 * 300, 3 * 300 - 1).map(lambda second: 1000 * (CELL + second)),
        st.integers(0, 50).map(float),
    ).map(lambda one: (one[0], *one[1], one[2], one[3])),
    max_size=60,
)


def table(rows: list[Sample]) -> pa.Table:
    """As they come: in several pieces with words of their own."""
    columns = list(zip(*rows, strict=True)) or [()] * 5
    half = len(rows) // 2
    whole = pa.table({name: list(values) for name, values in zip(RAW.names, columns, strict=True)})
    if not rows:
        return joined([])
    return joined([whole.slice(0, half).cast(RAW), whole.slice(half).cast(RAW)])


def plainly(rows: list[Sample], cell: int, host: str) -> dict[str, float]:
    """`cpu_utilization` and `load1_per_core` of a host, series by series."""
    idle, loads = list[float](), list[float]()
    for name, part in SERIES:
        found = {ms: value for *key, ms, value in rows if key == [host, name, part]}  # the last of what came twice
        kept = sorted((ms, value) for ms, value in found.items() if 1000 * (cell - 300) <= ms < 1000 * (cell + 300))
        if name == LOAD:
            loads += [value for ms, value in kept if ms >= 1000 * cell]
            continue
        steps = [(a, b) for a, b in pairwise(kept) if b[0] >= 1000 * cell]
        span = sum(b[0] - a[0] for a, b in steps) / 1000
        if span:
            idle.append(sum(b[1] - a[1] if b[1] >= a[1] else b[1] for a, b in steps) / span)
    made = {"cpu_utilization": max(0.0, 1 - float(np.mean(idle)))} if idle else {}
    return made | ({"load1_per_core": float(np.mean(loads)) / len(idle)} if loads and idle else {})


def rolled(raw: pa.Table, cell: int) -> dict[str, dict[str, float]]:
    found = roll_up_raw(raw, cell, HOSTS, RULES).to_pylist()
    names = ("cpu_utilization", "load1_per_core")
    return {
        row["server"]: {name: row[name] for name in names if row.get(name) is not None and not np.isnan(row[name])}
        for row in found
    }


@given(samples)
def test_a_step_is_what_a_plain_reading_of_each_series_gives(rows: list[Sample]) -> None:
    made = rolled(table(rows), CELL)
    for number, host in enumerate(HOSTS):
        assert made.get(f"ppweb000{number}", {}) == pytest.approx(plainly(rows, CELL, host))


@given(samples, st.lists(st.sampled_from(HOSTS), unique=True), st.sampled_from([0, CELL + 600]))
def test_what_is_let_go_is_missed_by_no_step_that_can_still_change(
    rows: list[Sample], slow: list[str], oldest: int
) -> None:
    """Every host's newest step is that at 600 s; of the slow ones that at 0 s has not been rolled up yet."""
    whole = table(rows + [(host, LOAD, "", 1000 * (CELL + 601), 1.0) for host in HOSTS])
    opened = {host: CELL + (0 if host in slow else 600) for host in HOSTS}
    kept = of_samples(whole, still_needed(whole, opened, oldest))
    late = table([(host, CPU, "0|idle", 1000 * (CELL + second), 60.0) for host in HOSTS for second in (317, 920)])
    for cell in (CELL, CELL + 300, CELL + 600, CELL + 900):
        made, wanted = rolled(joined([kept, late]), cell), rolled(joined([whole, late]), cell)
        names = {f"ppweb000{number}" for number, host in enumerate(HOSTS) if cell > CELL or host in slow}
        assert {name: made.get(name) for name in names} == {name: wanted.get(name) for name in names}


def test_words_go_with_the_samples_that_had_them() -> None:
    raw = table([(host, LOAD, "", 1000 * CELL, 1.0) for host in HOSTS])
    kept = of_samples(raw, still_needed(raw, {}, CELL))
    assert kept["host"].chunk(0).dictionary.to_pylist() == HOSTS
    gone = of_samples(raw, np.array([True, False, False]))
    assert gone["host"].chunk(0).dictionary.to_pylist() == HOSTS[:1]
    assert of_samples(raw, still_needed(raw, {}, CELL + 300)).num_rows == 0
    backlog = of_samples(raw, still_needed(raw, {HOSTS[1]: CELL}, CELL + 300))
    assert backlog["host"].to_pylist() == [HOSTS[1]], "what is not rolled up yet is kept, however old it is"


def test_cells_are_those_with_samples() -> None:
    raw = table([(HOSTS[0], LOAD, "", 1000 * (CELL + second), 1.0) for second in (0, 299, 300)])
    assert cells_of(raw) == {(HOSTS[0], CELL), (HOSTS[0], CELL + 300)}
    assert cells_of(joined([])) == set()
