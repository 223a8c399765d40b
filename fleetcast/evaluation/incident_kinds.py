"""Incident figures by kind of incident, where a dataset's labels tell kinds: what is missed, and what is not.

An alert is for an incident of any kind, so the threshold is that of all cases. A case is one of some kinds when the
next onset within the horizon is of one of them; cases with another kind's onset ahead are on neither side.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, Field

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.evaluation.incident_cases import IncidentCases
from fleetcast.evaluation.incident_scores import alert_scores, average_precision, threshold_at
from fleetcast.evaluation.incident_section import FALSE_RATE
from fleetcast.risk.probability import HORIZONS

NONE = ""

Doubles = npt.NDArray[np.float64]


class KindRow(BaseModel):
    """What one forecaster's scores say of incidents of some kinds within one horizon; None: no such event."""

    horizon: str
    forecaster: str
    kinds: str = Field(description="name of the group of kinds")
    events: int = Field(description="distinct incidents with a scored origin 15 min ahead or more")
    auprc: float | None = Field(description="against the cases without any onset ahead")
    prevalence: float | None = Field(description="of these kinds among those cases and their own")
    recall: float | None = Field(description="at the threshold of all cases: so many false alerts per server-day")


def kinds_ahead(cases: IncidentCases, incidents: pa.Table) -> npt.NDArray[np.str_]:
    """Kind of each server's next onset in sight of the longest horizon, [origin, server]; empty for none.

    `incidents` (schema `INCIDENTS`) are the labels that the cases were collected with.
    """
    at = {
        (row["server"], int(row["onset"].timestamp())): str(row["kind"])
        for row in incidents.select(["server", "onset", "kind"]).to_pylist()
    }
    found = np.full(cases.ahead.shape, NONE, dtype=object)
    for origin, server in np.argwhere(cases.ahead > 0):
        onset = int(cases.origins[origin] + STEP_SECONDS * cases.ahead[origin, server])
        found[origin, server] = at[cases.servers[server], onset]
    return found.astype(np.str_)


def score_kinds(
    cases: IncidentCases,
    ahead: npt.NDArray[np.str_],
    groups: dict[str, Collection[str]],
    said: dict[str, Doubles],
    false_rate: float = FALSE_RATE,
) -> list[KindRow]:
    """Figures of each forecaster's scores [origin, server, horizon], by horizon and group of kinds.

    `ahead` is from `kinds_ahead`; `groups` are kinds by the name of the group.
    """
    rows, steps = [], cases.origins // STEP_SECONDS
    for place, (word, horizon) in enumerate(HORIZONS.items()):
        happened = cases.outcome[..., place]
        for who, every in said.items():
            scores = every[..., place]
            censored = cases.censored[..., place] | np.isnan(scores)
            threshold = threshold_at(scores, cases.ahead, censored, steps, horizon, false_rate)
            alerts = np.nan_to_num(scores, nan=-np.inf) >= threshold
            for name, kinds in groups.items():
                hidden = censored | (happened & ~np.isin(ahead, list(kinds)))
                found = alert_scores(alerts, cases.ahead, hidden, steps, horizon)
                hit = happened[~hidden]
                rows.append(
                    KindRow(
                        horizon=word,
                        forecaster=who,
                        kinds=name,
                        events=found.events,
                        auprc=average_precision(scores[~hidden], hit) if hit.any() else None,
                        prevalence=float(hit.mean()) if hit.any() else None,
                        recall=found.recall if found.events else None,
                    )
                )
    return rows
