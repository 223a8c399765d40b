"""Why one server's forecast is what it is, as the model that made it has it."""

from __future__ import annotations

from datetime import datetime

from fleetcast.forecast.attribution import attribute
from fleetcast.forecast.counterfactual import one_server
from fleetcast.forecast.drivers import HOURS, rank_drivers
from fleetcast.forecast.explanation import Explanation
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.forecast.table import FALLBACK, MODEL
from fleetcast.windows.arrays import FleetArrays


def explain(
    forecaster: Forecaster, fleet: FleetArrays, server: str, origin: datetime, hours: float = HOURS
) -> Explanation:
    """Explain the forecast of `server` from `origin`; reads only steps up to it and planned maintenance.

    `hours` is how much of each metric's past the drivers replace. Raises `UsageError` for an unknown server, and what
    `Forecaster.forecast` raises.
    """
    alone = one_server(fleet, server)
    forecast = forecaster.forecast(alone, origin)
    source, reason = forecast.sources[0], forecast.reasons[0]
    explanation = Explanation(
        server=server,
        profile=alone.profiles[0],
        origin=origin,
        model=forecaster.manifest.run,
        source=source,
        note=_note(source, reason),
    )
    if source != MODEL:
        return explanation
    weights = attribute(forecaster, forecaster.history(alone, origin))
    drivers = rank_drivers(forecaster, alone, server, origin, hours)
    return explanation.model_copy(update={"weights": weights, "drivers": drivers})


def _note(source: str, reason: str) -> str:
    if source == MODEL:
        return "The model made this forecast."
    if source == FALLBACK:
        return f"The model did not make this forecast, the untrained fallback did: {reason}."
    return f"There is no forecast: {reason}."
