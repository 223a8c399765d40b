"""Examples of answers, for the OpenAPI document. A test reads each with its own model."""

from __future__ import annotations

from typing import Any

_MODEL = {"run": "2026-01-11T18-00", "digest": "9f2c" * 16}
_RISK = {
    "level": "P3", "score": 55.2, "p_30m": 0.04, "p_2h": 0.31, "p_8h": 0.67, "open": False, "metric": "memory_used",
    "source": "model", "reason": "",
}  # fmt: skip
_ITEM = {
    **_RISK, "server": "ppdb0003", "profile": "database", "state": "healthy",
    "metric_probabilities": {"memory_used": 0.67},
    "breach_s": 14_400.0, "breach_low_s": 9_000.0, "breach_high_s": None, "last_sample": "2026-01-12T09:55:00Z",
    "latest": {"cpu_utilization": 0.42, "memory_used": 0.83},
}  # fmt: skip
_SUMMARY = {
    "servers": 25, "by_level": {"P3": 1, "P4": 24}, "by_state": {"healthy": 25}, "by_source": {"model": 25},
    "by_profile": {"database": {"servers": 4, "mean_score": 17.1, "max_score": 55.2}},
    "p_any_30m": 0.06, "p_any_8h": 0.74,
}  # fmt: skip
_ORIGIN = "2026-01-12T09:55:00Z"
_STAMPS = ["2026-01-12T10:00:00Z", "2026-01-12T10:05:00Z"]
_PATHS = {"0.1": [0.81, 0.8], "0.5": [0.83, 0.84], "0.9": [0.86, 0.89]}
_FORECAST = {
    "server": "ppdb0003", "profile": "database", "origin": _ORIGIN, "model": _MODEL, "source": "model", "reason": "",
    "levels": [0.1, 0.5, 0.9],
    "metrics": {
        "memory_used": {"unit": "1", "warning": 0.85, "critical": 0.95, "timestamps": _STAMPS, "quantiles": _PATHS}
    },
}  # fmt: skip

EXAMPLES: dict[str, dict[str, Any]] = {
    "ErrorAnswer": {"error": "not_found", "detail": "no forecast cycle has seen a server 'x'; GET /v1/fleet lists"},
    "FleetPage": {"origin": _ORIGIN, "model": _MODEL, "total": 1, "items": [_ITEM], "summary": _SUMMARY},
    "ServerForecast": _FORECAST,
    "WindowsAnswer": {"origin": _ORIGIN, "model": _MODEL, "items": [_FORECAST]},
    "ServerHistory": {
        "server": "ppdb0003", "profile": "database", "timestamps": [_ORIGIN], "states": ["healthy"],
        "metrics": {"cpu_utilization": [0.42], "memory_used": [None]},
    },
    "ServerRisk": {
        "server": "ppdb0003", "origin": _ORIGIN, "model": _MODEL, "now": _ITEM, "past": [{**_RISK, "origin": _ORIGIN}],
    },
    "ForecastPage": {
        "origin": _ORIGIN, "model": _MODEL, "whole": True, "total": 1,
        "items": [
            {
                "server": "ppdb0003", "profile": "database",
                "metrics": {
                    "memory_used": {
                        "source": "model", "reason": "", "steps": [1, 2], "timestamps": _STAMPS, "quantiles": _PATHS,
                    }
                },
            }
        ],
    },
    "SamplesAnswer": {
        "accepted": 1, "replaced": 0,
        "quarantined": [
            {
                "row": 1, "server": "ppdb0003", "timestamp": _ORIGIN, "column": "memory_used", "value": "7.0",
                "rule": "lies in [0, 1]",
            }
        ],
    },
}  # fmt: skip


def add_examples(document: dict[str, Any]) -> dict[str, Any]:
    """The document with an example in each schema that has one here."""
    schemas = document["components"]["schemas"]
    for name, example in EXAMPLES.items():
        schemas[name]["example"] = example
    return document
