"""The page: words that hold for every model, and tables of a card's figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.model_card.card import Backtest, Card, Facts
from benchmarks.model_card.words import COMMANDS, DATA, INTENDED, LIMITS, MISUSES, TITLE, UNMEASURED
from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.incident_report import HEADINGS, cells
from fleetcast.evaluation.incident_section import IncidentSection
from fleetcast.evaluation.profiles import ASKED
from fleetcast.evaluation.wording import interval, number, percent

FULL_PRESETS = ("default", "reference")


def page(card: Card) -> str:
    """The whole page as Markdown."""
    parts = [TITLE, *_warning(card.models), _facts(card.models), INTENDED, DATA]
    parts += [part for number_, found in enumerate(card.backtests, start=1) for part in _backtest(number_, found)]
    if card.limits is not None:
        parts += _limits(card.limits)
    if card.risk is not None:
        parts += _risk(card.risk)
    missing = [name for name, found in (("limits", card.limits), ("risk", card.risk)) if found is None]
    parts += [UNMEASURED.format(", ".join(f"`benchmarks.{name}`" for name in missing))] if missing else []
    return "\n\n".join([*parts, LIMITS, MISUSES, COMMANDS]) + "\n"


def _warning(models: Sequence[Facts]) -> list[str]:
    small = sorted({model.preset for model in models if model.preset not in FULL_PRESETS})
    if not small:
        return []
    return [f"**Made with the preset {', '.join(small)}, to show the form of this page: its figures mean nothing.**"]


def _facts(models: Sequence[Facts]) -> str:
    rows = [
        ("preset", [model.preset for model in models]),
        ("networks", [str(model.members) for model in models]),
        ("parameters of each", [f"{model.parameters:,}" for model in models]),
        ("forecasts", [", ".join(model.targets) for model in models]),
        ("reads", [f"{len(model.features)} metrics over {_hours(model.context)}" for model in models]),
        ("ahead", [f"{_hours(model.horizon)} in steps of 5 min" for model in models]),
        ("quantiles", [", ".join(f"{level:g}" for level in model.levels) for model in models]),
        ("fitted on data up to", [f"{model.cutoff:%Y-%m-%d %H:%M} UTC" for model in models]),
        ("data, fingerprint", [model.data_fingerprint[:12] for model in models]),
        ("contract", [model.contract_version for model in models]),
    ]
    shown = [name for name in ("epochs", "samples_per_epoch", "batch_size", "learning_rate", "seed")]
    rows += [(name.replace("_", " "), [_text(model.training.get(name)) for model in models]) for name in shown]
    return "\n".join(["## Models", "", *_table(["", *(model.run for model in models)], [[a, *b] for a, b in rows])])


def _backtest(place: int, found: Backtest) -> list[str]:
    unseen = "" if found.unseen_share is None else f", {percent(found.unseen_share)} of them unseen in training"
    scope = (
        f"{found.windows} windows of {_hours(found.horizon)} every {_hours(found.stride)}, origins "
        f"{found.first:%Y-%m-%d %H:%M} to {found.last:%Y-%m-%d %H:%M} UTC, {found.servers} servers{unseen}; "
        f"purge gap {_hours(found.purge)}. Best rival: {found.best_rival or 'none'}."
    )
    parts = [
        f"## Backtest {place}: {found.about.get('data', 'data')}",
        "\n".join(f"- {name}: {text}" for name, text in found.about.items() if name != "data"),
        scope,
        "### Against each rival\n\nGeometric means over the metrics, below 1 where the model is better; intervals are "
        "bootstrapped over servers, 95 %.\n\n" + "\n".join(_comparisons(found)),
        "### By metric\n\n" + "\n".join(_metrics(found)),
    ]
    axes = {"profile": "profile", "lead": "time from the origin", "servers": "seen and unseen servers"}
    parts += [f"### By {what}\n\n" + "\n".join(_parts(found, axis)) for axis, what in axes.items() if _has(found, axis)]
    if found.spread:
        parts.append(f"### Over {found.models} seeds\n\n" + "\n".join(_spread(found)))
    if found.incidents is not None:
        parts.append("### Incidents\n\n" + "\n".join(_incidents(found.incidents)))
    return parts


def _comparisons(found: Backtest) -> list[str]:
    heads = ["rival", "WQL", "95 %", "MASE", "95 %", "peak WQL", "way to the oracle"]
    rows = [
        [
            f"{one.rival} (limit)" if one.is_limit else one.rival,
            number(one.wql_ratio, 3),
            interval(one.wql_interval),
            number(one.mase_ratio, 3),
            interval(one.mase_interval),
            number(one.peak_ratio, 3),
            percent(one.closed),
        ]
        for one in found.comparisons
    ]
    return _table(heads, rows)


def _metrics(found: Backtest) -> list[str]:
    heads = ["metric", "WQL", "/ best rival", "MASE mean", "/ best rival", "MASE median", "in 80 %", "in 96 %", "peak"]
    rows = [
        [
            row.metric,
            number(row.wql),
            number(row.wql_ratio, 3),
            number(row.mase_mean, 3),
            number(row.mase_ratio, 3),
            number(row.mase_median, 3),
            percent(row.coverage_80),
            percent(row.coverage_96),
            number(row.peak_ratio, 3),
        ]
        for row in found.rows
        if row.forecaster == MODEL_NAME
    ]
    return [*_table(heads, rows), "", "Peak: WQL of the highest value of a window over the best rival's."]


def _parts(found: Backtest, axis: str) -> list[str]:
    """WQL over the best rival's of the same part, and coverage; over all metrics where the axis is the profile."""
    metrics = list(dict.fromkeys(row.metric for row in found.rows))
    own = {(one.name, one.metric): one for one in found.parts if one.axis == axis}
    names = list(dict.fromkeys(name for name, _ in own))
    pooled = found.profiles if axis == "profile" else {}
    heads = [axis, *(["in 80 %, all"] if pooled else []), *(f"{one}: WQL / best, in 80 %" for one in metrics)]
    rows = []
    for name in names:
        cells_ = [own.get((name, metric)) for metric in metrics]
        shown = ["–" if one is None else f"{number(one.wql_ratio, 3)}, {percent(one.coverage_80)}" for one in cells_]
        rows.append([name, *([percent(pooled.get(name))] if pooled else []), *shown])
    low, high = (f"{100 * share:.0f}" for share in ASKED)
    note = ["", f"Asked: {low}-{high} % in each profile, over all metrics."] if pooled else []
    return [*_table(heads, rows), *note]


def _spread(found: Backtest) -> list[str]:
    heads = ["metric", "figure", "mean", "standard deviation", "lowest", "highest"]
    rows = [
        [one.scope, one.figure.replace("_", " "), *(f"{value:.4g}" for value in (one.mean, one.deviation, one.lowest,
         one.highest))]
        for one in found.spread
    ]  # fmt: skip
    return _table(heads, rows)


def _incidents(section: IncidentSection) -> list[str]:
    scopes = [
        f"- {scope.horizon}: {scope.cases:,} cases, prevalence {percent(scope.prevalence)}, {scope.events} events, "
        f"{scope.censored:,} cases censored"
        for scope in section.scopes
    ]
    note = f"Recall, precision and leads at {section.false_rate:g} false alerts per server-day, 15 min ahead or more."
    return [*scopes, "", *_table(HEADINGS, [cells(row) for row in section.rows]), "", note]


def _limits(found: dict[str, Any]) -> list[str]:
    losses, relative, bands = found["weighted_quantile_loss"], found["relative_to_floor"], found["coverage_80"]
    metrics = list(next(iter(losses.values())))
    rows = [
        [name, *(number(own[one]) for one in metrics), number(relative[name], 3), percent(bands[name])]
        for name, own in losses.items()
    ]
    closes = [f"{metric} {percent(share)}" for metric, share in found["model_closes"].items()]
    overall = found["closes_overall"].get(MODEL_NAME)
    profiles = found["coverage_80_by_profile"]
    names = list(next(iter(profiles.values())))
    covered = [[who, *(percent(shares[name]) for name in names)] for who, shares in profiles.items()]
    return [
        "## The frozen evaluation fleet",
        "Servers, seed and days that no training saw; weighted quantile loss over 8 h, beside the oracle (which knows "
        f"the latent state; {found['oracle_samples']} futures) and a reference that learnt on "
        f"{found['reference_windows']:,} windows of observations. {found['cases']:,} server windows.",
        "\n".join(_table(["", *metrics, "to the floor", "in 80 % band"], rows)),
        "The model closes " + ", ".join(closes) + " of the way from the best rival to the oracle, as geometric means "
        f"over the metrics {percent(overall)}.",
        "Points in the 80 % band by profile:\n\n" + "\n".join(_table(["", *names], covered)),
    ]


def _risk(found: dict[str, Any]) -> list[str]:
    section = IncidentSection.model_validate(found["section"])
    fitted, flaps = found["fitted_on"], found["flaps_per_server_day"]
    share = [
        f"{horizon}: AUPRC {number(own.get('auprc'), 2)}, Brier skill {number(own.get('brier_skill'), 2)}"
        for horizon, own in found["oracle_share"].items()
    ]
    return [
        "## Incidents on the frozen evaluation fleet",
        f"The risk was fitted on {fitted['windows']:,} windows of simulated fleets of other seeds, with incidents: "
        + ", ".join(f"{count:,} within {horizon}" for horizon, count in fitted["incidents"].items())
        + f". Levels flap {number(flaps['as they are'], 3)} times a server-day, {number(flaps['held'], 3)} with "
        "hysteresis.",
        "\n".join(_incidents(section)),
        "Share of the oracle's figures on all cases, also inside incidents: " + "; ".join(share) + ".",
    ]


def _has(found: Backtest, axis: str) -> bool:
    return any(one.axis == axis for one in found.parts)


def _hours(steps: int) -> str:
    return f"{steps / 12:g} h"


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(headings) - 1)]
    return ["| " + " | ".join(line) + " |" for line in (headings, rule, *rows)]
