"""The incident section as Markdown and as a reliability diagram."""

from __future__ import annotations

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fleetcast.evaluation.incident_section import IncidentRow, IncidentSection
from fleetcast.evaluation.wording import interval, number

FIGURE = "reliability.png"
HEADINGS = (
    "incident within",
    "forecaster",
    "AUPRC",
    "95 %",
    "Brier skill",
    "95 %",
    "slope",
    "recall",
    "95 %",
    "precision",
    "lead, median",
    "lead, 10 %",
    "false / server-day",
)


def incident_markdown(section: IncidentSection, figure: str = FIGURE) -> str:
    """The section as Markdown, with the figure's file name."""
    table = ["| " + " | ".join(HEADINGS) + " |", "| --- | --- |" + " --: |" * (len(HEADINGS) - 2)]
    table += ["| " + " | ".join(cells(row)) + " |" for row in section.rows]
    return "\n\n".join(["## Incidents", *paragraphs(section), "\n".join(table), f"![reliability]({figure})", ""])


def paragraphs(section: IncidentSection) -> list[str]:
    """What was scored, and how the table is to be read."""
    lines = []
    for scope in section.scopes:
        made = section.source.get(scope.horizon)
        prevalence = "–" if scope.prevalence is None else f"{100 * scope.prevalence:.2f} %"
        lines.append(
            f"- {scope.horizon}: {scope.cases:,} cases of {scope.server_days:,.0f} server-days, {scope.positives} "
            f"before an onset (prevalence {prevalence}), {scope.events} events, {scope.censored:,} cases censored"
            + (f"; probabilities by the {made}" if made else "")
        )
        if scope.fleet_said is not None and scope.fleet_came is not None:
            lines.append(
                f"  - at least one in a group of servers: said {100 * scope.fleet_said:.1f} %, came "
                f"{100 * scope.fleet_came:.1f} % of {scope.fleet_groups} groups, "
                f"Brier skill {number(scope.fleet_skill, 3)}"
            )
    if section.flaps is not None and section.flaps_held is not None:
        lines.append(f"- levels flap {section.flaps:.3f} times a server-day, with hysteresis {section.flaps_held:.3f}")
    note = (
        f"Recall, precision and leads are at {section.false_rate:g} false alerts per server-day or just below, with at "
        "least 15 min of lead. AUPRC of a score that knows nothing is the prevalence. A slope of 1 is right. "
        "95 %: bootstrap over servers, each draw with a threshold of its own."
    )
    return ["\n".join(lines), note]


def reliability_figure(section: IncidentSection) -> bytes:
    """The reliability diagram of each horizon as PNG: share that came over mean probability, logarithmic."""
    figure = Figure(figsize=(4 * len(section.scopes), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, scope in enumerate(section.scopes, start=1):
        axes = figure.add_subplot(1, len(section.scopes), place)
        axes.plot([1e-4, 1], [1e-4, 1], color="0.7", linewidth=1)
        bins = [one for one in scope.reliability if one.came > 0]
        sizes = [20 + 0.1 * min(one.cases, 2000) for one in bins]
        axes.scatter([one.said for one in bins], [one.came for one in bins], s=sizes, alpha=0.8)
        axes.set(xscale="log", yscale="log", xlim=(1e-4, 1), ylim=(1e-4, 1), title=f"within {scope.horizon}")
        axes.set(xlabel="probability said", ylabel="share that came")
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def cells(row: IncidentRow) -> list[str]:
    """A row of the table, in the order of `HEADINGS`."""
    return [
        row.horizon,
        row.forecaster,
        number(row.auprc, 3),
        interval(row.auprc_interval, 2),
        number(row.brier_skill, 3),
        interval(row.brier_skill_interval, 2),
        number(row.slope, 2),
        number(row.recall, 2),
        interval(row.recall_interval, 2),
        number(row.precision, 2),
        _hours(row.lead_median_s),
        _hours(row.lead_p10_s),
        number(row.false_per_server_day, 3),
    ]


def _hours(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.0f} min"
