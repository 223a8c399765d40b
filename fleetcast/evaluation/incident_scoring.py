"""Incidents as a part of a backtest: probabilities of the bundle's risk beside what people alert on today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from fleetcast.errors import EvaluationError
from fleetcast.evaluation.figures import Section
from fleetcast.evaluation.incident_cases import IncidentCases, collect
from fleetcast.evaluation.incident_report import FIGURE, HEADINGS, cells, paragraphs, reliability_figure
from fleetcast.evaluation.incident_rivals import INCIDENT_RIVALS
from fleetcast.evaluation.incident_section import IncidentSection, incident_section
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.model import RiskModel
from fleetcast.risk.probability import HORIZONS
from fleetcast.windows.arrays import FleetArrays


class IncidentScoring:
    """Collects cases chunk by chunk (see `Scoring`); what comes from upstream is added when all are there."""

    def __init__(
        self,
        cutoff: datetime,
        calibration: Calibration | None,
        model: RiskModel | None,
        labels: pa.Table,
        remediations: pa.Table | None = None,
        topology: pa.Table | None = None,
    ) -> None:
        """Cutoff, lines and fitted risk model of the bundle.

        `labels` (schema `INCIDENTS`) are known incidents, `remediations` (schema `REMEDIATIONS`) censors, `topology`
        (schema `TOPOLOGY`) says who depends on whom; upstreams may lie in other chunks.
        """
        self.cutoff, self.calibration, self.model, self.labels = cutoff, calibration, model, labels
        self.remediations, self.topology = remediations, topology
        self.parts: list[IncidentCases] = []
        self._found: IncidentSection | None = None

    def add(self, fleet: FleetArrays, forecasts: Sequence[ForecastArrays]) -> None:
        """As `Listener`."""
        known = self.calibration, self.model, self.labels, self.remediations
        self.parts.append(collect(fleet, forecasts, self.cutoff, *known, INCIDENT_RIVALS))

    def section(self) -> Section:
        """As `Scoring`."""
        found = self.found
        return Section(
            title="Incidents",
            text=paragraphs(found),
            headings=list(HEADINGS),
            rows=[cells(row) for row in found.rows],
            images=[FIGURE],
            data=found.model_dump(mode="json"),
        )

    def images(self) -> Mapping[str, bytes]:
        """As `Scoring`: the reliability diagram."""
        return {FIGURE: reliability_figure(self.found)}

    @property
    def found(self) -> IncidentSection:
        """The figures, worked out once."""
        if self._found is None:
            if not self.parts:
                raise EvaluationError("there is no server to score incidents of")
            shared = None if self.calibration is None else self.calibration.shared
            fitted = {} if self.model is None else self.model.horizons
            source = {name: "fitted model" if name in fitted else "line" for name in HORIZONS}
            cases = IncidentCases.concat(self.parts)
            cases = cases.from_upstream(self.calibration, self.topology)
            self._found = incident_section(cases, shared=shared, source=source)
        return self._found
