"""The contract as a document: `python -m fleetcast.contract.document docs/data-contract.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from fleetcast.contract import states
from fleetcast.contract.definition import digest
from fleetcast.contract.metrics import DEFAULT_TARGETS, METRICS
from fleetcast.contract.schema import (
    INCIDENTS,
    MAINTENANCE,
    QUARANTINE,
    REMEDIATIONS,
    TOPOLOGY,
    forecast_schema,
    sample_schema,
)
from fleetcast.contract.thresholds import OVERRIDES, THRESHOLDS, Threshold
from fleetcast.contract.vocabulary import (
    HOST_PREFIXES,
    PROFILES,
    QUANTILE_LEVELS,
    STATES,
    STEP_SECONDS,
    UNKNOWN,
    UNKNOWN_CODE,
    VERSION,
    profile_code,
    state_code,
)


def document() -> str:
    """The whole document in Markdown."""
    sections = [_head(), _samples(), _metrics(), _profiles(), _states(), _thresholds(), _other_tables(), _validation()]
    return "\n\n".join(sections) + "\n"


def _head() -> str:
    return f"""# Data contract {VERSION}

Made from the code by `python -m fleetcast.contract.document docs/data-contract.md`; do not edit it by hand.

Digest of the definition (SHA-256): `{digest()}`.
A change of the definition needs a new version. Data and models fit when the major numbers of their versions are equal.

Ratios are 0-1, sizes bytes, times seconds; per cent stand only where people look. Times are UTC.
One step is {STEP_SECONDS} s: a row stands for the cell [timestamp, timestamp + {STEP_SECONDS} s), its values are the
means of the samples in it, and a cell without a sample has no row."""


def _samples() -> str:
    meaning = {
        "server": "name of the server; its id is the first 64 bits of SHA-256 of the name (UTF-8, big endian), and two"
        " names with one id are an error",
        "profile": "what the server is for (below)",
        "timestamp": f"start of the cell, a multiple of {STEP_SECONDS} s",
        "state": "by the state function (below)",
    }
    rows = [(f"`{field.name}`", field.type, meaning[field.name]) for field in sample_schema(())]
    return (
        "## Samples\n\n"
        + _table(("column", "type", "meaning"), rows)
        + "\n\nThen the metrics that the source has, in the order below; any subset that holds a forecast target is a"
        " valid dataset. A missing value is null. A part holds whole servers, sorted by server and time."
    )


def _metrics() -> str:
    rows = [(f"`{m.name}`", m.dtype, f"`{m.unit}`", _range(m.hard), _range(m.soft), m.description) for m in METRICS]
    names = [
        (f"`{m.name}`", f"`{m.prometheus}`", m.opentelemetry if m.opentelemetry == "none" else f"`{m.opentelemetry}`")
        for m in METRICS
    ]
    targets = ", ".join(f"`{name}`" for name in DEFAULT_TARGETS)
    return (
        "## Metrics\n\nA row with a value outside a hard range is quarantined; a value outside the soft range is kept"
        " and counted. Both ends are inside. Units are UCUM (`1` is a ratio).\n\n"
        + _table(("metric", "type", "unit", "hard range", "soft range", "meaning"), rows)
        + "\n\nWhere they come from:\n\n"
        + _table(("metric", "Prometheus (node_exporter)", "OpenTelemetry"), names)
        + f"\n\nTargets that a model forecasts unless told otherwise, as far as the dataset has them: {targets}."
        f" Quantile levels: {', '.join(map(str, QUANTILE_LEVELS))}."
    )


def _profiles() -> str:
    rows: list[tuple[object, ...]] = [(UNKNOWN_CODE, f"`{UNKNOWN}`", "every word that is none of the following")]
    for name in PROFILES:
        prefixes = ", ".join(f"`{prefix}`" for prefix in HOST_PREFIXES.get(name, ())) or "everything else"
        rows.append((profile_code(name), f"`{name}`", prefixes))
    return (
        "## Profiles\n\nFixed words with fixed codes, whatever the data holds. Where a source names no profile, the"
        " beginning of the host name suggests one.\n\n" + _table(("code", "profile", "host names begin with"), rows)
    )


def _states() -> str:
    conditions = {
        "offline": "no metric has a value",
        "maintenance": "maintenance is planned",
        "critical_issue": "a metric is at or above its critical threshold",
        "recovery": f"a metric was critical in one of the {states.RECOVERY_STEPS} steps before, or `uptime_seconds`"
        f" < {states.FRESH_BOOT_SECONDS:g}",
        "morning_spike": f"as `heavy_load`, on a weekday from {states.MORNING[0]:g} to {states.MORNING[1]:g} h local",
        "heavy_load": _at_least(states.HEAVY),
        "idle": _below(states.IDLE) + " (those that have a value, at least one)",
        "healthy": "none of these",
    }
    rows = [(state_code(name), f"`{name}`", conditions[name]) for name in states.PRECEDENCE]
    return (
        f"## States\n\n{len(STATES)} fixed words; code {UNKNOWN_CODE} is `{UNKNOWN}`. The state of a step is one"
        " function of what can be observed, the same for simulated and real servers: the first of these rules that"
        " holds. It reads the present and the past half hour, never the future.\n\n"
        + _table(("code", "state", "holds when"), rows)
        + f"\n\n`heavy_load` (so `morning_spike` too) and `idle` have hysteresis. Each also holds where its rule held"
        f" in one of the {states.KEPT_STEPS} steps before and a wider one at every step since: for `heavy_load`"
        f" {_at_least(states.HEAVY_KEPT)}, for `idle` {_below(states.IDLE_KEPT)}."
    )


def _at_least(limits: dict[str, float]) -> str:
    return " or ".join(f"`{name}` >= {limit:g}" for name, limit in limits.items())


def _below(limits: dict[str, float]) -> str:
    return " and ".join(f"`{name}` < {limit:g}" for name, limit in limits.items())


def _thresholds() -> str:
    def row(metric: str, profile: str, threshold: Threshold) -> tuple[object, ...]:
        return f"`{metric}`", profile, f"{threshold.warning:g}", f"{threshold.critical:g}"

    rows = [row(metric, "all", threshold) for metric, threshold in THRESHOLDS.items()]
    for profile, overrides in OVERRIDES.items():
        rows += [row(metric, f"`{profile}`", threshold) for metric, threshold in overrides.items()]
    return (
        "## Thresholds\n\nA metric is in warning, or critical, at or above these values; a profile's own row replaces"
        " that for all.\n\n" + _table(("metric", "profile", "warning", "critical"), rows)
    )


def _other_tables() -> str:
    tables = {
        "incidents.parquet": INCIDENTS,
        "topology.parquet": TOPOLOGY,
        "maintenance.parquet": MAINTENANCE,
        "remediations.parquet": REMEDIATIONS,
        "quarantine.parquet": QUARANTINE,
        "forecast table": forecast_schema(QUANTILE_LEVELS),
    }
    rows = [(name, ", ".join(f"`{field.name}` {field.type}" for field in schema)) for name, schema in tables.items()]
    return (
        "## Other tables\n\nParquet keeps no whole seconds: time stamps are stored in milliseconds and read as"
        " seconds.\n\n"
        + _table(("table", "columns"), rows)
        + "\n\nAll tables beside the samples are optional. A row of remediations.parquet is an action on a server, from"
        " its begin to the end of its effect: an incident that was forecast and did not come then is neither a hit"
        " nor a false alarm."
    )


def _validation() -> str:
    return """## Validation

Every table that enters is checked. A row is set aside, with file, row, column, value and rule, when

- its server has no name, or its time is not set or not on the grid,
- an earlier row has the same server and time,
- a metric lies outside its hard range (infinite values do),
- its state is no word of the contract,
- or no metric has a value.

The other rows are kept. A profile that the contract does not know is allowed: it takes the unknown slot and is
counted. `fleetcast validate` also compares each part with the manifest's digest and counts, and each stored state
with the state function; it exits with 1 when anything is wrong."""


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(arguments: Sequence[str]) -> None:
    """Write the document to the file that is named, or print it."""
    if arguments:
        Path(arguments[0]).write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(document())


if __name__ == "__main__":
    main(sys.argv[1:])
