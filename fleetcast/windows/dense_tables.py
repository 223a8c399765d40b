"""Samples as tensors on the grid, scaled and encoded: what dense windows are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from fleetcast.errors import DatasetError
from fleetcast.windows.columns import Grid, Reals
from fleetcast.windows.dense_spec import ENCODER_LENGTH, DenseSpec, TargetNormaliser
from fleetcast.windows.encoders import RealScaler, ServerScales, overall_scales, softplus_inverse
from fleetcast.windows.spec import POSITION

FULL_LENGTH = 1.0  # the real encoder_length of a full encoder


@dataclass(frozen=True)
class FittedScalers:
    """What was fitted on one set of samples and serves others: scalers of reals and scales of targets, by name.

    `servers` are those of the fit: their codes in `groups` stay.
    """

    normaliser: TargetNormaliser
    servers: tuple[str, ...]
    reals: dict[str, RealScaler]
    targets: dict[str, ServerScales]


@dataclass(frozen=True)
class DenseTables:
    """One row a cell of the grid, then `max_encoder_length` rows of padding.

    `cont` is float32 [cell, real] with 0 where a value is missing and where a batch fills in; `cat` is int64 [cell,
    categorical]; by target, `truth` and `inverse` (its transformation; for a normaliser by window, else empty) are
    float32 [cell] with 0 where missing, and `seen` is bool [cell]; `observed` [cell] is all of `seen`.
    """

    cont: torch.Tensor
    cat: torch.Tensor
    truth: tuple[torch.Tensor, ...]
    inverse: tuple[torch.Tensor, ...]
    seen: tuple[torch.Tensor, ...]
    observed: torch.Tensor


class TableBuilder:
    """Fits what is not fitted yet and lays the columns of a frame on the grid."""

    def __init__(self, frame: pd.DataFrame, grid: Grid, spec: DenseSpec, fitted: FittedScalers | None) -> None:
        self.frame, self.grid, self.spec = frame, grid, spec
        columns = [grid.numbers(frame, target) for target in spec.targets]
        self.raw = dict(zip(spec.targets, columns, strict=True))
        kind = np.result_type(*columns)  # the library takes several targets as one array
        self.transformed = {name: self._transform(name, values.astype(kind)) for name, values in self.raw.items()}
        self.fitted = self._fit() if fitted is None else _checked(fitted, spec)

    def _refuse_empty(self) -> None:
        empty = [name for name, values in self.raw.items() if np.isnan(values).all()]
        if empty:
            raise DatasetError(f"target {', '.join(empty)} has no value at all: there is nothing to normalise by")

    def _transform(self, target: str, values: Reals) -> Reals:
        if self.spec.normaliser.transformation is None:
            return values
        found = softplus_inverse(values)
        if np.isnan(found).sum() > np.isnan(values).sum():
            raise DatasetError(f"target {target} has values below 0 ({np.nanmin(values):g}): softplus takes none")
        return found

    def _fit(self) -> FittedScalers:
        self._refuse_empty()
        spec, grid = self.spec, self.grid
        center = spec.normaliser.center
        targets = {
            name: ServerScales.fit(values, grid.codes, grid.servers, center)
            for name, values in self.transformed.items()
        }
        reals = {
            name: RealScaler.fit(grid.numbers(self.frame, name))
            for name in spec.reals
            if name not in spec.computed and name not in spec.targets
        }
        for target in spec.targets:
            if spec.normaliser.by == "window" and len(spec.targets) > 1:
                # the library fits several targets by window over all servers at once
                rows = np.broadcast_to(overall_scales(self.transformed[target], center), (len(grid.codes), 2))
            else:
                rows = targets[target].parameters[grid.codes]
            reals |= {name: RealScaler.fit(rows[:, number]) for number, name in enumerate(spec.scales_of(target))}
        return FittedScalers(spec.normaliser, grid.servers, reals, targets)

    def build(self) -> DenseTables:
        """The tables; the frame's columns are read once more."""
        by_window = self.spec.normaliser.by == "window"
        seen = tuple(self._cells(~np.isnan(values)) for values in self.raw.values())
        return DenseTables(
            self._continuous(),
            self._categorical(),
            tuple(self._cells(values) for values in self.raw.values()),
            # the library transforms each window, which is float32 by then
            tuple(self._cells(self._transform(name, values.astype(np.float32))) for name, values in self.raw.items())
            if by_window
            else (),
            seen,
            torch.stack(seen).all(dim=0),
        )

    def _rows(self) -> int:
        return self.grid.size + self.spec.max_encoder_length

    def _cells(self, values: Reals | npt.NDArray[np.bool_]) -> torch.Tensor:
        table: npt.NDArray[Any] = np.zeros(self._rows(), np.bool_ if values.dtype == np.bool_ else np.float32)
        table[self.grid.cells] = np.where(np.isnan(values), 0, values)
        return torch.from_numpy(table)

    def _continuous(self) -> torch.Tensor:
        spec, grid = self.spec, self.grid
        table = np.zeros((self._rows(), len(spec.reals)), np.float32)
        for column, name in enumerate(spec.reals):
            if name == ENCODER_LENGTH and spec.add_encoder_length:
                table[:, column] = FULL_LENGTH
            elif name not in spec.computed:
                scaled = self._scaled(name)
                table[grid.cells, column] = np.where(np.isnan(scaled), 0, scaled)
                if name in spec.static_reals:
                    self._fill_gaps(table[:, column])
        if spec.normaliser.by == "server":
            for target in spec.targets:
                found = self.fitted.targets[target].of(grid.servers)
                for number, name in enumerate(spec.scales_of(target)):
                    scaled = self.fitted.reals[name].apply(found[:, number])
                    table[: grid.size, spec.reals.index(name)] = np.repeat(scaled, grid.lengths)
        return torch.from_numpy(table)

    def _scaled(self, name: str) -> Reals:
        """A real as the network reads it, [row]; 0 for a target that each window normalises for itself."""
        if name not in self.spec.targets:
            return self.fitted.reals[name].apply(self.grid.numbers(self.frame, name))
        if self.spec.normaliser.by == "window":
            return np.zeros(len(self.grid.cells), np.float32)
        rows = self.fitted.targets[name].of(self.grid.servers)[self.grid.codes]
        return np.asarray((self.transformed[name] - rows[:, 0]) / rows[:, 1])

    def _categorical(self) -> torch.Tensor:
        spec, grid = self.spec, self.grid
        table = np.zeros((self._rows(), len(spec.categoricals)), np.int64)
        for column, name in enumerate(spec.categoricals):
            table[grid.cells, column] = grid.words(self.frame, name, spec.vocabularies[name])
            if name in spec.static_categoricals:
                self._fill_gaps(table[:, column])
        return torch.from_numpy(table)

    def _fill_gaps(self, column: npt.NDArray[Any]) -> None:
        """A static variable holds at missing steps too: there it is that of the server's first row."""
        if self.grid.has_gaps:
            absent = np.ones(self.grid.size, dtype=bool)
            absent[self.grid.cells] = False
            firsts = np.repeat(column[self.grid.offsets], self.grid.lengths)
            column[: self.grid.size][absent] = firsts[absent]


def _checked(fitted: FittedScalers, spec: DenseSpec) -> FittedScalers:
    needed = [name for name in spec.reals if name not in (*spec.targets, ENCODER_LENGTH, POSITION)]
    missing = [name for name in needed if name not in fitted.reals]
    missing += [name for name in spec.targets if name not in fitted.targets]
    if missing:
        raise DatasetError(f"the fitted scalers have no {', '.join(missing)}: fit them with this specification")
    if fitted.normaliser != spec.normaliser:
        raise DatasetError(f"the scalers were fitted with {fitted.normaliser}, the specification has {spec.normaliser}")
    return fitted
