"""The fixed words of the contract: version, step, profiles, states, quantile levels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

VERSION = "2.0.0"
STEP_SECONDS = 300
STEPS_PER_HOUR = 3600 // STEP_SECONDS
STEPS_PER_DAY = 24 * STEPS_PER_HOUR

PROFILES = (
    "ml_compute",
    "database",
    "web_api",
    "conductor_mgmt",
    "data_ingest",
    "risk_analytics",
    "generic",
)
STATES = (
    "critical_issue",
    "healthy",
    "heavy_load",
    "idle",
    "maintenance",
    "morning_spike",
    "offline",
    "recovery",
)
UNKNOWN = "unknown"
UNKNOWN_CODE = 0
QUANTILE_LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)

HOST_PREFIXES: dict[str, tuple[str, ...]] = {
    "ml_compute": ("ppml", "gpu", "train"),
    "database": ("ppdb", "db", "oracle", "mongo", "postgres", "mysql"),
    "web_api": ("ppweb", "web", "api", "nginx", "tomcat"),
    "conductor_mgmt": ("ppcon", "conductor", "scheduler"),
    "data_ingest": ("ppetl", "etl", "kafka", "spark", "flink"),
    "risk_analytics": ("pprisk", "risk", "var", "quant"),
}

_PROFILE_CODES = {name: code for code, name in enumerate(PROFILES, start=1)}
_STATE_CODES = {name: code for code, name in enumerate(STATES, start=1)}


def profile_code(name: str) -> int:
    """Embedding index of a profile: 1-7, and 0 for every word that the contract does not know."""
    return _PROFILE_CODES.get(name, UNKNOWN_CODE)


def profile_name(code: int) -> str:
    """The profile with this embedding index; `unknown` for 0."""
    return PROFILES[code - 1] if code else UNKNOWN


def state_code(name: str) -> int:
    """Embedding index of a state: 1-8, and 0 for every word that the contract does not know."""
    return _STATE_CODES.get(name, UNKNOWN_CODE)


def state_names(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.str_]:
    """State words of an array of embedding indices, same shape."""
    return np.asarray(np.array((UNKNOWN, *STATES))[codes], dtype=np.str_)


def profile_codes(names: Iterable[str]) -> npt.NDArray[np.int64]:
    """Embedding indices of many profiles, shape [len(names)]."""
    return np.array([profile_code(name) for name in names], dtype=np.int64)


def profile_from_host(host: str) -> str:
    """The profile that a host name's prefix suggests; `generic` where none does."""
    lowered = host.lower()
    for profile, prefixes in HOST_PREFIXES.items():
        if lowered.startswith(prefixes):
            return profile
    return "generic"
