"""Incident figures by kind: an alert is for any incident, a miss is of a kind."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from fleetcast.contract.schema import INCIDENTS
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.evaluation.incident_cases import IncidentCases
from fleetcast.evaluation.incident_kinds import kinds_ahead, score_kinds

START = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
STRIDE = 96
LEAK, SURGE = "memory_leak", "traffic_surge"


def cases_of(ahead: np.ndarray) -> IncidentCases:
    origins, servers = ahead.shape
    names = tuple(f"web{number}" for number in range(servers))
    return IncidentCases(
        START + STEP_SECONDS * STRIDE * np.arange(origins), names, ("web_api",) * servers, ahead,
        np.zeros((*ahead.shape, 3), bool), np.zeros((*ahead.shape, 3)), np.full(ahead.shape, np.nan), {},
    )  # fmt: skip


def labels_of(cases: IncidentCases, kinds: dict[tuple[int, int], str]) -> pa.Table:
    rows = []
    for (origin, server), kind in kinds.items():
        onset = cases.origins[origin] + STEP_SECONDS * cases.ahead[origin, server]
        at = datetime.fromtimestamp(int(onset), UTC)
        rows.append({"incident": f"{origin}-{server}", "server": cases.servers[server], "kind": kind, "cause": None,
                     "precursor_start": at, "onset": at, "end": at})  # fmt: skip
    return pa.Table.from_pylist(rows, schema=INCIDENTS)


@pytest.fixture
def struck() -> tuple[IncidentCases, pa.Table]:
    """40 servers at 10 origins; a leak ahead of server 0 at origin 2, a surge ahead of server 1 at origin 5."""
    ahead = np.zeros((10, 40), np.int64)
    ahead[2, 0], ahead[5, 1] = 12, 20
    cases = cases_of(ahead)
    return cases, labels_of(cases, {(2, 0): LEAK, (5, 1): SURGE})


def test_the_kind_ahead_is_that_of_the_next_onset(struck: tuple[IncidentCases, pa.Table]) -> None:
    found = kinds_ahead(*struck)
    assert found[2, 0] == LEAK
    assert found[5, 1] == SURGE
    assert (found != "").sum() == 2


def test_a_kind_is_scored_against_quiet_cases_and_others_do_not_count(struck: tuple[IncidentCases, pa.Table]) -> None:
    cases, labels = struck
    scores = np.zeros((*cases.ahead.shape, 3))
    scores[2, 0], scores[5, 1] = 0.5, 0.9  # the leak is below the surge, which is not a false alert for it
    groups = {"leaks": (LEAK,), "surges": (SURGE,), "stalls": ("upstream_stall",)}
    rows = {(r.horizon, r.kinds): r for r in score_kinds(cases, kinds_ahead(cases, labels), groups, {"model": scores})}
    leak, surge, none = (rows["2h", name] for name in groups)
    assert (leak.events, leak.auprc, leak.recall) == (1, 1.0, 1.0)
    assert (surge.events, surge.auprc, surge.recall) == (1, 1.0, 1.0)
    assert leak.prevalence == pytest.approx(1 / (cases.ahead.size - 1))
    assert (none.events, none.auprc, none.recall) == (0, None, None)
    assert rows["30m", "leaks"].auprc is None  # the onset is an hour away


def test_the_threshold_is_the_one_of_all_cases(struck: tuple[IncidentCases, pa.Table]) -> None:
    cases, labels = struck
    scores = np.zeros((*cases.ahead.shape, 3))
    scores[5, 1] = 0.9
    scores[7, 2:22] = 0.5  # twenty false alerts that score as much as the leak
    scores[2, 0] = 0.5
    rows = score_kinds(cases, kinds_ahead(cases, labels), {"leaks": (LEAK,), "surges": (SURGE,)}, {"model": scores})
    found = {(row.horizon, row.kinds): row for row in rows}
    assert found["2h", "surges"].recall == 1.0
    assert found["2h", "leaks"].recall == 0.0
    assert found["2h", "leaks"].auprc == pytest.approx(1 / 21)
