"""A program for an environment that has statsforecast: AutoTheta (Fiorucci et al., Int. J. Forecasting 32, 2016).

`python auto_theta.py IN.npz OUT.npz` reads `past` [series, time] without gaps, `horizon`, `levels` and `season`, and
writes `quantiles` [series, step, level]. It is run by path and imports nothing of FleetCast.

statsforecast 2.1.1 adds the seasonal part to the residuals of a seasonally adjusted series before it takes their
spread, so that its bands are as wide as the season; it is taken off again here.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import numpy.typing as npt


def main() -> None:
    """Forecast one series after another."""
    given = np.load(sys.argv[1])
    levels, horizon = given["levels"], int(given["horizon"])
    wanted = sorted({width(level) for level in levels} - {0})
    found = []
    for series in given["past"].astype(float):
        model = (
            importlib.import_module("statsforecast.models")
            .AutoTheta(season_length=int(given["season"]), decomposition_type="additive")
            .fit(series)
        )
        if model.model_.get("decompose"):
            season = np.asarray(model.model_["seas_forecast"]["mean"])  # the last one; all are alike
            model.model_["residuals"] -= season[np.arange(-len(series), 0) % len(season)]
        found.append(of(model.predict(h=horizon, level=wanted), levels))
    np.savez(sys.argv[2], quantiles=np.stack(found).astype(np.float32))


def width(level: float) -> float:
    """Per cent of the central interval that ends at a level; whole numbers as such, as the names of results have it."""
    percent = round(100 * abs(1 - 2 * float(level)), 6)
    return int(percent) if percent == int(percent) else percent


def of(result: dict[str, Any], levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quantiles [step, level] of a forecast: ends of its intervals, and its mean as the median."""
    names = [f"{'lo' if level < 0.5 else 'hi'}-{width(level)}" if width(level) else "mean" for level in levels]
    return np.stack([np.asarray(result[name], np.float64) for name in names], axis=1)


if __name__ == "__main__":
    main()
