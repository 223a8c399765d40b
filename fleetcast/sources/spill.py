"""Samples on disk between the two passes of an import, so that memory holds a block of rows or a part, not all."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetcast.contract.metrics import in_contract_order

_ROW_GROUP = 65_536


class Spill:
    """Blocks of samples in a folder; read back by server, rows in the order in which they were added."""

    def __init__(self, folder: Path, metrics: set[str]) -> None:
        self.folder, self.metrics = folder, in_contract_order(metrics)
        self._blocks: dict[str, list[int]] = defaultdict(list)
        self._count = 0

    @property
    def servers(self) -> list[str]:
        """Names of all servers, sorted."""
        return sorted(self._blocks)

    def keep_only(self, metrics: set[str]) -> None:
        """Leave out the metrics that no block had."""
        self.metrics = in_contract_order(metrics)

    def add(self, samples: pa.Table, series: int) -> None:
        """Keep a block: server, profile, time and some of the metrics."""
        if not samples.num_rows:
            return
        columns = {name: samples[name] for name in ("server", "profile", "time")}
        columns["series"] = pa.repeat(pa.scalar(series, pa.int32()), samples.num_rows)
        for name in self.metrics:
            known = name in samples.schema.names
            columns[name] = samples[name] if known else pa.array(np.full(samples.num_rows, np.nan))
        for server in pc.unique(samples["server"]).to_pylist():
            self._blocks[server].append(self._count)
        ordered = pa.table(columns).sort_by("server")
        pq.write_table(ordered, self._path(self._count), row_group_size=_ROW_GROUP, compression="lz4")
        self._count += 1

    def read(self, servers: list[str]) -> pa.Table:
        """All samples of these servers, which must not be empty."""
        numbers = sorted({number for server in servers for number in self._blocks[server]})
        chosen = [("server", "in", servers)]
        return pa.concat_tables([pq.read_table(self._path(number), filters=chosen) for number in numbers])

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"
