"""The assumptions behind the report: whoever changes them is kept with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.errors import UsageError
from fleetcast.settings import CostSettings
from fleetcast.store import audit
from fleetcast.store.tables import CostAssumptionTable

FROM_SETTINGS = "settings"


@dataclass(frozen=True)
class Assumptions:
    """Values in force, who set them, and when (None while they come from the settings)."""

    values: CostSettings
    author: str
    at: datetime | None


def save_assumptions(session: Session, values: CostSettings, author: str, now: datetime) -> None:
    """Put new assumptions in force; the earlier ones are kept. Raises `UsageError` for a value that is not finite."""
    numbers = values.model_dump()
    plain = {name: value for name, value in numbers.items() if isinstance(value, float)}
    plain |= {
        f"profiles.{profile}.{name}": value
        for profile, own in numbers["profiles"].items()
        for name, value in own.items()
        if value is not None
    }
    endless = sorted(name for name, value in plain.items() if not math.isfinite(value))
    if endless:
        raise UsageError(f"the assumptions {endless} are not finite: give a number")
    session.add(CostAssumptionTable(at=now, author=author, assumptions=numbers))
    audit.record(session, now, author, "change cost assumptions", "cost", values.model_dump_json())


def load_assumptions(session: Session, defaults: CostSettings) -> Assumptions:
    """The assumptions that were saved last; `defaults` where none were."""
    return list_assumptions(session, defaults, 1)[0]


def list_assumptions(session: Session, defaults: CostSettings, limit: int = 100) -> list[Assumptions]:
    """The newest assumptions that were saved, newest first, and after the first that ever was `defaults`."""
    query = select(CostAssumptionTable).order_by(CostAssumptionTable.id.desc()).limit(limit)
    saved = [
        Assumptions(CostSettings.model_validate(row.assumptions), row.author, row.at) for row in session.scalars(query)
    ]
    return [*saved, Assumptions(defaults, FROM_SETTINGS, None)][:limit]
