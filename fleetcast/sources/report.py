"""What an import did, in counts that add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fleetcast.contract.schema import QUARANTINE
from fleetcast.dataset.manifest import Manifest
from fleetcast.sources.convert import Converted


@dataclass
class Tally:
    """Counts of one import.

    `rows_read` = `samples` + `duplicates` + `quarantined_rows` + `empty_rows`. `rules` counts quarantine lines (a row
    may break several rules); `soft` counts values outside the soft range and `undefined` shares of a missing or zero
    capacity, both by metric and before the roll-up.
    """

    rows_read: int = 0
    samples: int = 0
    duplicates: int = 0
    quarantined_rows: int = 0
    empty_rows: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    soft: Counter[str] = field(default_factory=Counter)
    undefined: Counter[str] = field(default_factory=Counter)
    quarantine: list[pa.Table] = field(default_factory=lambda: [QUARANTINE.empty_table()])

    def add(self, converted: Converted) -> None:
        """Count one block."""
        self.rows_read += converted.rows
        self.samples += converted.samples.num_rows
        self.quarantined_rows += converted.quarantined_rows
        self.empty_rows += converted.empty_rows
        self.rules.update(converted.quarantine["rule"].to_pylist())
        self.soft.update(converted.soft)
        self.undefined.update(converted.undefined)
        if converted.quarantine.num_rows:
            self.quarantine.append(converted.quarantine)

    def found_duplicates(self, count: int) -> None:
        """Count rows that were samples until the roll-up found a later one in their place."""
        self.duplicates += count
        self.samples -= count

    def counts(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {
            "rows_read": self.rows_read,
            "samples": self.samples,
            "duplicates": self.duplicates,
            "quarantined_rows": self.quarantined_rows,
            "empty_rows": self.empty_rows,
            "quarantine_rules": dict(self.rules),
            "soft_range_samples": dict(self.soft),
            "undefined_shares": dict(self.undefined),
        }


@dataclass(frozen=True)
class ImportReport:
    """The outcome of an import; `files` were read, `skipped` (with the mapping's reason) were not."""

    location: str
    manifest: Manifest
    files: list[str]
    skipped: dict[str, str]
    tally: Tally
    quarantine: pa.Table
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The outcome as plain data, for `--json`."""
        return {
            "dataset": self.location,
            "files": len(self.files),
            "skipped": self.skipped,
            **self.tally.counts(),
            "rows": self.manifest.rows,
            "servers": len(self.manifest.servers),
            "parts": len(self.manifest.parts),
            "metrics": self.manifest.metrics,
            "start": self.manifest.start.isoformat(),
            "end": self.manifest.end.isoformat(),
            "soft_range_rows": self.manifest.soft_range_counts,
            "seconds": round(self.seconds, 3),
        }
