"""The one sentence that says what an alert is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetcast.risk.assess import Risk


def describe(risk: Risk) -> str:
    """What is wrong or will be, for people: per cent and minutes."""
    if risk.open:
        return f"{risk.server} ({risk.profile}): {risk.metric} is in an incident now"
    chances = ", ".join(
        f"P({within}) {p:.0%}" for within, p in (("30 min", risk.p_30m), ("8 h", risk.p_8h)) if p is not None
    )
    when = "may become critical" if risk.breach_s is None else f"becomes critical in about {duration(risk.breach_s)}"
    return f"{risk.server} ({risk.profile}): forecast says that {risk.metric} {when}; {chances}"


def duration(seconds: float) -> str:
    """Minutes below two hours, else hours with one digit."""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"
