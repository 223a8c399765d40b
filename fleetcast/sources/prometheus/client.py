"""Prometheus' HTTP API as far as it is needed: range queries and the labels of series."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from fleetcast.errors import SourceError, UsageError
from fleetcast.settings import PrometheusSettings

MOST_POINTS = 11_000


@dataclass(frozen=True)
class Series:
    """Labels, times (Unix seconds) and values, which may be NaN."""

    labels: Mapping[str, str]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


class PrometheusClient:
    """A connection to one Prometheus; close it, or use it as a context."""

    def __init__(self, settings: PrometheusSettings) -> None:
        """Raises `UsageError` for settings that cannot be used."""
        if not settings.url:
            raise UsageError("no Prometheus is set: give its address, for example http://127.0.0.1:9090")
        headers = {}
        try:
            if settings.token_file is not None:
                headers["Authorization"] = f"Bearer {settings.token_file.read_text().strip()}"
            verify = ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
            self._http = httpx.Client(
                base_url=settings.url, headers=headers, timeout=settings.timeout_s, verify=verify, trust_env=False
            )
        except (OSError, ssl.SSLError, httpx.InvalidURL) as error:
            raise UsageError(f"the Prometheus settings cannot be used: {error}") from error
        self.name = str(self._http.base_url.copy_with(userinfo=b""))

    def __enter__(self) -> PrometheusClient:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def query_range(self, expression: str, first: int, last: int, step: int) -> list[Series]:
        """The values at `first`, `first + step`, ... up to `last` (Unix seconds).

        Raises `SourceError` when Prometheus does not answer or refuses the expression.
        """
        if (last - first) // step + 1 > MOST_POINTS:
            raise UsageError(f"Prometheus answers at most {MOST_POINTS} points a series: ask for parts")
        asked = {"query": expression, "start": str(first), "end": str(last), "step": str(step)}
        data = self._post("api/v1/query_range", asked)
        if not isinstance(data, dict) or data.get("resultType") != "matrix":
            raise SourceError(f"{self.name} answered no series to {expression!r}")
        return [_series(one) for one in data["result"]]

    def labels(self, selector: str, first: int, last: int) -> list[dict[str, str]]:
        """The label sets of the series of a selector that have samples in a span. Raises `SourceError`."""
        data = self._post("api/v1/series", {"match[]": selector, "start": str(first), "end": str(last)})
        if not isinstance(data, list):
            raise SourceError(f"{self.name} answered no list of series to {selector!r}")
        return data

    def _post(self, path: str, form: dict[str, str]) -> Any:
        try:
            answer = self._http.post(path, data=form)
            found = answer.json()
        except httpx.HTTPError as error:
            raise SourceError(f"{self.name} does not answer ({type(error).__name__}: {error})") from error
        except ValueError as error:
            raise SourceError(f"{self.name} answered {answer.status_code} and no JSON: is it a Prometheus?") from error
        if not isinstance(found, dict) or found.get("status") != "success":
            reason = found.get("error", answer.status_code) if isinstance(found, dict) else answer.status_code
            raise SourceError(f"{self.name} refused {form.get('query') or form.get('match[]')!r}: {reason}")
        return found.get("data")


def _series(found: Mapping[str, Any]) -> Series:
    points = found["values"]
    times = np.array([int(time) for time, _ in points], dtype=np.int64)
    return Series(found["metric"], times, np.array([text for _, text in points], dtype=np.float64))
