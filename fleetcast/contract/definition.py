"""The contract as plain data, and its digest: a change needs a new version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from fleetcast.contract.metrics import DEFAULT_TARGETS, METRICS
from fleetcast.contract.states import state_rules
from fleetcast.contract.thresholds import OVERRIDES, THRESHOLDS
from fleetcast.contract.vocabulary import (
    HOST_PREFIXES,
    PROFILES,
    QUANTILE_LEVELS,
    STATES,
    STEP_SECONDS,
    UNKNOWN,
    UNKNOWN_CODE,
    VERSION,
)


def definition() -> dict[str, Any]:
    """All that the contract fixes."""
    return {
        "version": VERSION,
        "step_seconds": STEP_SECONDS,
        "profiles": PROFILES,
        "states": STATES,
        "unknown": {UNKNOWN: UNKNOWN_CODE},
        "quantile_levels": QUANTILE_LEVELS,
        "host_prefixes": HOST_PREFIXES,
        "metrics": [asdict(metric) for metric in METRICS],
        "default_targets": DEFAULT_TARGETS,
        "thresholds": THRESHOLDS,
        "threshold_overrides": OVERRIDES,
        "state_rules": state_rules(),
        "server_id": "first 64 bits of SHA-256 of the UTF-8 name, big endian",
    }


def digest() -> str:
    """SHA-256 of the definition in canonical JSON, hexadecimal."""
    text = json.dumps(definition(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
