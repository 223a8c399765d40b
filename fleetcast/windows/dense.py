"""Batches of pytorch-forecasting's `TimeSeriesDataSet.to_dataloader`, cut whole from dense tables.

For windows without missing steps every key of `x` and `y` equals the library's bit for bit. Beside them stand
`encoder_observed` and `decoder_observed`, bool [batch, time]: whether all targets are there at a step.

- A missing step (no row, or an empty value) is 0 in every real that a column holds, after normalisation, and code 0 in
  every categorical that varies with time; static variables, position, scales and lengths stay. Its target is 0 and its
  weight in `y` is 0, so that it makes no loss. Where all decoder steps are observed the weight is None, as the
  library's. (The library repeats the last row instead and learns from it.) A row whose targets are all there is
  observed, even if another real is empty.
- An encoder shorter than the longest of its batch stands first and is followed by zeros, with its length in
  `encoder_lengths`, as in the library.
- A server that was not there when the scalers were fitted gets the medians of the servers that were
  (`GroupNormalizer`'s fallback) and is named in `unseen`; its code in `groups` follows theirs.
- A normaliser by window uses what was observed in the encoder; with fewer than 2 steps, the server's own scale.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from fleetcast.windows.columns import Ints, frame_of, lay
from fleetcast.windows.dense_index import (
    WindowIndex,
    all_windows,
    chosen_windows,
    first_decoder_cells,
    observed_windows,
    shortest_window,
)
from fleetcast.windows.dense_spec import ENCODER_LENGTH, DenseSpec
from fleetcast.windows.dense_tables import FittedScalers, TableBuilder
from fleetcast.windows.encoders import gappy_window_scales, window_scales
from fleetcast.windows.spec import POSITION

Values = torch.Tensor | list[torch.Tensor]
DenseBatch = tuple[dict[str, Values], tuple[Values, torch.Tensor | None]]


class DenseWindows:
    """Windows of the samples in a pandas frame or Arrow table; its scalers are fitted on them unless `fitted` is given.

    The table has one row a server and step, in any order, with the columns of `DenseSpec.columns`. Raises DatasetError
    where columns are missing or hold what they can't, and for two rows of one step.
    """

    def __init__(self, data: pd.DataFrame | pa.Table, spec: DenseSpec, fitted: FittedScalers | None = None) -> None:
        self.spec = spec
        frame = frame_of(data, spec.columns)
        self._grid = lay(frame, spec.server, spec.time_idx)
        builder = TableBuilder(frame, self._grid, spec, fitted)
        self.fitted = builder.fitted
        self._tables = builder.build()
        codes = {server: code for code, server in enumerate(self.fitted.servers)}
        self.unseen = tuple(server for server in self.servers if server not in codes)
        codes.update({server: len(codes) + number for number, server in enumerate(self.unseen)})
        self._groups = torch.tensor([codes[server] for server in self.servers])
        self._scales = [
            torch.from_numpy(self.fitted.targets[target].of(self.servers).astype(np.float32)) for target in spec.targets
        ]
        steps = torch.arange(-spec.max_encoder_length, spec.max_encoder_length, dtype=torch.float32)
        self._positions = steps / spec.max_encoder_length

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of the servers, sorted."""
        return self._grid.servers

    @property
    def too_short(self) -> tuple[str, ...]:
        """Servers that have no window, for want of steps."""
        few = self._grid.lengths < shortest_window(self.spec)
        return tuple(self.servers[row] for row in np.flatnonzero(few))

    def windows(self) -> WindowIndex:
        """All windows in the library's order, without those that have no observed step in the encoder or the decoder.

        Raises DatasetError if there is none.
        """
        found = all_windows(self._grid, self.spec)
        return observed_windows(self._grid, self.spec, found, self._tables.observed.numpy())

    def batches(self, batch_size: int, index: WindowIndex | None = None) -> Iterator[DenseBatch]:
        """Batches of the windows (default all) in their order; the last one may be smaller."""
        chosen = self.windows() if index is None else index
        for first in range(0, len(chosen), batch_size):
            yield self._cut(chosen[first : first + batch_size])

    def batch(self, rows: Ints, ends: Ints, lengths: Ints | None = None) -> DenseBatch:
        """(x, y) of the windows of servers `rows` whose encoders end at time index `ends`, each [batch].

        Encoder `lengths` are by default as long as the history and the specification allow. Raises DatasetError where
        a server has too few steps before `ends`, or no rows for all of the decoder; to forecast, append rows with
        empty targets.
        """
        lengths = None if lengths is None else np.asarray(lengths, np.int64)
        asked = chosen_windows(self._grid, self.spec, np.asarray(rows, np.int64), np.asarray(ends, np.int64), lengths)
        return self._cut(asked)

    def _cut(self, index: WindowIndex) -> DenseBatch:
        spec, tables = self.spec, self._tables
        horizon, width = spec.max_prediction_length, int(index.lengths.max())
        middle, lengths = torch.from_numpy(first_decoder_cells(self._grid, index)), torch.tensor(index.lengths)
        first = middle - lengths
        encoder = {
            "cat": gather(tables.cat, first, width),
            "cont": gather(tables.cont, first, width),
            "observed": gather(tables.observed, first, width),
            **{f"target{number}": gather(truth, first, width) for number, truth in enumerate(tables.truth)},
        }
        decoder_cont, observed = gather(tables.cont, middle, horizon), gather(tables.observed, middle, horizon)
        self._add_lengths(encoder["cont"], decoder_cont, lengths)
        scales = [by_server[index.rows] for by_server in self._scales]
        if spec.normaliser.by == "window":
            scales = [self._window_scales(number, first, lengths, server) for number, server in enumerate(scales)]
            self._add_normalised(encoder["cont"], decoder_cont, (first, middle), scales)
        if int(index.lengths.min()) < width:
            behind = torch.arange(width) >= lengths[:, None]
            for values in encoder.values():
                values.masked_fill_(behind[:, :, None] if values.ndim == 3 else behind, 0)
        decoder_target = one_or_list([gather(truth, middle, horizon) for truth in tables.truth])
        x: dict[str, Values] = {
            "encoder_cat": encoder["cat"],
            "encoder_cont": encoder["cont"],
            "encoder_target": one_or_list([encoder[f"target{number}"] for number in range(len(spec.targets))]),
            "encoder_lengths": lengths,
            "decoder_cat": gather(tables.cat, middle, horizon),
            "decoder_cont": decoder_cont,
            "decoder_target": decoder_target,
            "decoder_lengths": torch.full_like(lengths, horizon),
            "decoder_time_idx": torch.from_numpy(index.ends)[:, None] + torch.arange(1, horizon + 1),
            "groups": self._groups[index.rows][:, None],
            "target_scale": one_or_list(scales),
            "encoder_observed": encoder["observed"],
            "decoder_observed": observed,
        }
        return x, (decoder_target, None if bool(observed.all()) else observed.float())

    def _add_lengths(self, encoder: torch.Tensor, decoder: torch.Tensor, lengths: torch.Tensor) -> None:
        """Fill in the reals that hang on the encoder's length: its position and, where not full, the length itself."""
        spec, longest = self.spec, self.spec.max_encoder_length
        if spec.add_relative_time_idx:
            column = spec.reals.index(POSITION)
            encoder[:, :, column] = gather(self._positions, longest - lengths, encoder.shape[1])
            decoder[:, :, column] = torch.arange(decoder.shape[1], dtype=torch.float32) / longest
        if spec.add_encoder_length and int(lengths.min()) < longest:
            column = spec.reals.index(ENCODER_LENGTH)
            real = ((lengths.double() - 0.5 * longest) / longest * 2.0).float()[:, None]
            encoder[:, :, column] = real
            decoder[:, :, column] = real

    def _add_normalised(
        self,
        encoder: torch.Tensor,
        decoder: torch.Tensor,
        starts: tuple[torch.Tensor, torch.Tensor],
        scales: list[torch.Tensor],
    ) -> None:
        """Fill in the reals that hang on the encoder's values: targets by their `scales`, and the scales themselves."""
        spec, tables = self.spec, self._tables
        for target, inverse, seen, found in zip(spec.targets, tables.inverse, tables.seen, scales, strict=True):
            if target in spec.reals:
                column = spec.reals.index(target)
                for part, start in zip((encoder, decoder), starts, strict=True):
                    values = (gather(inverse, start, part.shape[1]) - found[:, :1]) / found[:, 1:]
                    part[:, :, column] = values * gather(seen, start, part.shape[1])
            for number, name in enumerate(spec.scales_of(target)):
                # the library scales these, and only these, in double precision
                real = torch.from_numpy(self.fitted.reals[name].apply(found[:, number, None].double().numpy())).float()
                for part in (encoder, decoder):
                    part[:, :, spec.reals.index(name)] = real

    def _window_scales(
        self, number: int, first: torch.Tensor, lengths: torch.Tensor, fallback: torch.Tensor
    ) -> torch.Tensor:
        """Center and scale of a target in each encoder, [batch, 2]."""
        inverse, seen, center = self._tables.inverse[number], self._tables.seen[number], self.spec.normaliser.center
        found = torch.empty_like(fallback)
        for length in set(lengths.tolist()):  # sums are rounded by length: each length by itself
            these = lengths == length
            encoders, there = gather(inverse, first[these], length), gather(seen, first[these], length)
            scales, whole = window_scales(encoders, center), there.all(dim=-1)
            if not bool(whole.all()):
                gappy = gappy_window_scales(encoders, there, center, fallback[these])
                scales = torch.where(whole[:, None], scales, gappy)
            found[these] = scales
        return found


def gather(table: torch.Tensor, first: torch.Tensor, width: int) -> torch.Tensor:
    """Rows first..first+width-1 of a contiguous table [row, ...], [len(first), width, ...]: one copy a window."""
    size = table[0].numel()
    windows = table.as_strided((len(table) - width + 1, width * size), (size, 1))
    return windows.index_select(0, first).view(len(first), width, *table.shape[1:])


def one_or_list(values: list[torch.Tensor]) -> Values:
    """The library's form: a tensor for one target, a list for several."""
    return values[0] if len(values) == 1 else values
