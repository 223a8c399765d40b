"""Samples at any time to the 5-minute grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import in_contract_order
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import STEP_SECONDS


def roll_up(samples: pa.Table, metrics: Sequence[str]) -> tuple[pa.Table, int]:
    """Average the samples of each server within each cell [t, t + 300 s) and stamp them t.

    Args:
        samples: server, profile, time (microseconds UTC), `series` (which entry of the mapping the row came by) and
            the metrics (float64, NaN where missing), in file order.
        metrics: the metrics that the result shall have.

    Returns:
        server, profile (of the server's latest sample), timestamp and metrics, sorted by server and time; a cell
        without a sample has no row, a metric without a value in it is null. And the number of duplicates: of rows
        with the same server, series and time the last in file order is used, the others are left out.
    """
    encoded = samples["server"].combine_chunks().dictionary_encode()
    codes, time = np.asarray(encoded.indices), samples["time"].to_numpy()
    last = _last_of_repeats(codes, samples["series"].to_numpy(), time)
    codes, time = codes[last], time[last]
    steps = time // (STEP_SECONDS * 10**6)
    cells, inverse = np.unique(np.stack([codes, steps], axis=1), axis=0, return_inverse=True)
    inverse = inverse.ravel()
    columns = {
        "server": encoded.dictionary.take(pa.array(cells[:, 0])),
        "profile": _latest_profiles(samples["profile"].take(pa.array(last)), codes, time).take(pa.array(cells[:, 0])),
        "timestamp": pa.array(cells[:, 1] * STEP_SECONDS, pa.int64()).cast(TIMESTAMP),
    }
    for name in in_contract_order(metrics):
        values = samples[name].to_numpy()[last]
        columns[name] = pa.array(_means(values, inverse, len(cells)), from_pandas=True)
    grid = pa.table(columns).sort_by([("server", "ascending"), ("timestamp", "ascending")])
    return grid, samples.num_rows - len(last)


def _last_of_repeats(
    codes: npt.NDArray[np.integer], series: npt.NDArray[np.integer], time: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Rows to use, in file order."""
    order = np.lexsort((np.arange(len(time)), time, series, codes))
    keys = np.stack([codes[order], series[order], time[order]])
    final = np.append((np.diff(keys, axis=1) != 0).any(axis=0), True)
    return np.sort(order[final])


def _means(values: npt.NDArray[np.float64], cell: npt.NDArray[np.intp], cells: int) -> npt.NDArray[np.float64]:
    """Mean of the values that are not NaN in each cell; NaN where there is none."""
    known = ~np.isnan(values)
    counts = np.bincount(cell[known], minlength=cells)
    sums = np.bincount(cell[known], weights=values[known], minlength=cells)
    return np.asarray(np.divide(sums, counts, out=np.full(cells, np.nan), where=counts > 0))


def _latest_profiles(
    profiles: pa.ChunkedArray, codes: npt.NDArray[np.integer], time: npt.NDArray[np.int64]
) -> pa.ChunkedArray:
    """Profile by server code: that of the latest sample."""
    order = np.lexsort((time, codes))
    final = order[np.append(np.diff(codes[order]) != 0, True)]
    by_code = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    by_code[codes[final]] = final
    return pc.take(profiles, pa.array(by_code))
