"""A span of a Prometheus' history as samples on the grid."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.metrics import METRICS, in_contract_order
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import UsageError
from fleetcast.settings import PrometheusSettings
from fleetcast.sources.prometheus.client import PrometheusClient, Series
from fleetcast.sources.prometheus.relabel import Host, Relabeller

logger = logging.getLogger(__name__)

INSTANCE = "instance"
ROUNDING = 0.02
"""Rates are estimates: an idle core can seem to have idled for a little more than the time there was."""
MOST_CELLS = 300_000
"""Servers x steps a query: beyond that answers become hundreds of megabytes."""


class Pull:
    """The queries of the settings over spans of the grid.

    The cell [t, t + 300 s) is evaluated at its end: the contract's expressions look five minutes back from there.
    """

    def __init__(self, client: PrometheusClient, settings: PrometheusSettings) -> None:
        """Raises `UsageError` for a metric that the contract does not have or a rule that is none."""
        self.client, self._settings = client, settings
        self._relabeller = Relabeller(settings.relabel, settings.keep_labels)
        self.queries = queries(settings)
        self._servers = 1

    @property
    def chunk_steps(self) -> int:
        """How many steps to ask for at once: fewer, the more servers the last answer had."""
        return max(1, min(self._settings.chunk_steps, MOST_CELLS // self._servers))

    def taken_labels(self) -> dict[str, dict[str, str]]:
        """The labels that alerts carry, of the servers read since the last call."""
        return self._relabeller.taken_labels()

    def read(self, first: int, last: int) -> pa.Table:
        """Samples of the cells from `first` to `last` (Unix seconds on the grid, both included).

        Columns are server, profile, timestamp and the metrics that some host had; a row has at least one value.
        Raises `SourceError` when Prometheus does not answer.
        """
        ends = (first + STEP_SECONDS, last + STEP_SECONDS)
        named = self._labels(first, ends[1])
        answers = {name: self.client.query_range(query, *ends, STEP_SECONDS) for name, query in self.queries.items()}
        hosts = {
            name: [self._host(series.labels, named) for series in answer] for name, answer in answers.items() if answer
        }
        servers = sorted({host.server for found in hosts.values() for host in found if host is not None})
        self._servers = max(1, len(servers))
        rows = {server: row for row, server in enumerate(servers)}
        profiles = {host.server: host.profile for found in hosts.values() for host in found if host is not None}
        steps = (last - first) // STEP_SECONDS + 1
        grids = {}
        for name, found in hosts.items():
            places = [None if host is None else rows[host.server] for host in found]
            grids[name] = _grid(answers[name], places, (len(rows), steps), ends[0])
        return _table(servers, [profiles[server] for server in servers], first, steps, grids)

    def _labels(self, first: int, last: int) -> dict[str, dict[str, str]]:
        if not self._settings.labels_from:
            return {}
        found = self.client.labels(self._settings.labels_from, first, last)
        return {labels[INSTANCE]: labels for labels in found if INSTANCE in labels}

    def _host(self, labels: Mapping[str, str], named: Mapping[str, Mapping[str, str]]) -> Host | None:
        return self._relabeller.host({**named.get(labels.get(INSTANCE, ""), {}), **labels})


def queries(settings: PrometheusSettings) -> dict[str, str]:
    """PromQL by metric in the contract's order: the contract's own, those of the settings in their place."""
    in_contract_order(settings.queries)
    found = {metric.name: settings.queries.get(metric.name, metric.prometheus) for metric in METRICS}
    chosen = {name: query for name, query in found.items() if query.strip()}
    if not chosen:
        raise UsageError("every query of the settings is empty: nothing to ask Prometheus for")
    return chosen


def _grid(answer: list[Series], rows: list[int | None], shape: tuple[int, int], first: int) -> npt.NDArray[np.float64]:
    """Values [server, step]; of several series of one server the first with a value counts."""
    values = np.full(shape, np.nan)
    for series, row in zip(answer, rows, strict=True):
        if row is not None:
            places = (series.times - first) // STEP_SECONDS
            free = np.isnan(values[row, places])
            values[row, places[free]] = series.values[free]
    return values


def _table(
    servers: list[str], profiles: list[str], first: int, steps: int, grids: Mapping[str, npt.NDArray[np.float64]]
) -> pa.Table:
    present = np.zeros((len(servers), steps), dtype=bool)
    for values in grids.values():
        present |= ~np.isnan(values)
    row, step = np.nonzero(present)
    columns = {
        "server": pa.array(servers, pa.string()).take(pa.array(row)),
        "profile": pa.array(profiles, pa.string()).take(pa.array(row)),
        "timestamp": pa.array(first + STEP_SECONDS * step, pa.int64()).cast(TIMESTAMP),
    }
    for name in in_contract_order(grids):
        values = grids[name][row, step]
        values[(values < 0) & (values > -ROUNDING)] = 0.0
        columns[name] = pa.array(values, from_pandas=True)
    return pa.table(columns)
