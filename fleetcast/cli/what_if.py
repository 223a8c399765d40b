"""`--what-if METRIC=VALUE` as an edit, and what comes of it as tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, get_args

from rich.table import Table

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from fleetcast.forecast.counterfactual import Change, Counterfactual
    from fleetcast.forecast.edits import Edit

HIGH = 0.9  # level shown beside the median, or the model's nearest to it


def parse_edit(text: str, origin: datetime, hours: float) -> Edit:
    """The edit of the last hours up to the origin that METRIC=VALUE asks for. Raises `UsageError`."""
    from fleetcast.forecast.counterfactual import recent
    from fleetcast.forecast.edits import Named, Shift

    metric, _, value = (part.strip() for part in text.partition("="))
    if value in get_args(Named):
        return recent(metric, origin, hours, value)
    try:
        number = float(value)
    except ValueError:
        raise UsageError(
            f"--what-if is {text!r}; write METRIC=VALUE, for example memory_used=0.4, memory_used=-0.2 to take so much "
            f"off, or memory_used=usual ({', '.join(get_args(Named))})"
        ) from None
    return recent(metric, origin, hours, Shift(by=number) if value[0] in "+-" else number)


def what_if_tables(found: Counterfactual) -> list[str | Table]:
    """What was edited, and for each target its quantiles as they are and as they would have been."""
    made = ", ".join(f"{edit.metric} {_change(edit)}" for edit in found.edits)
    hours = (found.origin - min(edit.first for edit in found.edits)).total_seconds() / 3600 + STEP_SECONDS / 3600
    parts: list[str | Table] = [f"What if, over the last {hours:g} h: {made} ({found.edited} samples changed)"]
    columns = sorted({found.levels.index(0.5), _nearest(found.levels, HIGH)})
    heads = [head for column in columns for head in (f"q{found.levels[column]:g}", "would be", "change")]
    for target in dict.fromkeys(one.target for one in found.changes):
        changes = [one for one in found.changes if one.target == target]
        unit = "" if changes[0].unit == "1" else f", {changes[0].unit}"
        table = Table("in", *heads, title=f"{target}{unit}", title_justify="left")
        for one in changes:
            table.add_row(f"{one.lead * STEP_SECONDS // 60} min", *_cells(one, columns))
        parts.append(table)
    return parts


def amount(value: float, unit: str) -> str:
    """A value without its unit; ratios in per cent."""
    return f"{value:.2%}" if unit == "1" else f"{value:.4g}"


def _cells(one: Change, columns: Sequence[int]) -> list[str]:
    cells = []
    for column in columns:
        sign = "-" if one.difference[column] < 0 else "+"
        change = sign + amount(abs(one.difference[column]), one.unit)
        cells += [amount(one.before[column], one.unit), amount(one.after[column], one.unit), change]
    return cells


def _change(edit: Edit) -> str:
    """What an edit does, in words."""
    unit = contract_metric(edit.metric).unit
    if isinstance(edit.to, str):
        return f"as {edit.to.replace('_', ' ')}"
    if isinstance(edit.to, float):
        return f"at {amount(edit.to, unit)}"
    return f"{'down' if edit.to.by < 0 else 'up'} by {amount(abs(edit.to.by), unit)}"


def _nearest(levels: Sequence[float], wanted: float) -> int:
    """Position of the level that is nearest to the one wanted."""
    return min(range(len(levels)), key=lambda column: abs(levels[column] - wanted))
