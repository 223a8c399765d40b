"""Statistics that tell a simulated fleet from a real one: pure functions on series of the 5-minute grid.

A series has shape [time], one value a step and NaN where there is none. A gap keeps its steps, so that a lag is always
a time. What a series is too short or too even to tell is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

POINTS = 1001  # of a sketch: a quantile is within 0.001 of its level
EVEN = 1e-6  # a series whose range is this share of its size is constant: float32 holds no finer
PAIRS_SHARE = 0.25  # an autocorrelation needs pairs for this share of the values
BURST_LEVEL = 0.95
LONGEST_GAP = 12  # steps without a value that a wait may span
FEWEST_WAITS = 10
FULL_CYCLE = 0.75  # share of the hours that a day or week must have


def is_constant(values: Floats) -> bool:
    """Whether the known values do not vary beyond float32's resolution; so does a series with fewer than two."""
    known = values[~np.isnan(values)]
    return len(known) < 2 or bool(np.ptp(known) <= EVEN * np.abs(known).max())


def sketch(values: Floats) -> Floats:
    """The quantiles of the known values at `POINTS` even levels from 0 to 1, shape [POINTS]."""
    ordered = np.sort(values[~np.isnan(values)])
    return np.interp(np.linspace(0, len(ordered) - 1, POINTS), np.arange(len(ordered)), ordered)


def pooled_quantiles(sketches: Floats, counts: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles of the values of all servers together, shape [len(levels)].

    `sketches` is [server, POINTS] and `counts` [server], the number of values behind each: a server weighs as much as
    it has values. Levels 0 and 1 are the exact extremes.
    """
    points, weights = _weighted(sketches, counts)
    return np.asarray(np.interp(levels, np.cumsum(weights) - weights / 2, points))


def ks_distance(a: Floats, counts_a: Floats, b: Floats, counts_b: Floats) -> float:
    """Kolmogorov-Smirnov distance, max |F_a(x) - F_b(x)|, of two sets of sketches as in `pooled_quantiles`."""
    (points_a, weights_a), (points_b, weights_b) = _weighted(a, counts_a), _weighted(b, counts_b)
    where = np.concatenate([points_a, points_b])
    shares = [
        np.append(0, np.cumsum(weights))[np.searchsorted(points, where, side="right")]
        for points, weights in ((points_a, weights_a), (points_b, weights_b))
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def _weighted(sketches: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """All points in order, and the share of the values that each stands for."""
    points = sketches.ravel()
    order = np.argsort(points, kind="stable")
    weights = np.repeat(counts / counts.sum() / POINTS, POINTS)
    return points[order], weights[order]


def autocorrelation(values: Floats, lags: int) -> Floats:
    """Autocorrelation at lags 0..`lags`, shape [lags + 1].

    r(k) = mean of (x[t] - m)(x[t+k] - m) over the n(k) pairs that are both known, divided by the variance (Parzen
    1963, "On spectral analysis with missing observations and amplitude modulation", Sankhya A 25). Not divided by the
    whole length: a short record is not pulled to 0, but its own mean still biases long lags down. NaN where n(k) is
    below `PAIRS_SHARE` of the known values.
    """
    known = ~np.isnan(values)
    centred = np.where(known, values - np.nanmean(values), 0.0)
    products = _lagged_products(centred, lags)
    pairs = np.rint(_lagged_products(known.astype(np.float64), lags))
    enough = pairs >= max(2.0, PAIRS_SHARE * known.sum())
    means = np.divide(products, pairs, out=np.full(lags + 1, np.nan), where=enough)
    return np.asarray(means / means[0])


def _lagged_products(series: Floats, lags: int) -> Floats:
    """Sum over t of x[t] x[t+k] for k = 0..lags, by FFT."""
    size = 1 << (len(series) + lags).bit_length()
    return np.asarray(np.fft.irfft(np.abs(np.fft.rfft(series, size)) ** 2, size)[: lags + 1])


def increments(values: Floats) -> Floats:
    """x[t+1] - x[t] where both are known: changes over exactly 5 minutes, shape [at most time - 1]."""
    changes = np.diff(values)
    return changes[~np.isnan(changes)]


def kurtosis(sample: Floats) -> float:
    """Fourth standardised moment, mean((x - m)^4) / var^2: 3 for a normal distribution."""
    if len(sample) < 2 or not sample.std():
        return np.nan
    return float(np.mean(((sample - sample.mean()) / sample.std()) ** 4))


def jump_share(changes: Floats, times: float = 5.0) -> float:
    """Share of |changes| above `times` x their median: 0.00075 for a normal distribution; NaN where the median is 0."""
    sizes = np.abs(changes)
    middle = np.median(sizes) if len(sizes) else 0.0
    return float(np.mean(sizes > times * middle)) if middle > 0 else np.nan


def burstiness(sample: Floats) -> float:
    """B = (s - m) / (s + m), s the standard deviation and m the mean of a sample that is not negative.

    -1 is regular, 0 exponential, towards 1 bursty (Goh and Barabasi 2008, "Burstiness and memory in complex systems",
    EPL 81, 48002). They apply it to waits between events; of a level it is its coefficient of variation on -1..1.
    """
    total = sample.std() + sample.mean() if len(sample) else 0.0
    return float((sample.std() - sample.mean()) / total) if total > 0 else np.nan


def burst_waits(values: Floats) -> Floats:
    """Steps between the starts of bursts, shape [waits]; what `burstiness` was made for.

    A burst starts where the level rises above the series' own `BURST_LEVEL` quantile. Up to `LONGEST_GAP` missing
    steps count as no event; a wait across a longer gap is left out. Empty below `FEWEST_WAITS`.
    """
    steps = np.flatnonzero(~np.isnan(values))
    known = values[steps]
    above = known > np.quantile(known, BURST_LEVEL)
    broken = np.diff(steps) > LONGEST_GAP + 1
    starts = above[1:] & ~above[:-1] & ~broken
    run, times = np.cumsum(broken)[starts], steps[1:][starts]
    waits = np.asarray(np.diff(times)[np.diff(run) == 0], dtype=np.float64)
    return waits if len(waits) >= FEWEST_WAITS else waits[:0]


def peak_to_mean(values: Floats) -> float:
    """The 99th percentile divided by the mean; NaN where the mean is not above 0."""
    mean = np.nanmean(values)
    return float(np.nanquantile(values, 0.99) / mean) if mean > 0 else np.nan


def seasonal_share(values: Floats, hours: npt.NDArray[np.int64], period: int) -> float:
    """Share of the variance that the hour of a cycle of `period` hours (24 a day, 168 a week) explains, 0-1.

    `hours` [time] counts local hours. With d[c, h] the mean of hour h in cycle c minus the mean of cycle c:
    mean over h, and over pairs of different cycles c and c', of d[c, h] d[c', h], divided by the variance. Only what
    comes again counts: the plain R^2 of hourly means is about 1/cycles for slow noise without any season. (A variance
    component, as in Searle, Casella and McCulloch 1992, "Variance Components", with the cycles as replicates.)
    A season shorter than an hour, such as a daily job of minutes, shows in the autocorrelation at 24 h instead.
    Cycles with fewer than `FULL_CYCLE` of their hours are left out; NaN below two.
    """
    steps = np.flatnonzero(~np.isnan(values))
    cells = hours[steps] - hours[steps[0]]
    size = (int(cells.max()) // period + 1) * period
    counts = np.bincount(cells, minlength=size)
    sums = np.bincount(cells, weights=values[steps], minlength=size)
    means = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0).reshape(-1, period)
    means = means[(~np.isnan(means)).mean(axis=1) >= FULL_CYCLE]
    if len(means) < 2:
        return np.nan
    known = ~np.isnan(means)
    apart = np.where(known, means - np.nanmean(means, axis=1, keepdims=True), 0.0)
    cycles = known.sum(axis=0)
    products: Floats = apart.sum(axis=0) ** 2 - (apart**2).sum(axis=0)
    again = cycles > 1
    season = np.mean(products[again] / (cycles * (cycles - 1))[again])
    return float(np.clip(season / np.var(values[steps]), 0.0, 1.0))


def correlation(values: Floats) -> Floats:
    """Pearson correlation of the columns of [time, metric], shape [metric, metric].

    Each pair over the steps where both are known; NaN where one of them is constant there.
    """
    found = np.full((values.shape[1], values.shape[1]), np.nan)
    for one in range(values.shape[1]):
        for other in range(one + 1):
            pair = values[:, [one, other]]
            pair = pair[~np.isnan(pair).any(axis=1)]
            if not (is_constant(pair[:, 0]) or is_constant(pair[:, 1])):
                found[one, other] = found[other, one] = np.asarray(np.corrcoef(pair.T))[0, 1]
    return found


def quartiles(rows: Floats) -> Floats:
    """25 %, 50 % and 75 % over the first axis, the servers, shape [3, ...]; NaN only where no server is defined."""
    flat = rows.reshape(len(rows), int(np.prod(rows.shape[1:])))
    found = np.full((3, flat.shape[1]), np.nan)
    some = ~np.isnan(flat).all(axis=0)
    if some.any():
        found[:, some] = np.nanquantile(flat[:, some], (0.25, 0.5, 0.75), axis=0)
    return found.reshape(3, *rows.shape[1:])
