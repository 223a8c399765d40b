"""The peer of `benchmarks.simulate`, run by a Python that has mockseries: reads steps and series from its arguments.

Each series is a trend, a daily and a weekly season and red noise, as the package's tutorial composes them. Prints the
seconds that it took, after a series to warm up.
"""

import sys
import time
from datetime import datetime, timedelta

from mockseries.noise import RedNoise
from mockseries.seasonality import SinusoidalSeasonality
from mockseries.trend import LinearTrend
from mockseries.utils import datetime_range


def main() -> None:
    steps, count = int(sys.argv[1]), int(sys.argv[2])
    start = datetime(2026, 1, 8)
    series = (
        LinearTrend(coefficient=0.1, time_unit=timedelta(days=30), flat_base=0.4)
        + SinusoidalSeasonality(amplitude=0.2, period=timedelta(days=1))
        + SinusoidalSeasonality(amplitude=0.1, period=timedelta(days=7))
        + RedNoise(mean=0, std=0.05, correlation=0.9)
    )
    series.generate(datetime_range(timedelta(minutes=5), start, start + timedelta(minutes=5 * steps)))
    begun = time.perf_counter()
    for _ in range(count):
        times = datetime_range(timedelta(minutes=5), start, start + timedelta(minutes=5 * steps))
        series.generate(times)
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main()
