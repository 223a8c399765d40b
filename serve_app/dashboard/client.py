"""The API as one logged-in person sees it: typed answers, errors in words that can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from fleetcast.alerting.views import AlertView, SilenceView
from fleetcast.cost.report import CostReport
from fleetcast.errors import AuthenticationError, PermissionDeniedError, ServiceError
from fleetcast.forecast.explanation import Explanation
from fleetcast.remediation.views import PlanView
from fleetcast.settings import CostSettings
from serve_app import schemas
from serve_app.schemas_remediation import Effects, RemediationStatus

Answer = TypeVar("Answer", bound=BaseModel)


class NotFoundError(ServiceError):
    """The API does not know the thing asked for."""


class FleetApi:
    """Calls the API with one person's key.

    Every method raises `AuthenticationError` (401), `PermissionDeniedError` (403), `NotFoundError` (404) or
    `ServiceError` (no answer, or any other refusal); the message is meant for that person.
    """

    def __init__(self, http: httpx.Client, key: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {key}"}

    def whoami(self) -> schemas.WhoAmI:
        """The owner of the key and its scopes."""
        return self._get("/v1/whoami", schemas.WhoAmI)

    def status(self) -> schemas.Status:
        """How the service is."""
        return self._get("/v1/status", schemas.Status)

    def fleet(
        self,
        profile: str | None = None,
        level: str | None = None,
        sort: str = "score",
        limit: int = 50,
        offset: int = 0,
    ) -> schemas.FleetPage:
        """A page of servers with their risk, and the summary of the whole fleet."""
        query = {"profile": profile, "level": level, "sort": sort, "limit": limit, "offset": offset}
        return self._get("/v1/fleet", schemas.FleetPage, query)

    def forecast(self, server: str) -> schemas.ServerForecast:
        """The last cycle's forecast of a server."""
        return self._get(f"/v1/servers/{quote(server, safe='')}/forecast", schemas.ServerForecast)

    def explain(self, server: str) -> Explanation:
        """Why the last forecast of a server is what it is."""
        return self._get(f"/v1/servers/{quote(server, safe='')}/explain", Explanation)

    def history(self, server: str, hours: int = 24) -> schemas.ServerHistory:
        """The last samples of a server."""
        return self._get(f"/v1/servers/{quote(server, safe='')}/history", schemas.ServerHistory, {"hours": hours})

    def trends(self, metric: str, hours: int) -> schemas.Trends:
        """How a metric went, by profile."""
        return self._get("/v1/trends", schemas.Trends, {"metric": metric, "hours": hours})

    def heatmap(self, metric: str) -> schemas.Heatmap:
        """Forecast medians of a metric by profile."""
        return self._get("/v1/heatmap", schemas.Heatmap, {"metric": metric})

    def demo(self) -> schemas.DemoInfo:
        """Whether scenarios can be played, and which one is."""
        return self._get("/v1/demo", schemas.DemoInfo)

    def switch_scenario(self, name: str) -> schemas.DemoInfo:
        """Ask the demo feed to play a scenario."""
        return self._send("PUT", "/v1/demo/scenario", schemas.DemoInfo, {"name": name})

    def alerts(self, state: str | None = None, limit: int = 200) -> schemas.AlertsAnswer:
        """The newest alerts; `state` None is all."""
        return self._get("/v1/alerts", schemas.AlertsAnswer, {"state": state, "limit": limit})

    def alert(self, alert: str) -> AlertView:
        """One alert."""
        return self._get(f"/v1/alerts/{quote(alert, safe='')}", AlertView)

    def silences(self) -> schemas.SilencesAnswer:
        """Silences in force or to come."""
        return self._get("/v1/silences", schemas.SilencesAnswer)

    def silence(self, matchers: Sequence[str], hours: float, comment: str) -> SilenceView:
        """Send nothing of alerts that fit, for so long."""
        body = {"matchers": list(matchers), "hours": hours, "comment": comment}
        return self._send("POST", "/v1/silences", SilenceView, body)

    def end_silence(self, silence: str) -> SilenceView:
        """End a silence now."""
        return self._send("POST", f"/v1/silences/{quote(silence, safe='')}/end", SilenceView)

    def routing(self) -> schemas.RoutingAnswer:
        """Who is told what, by level."""
        return self._get("/v1/alerts/routing", schemas.RoutingAnswer)

    def acknowledge(self, alert: str) -> AlertView:
        """Say that somebody looks after an alert."""
        return self._send("POST", f"/v1/alerts/{quote(alert, safe='')}/acknowledge", AlertView)

    def resolve(self, alert: str) -> AlertView:
        """Close an alert."""
        return self._send("POST", f"/v1/alerts/{quote(alert, safe='')}/resolve", AlertView)

    def plans(self) -> schemas.PlansAnswer:
        """The newest remediation plans."""
        return self._get("/v1/remediation/plans", schemas.PlansAnswer)

    def approve(self, plan: str, hash_: str) -> PlanView:
        """Approve a plan as it was read, named by its hash."""
        return self._send("POST", f"/v1/remediation/plans/{quote(plan, safe='')}/approve", PlanView, {"hash": hash_})

    def reject(self, plan: str) -> PlanView:
        """Decide against a plan."""
        return self._send("POST", f"/v1/remediation/plans/{quote(plan, safe='')}/reject", PlanView)

    def execute(self, plan: str) -> PlanView:
        """Carry out an approved plan; in dry run its steps are recorded."""
        return self._send("POST", f"/v1/remediation/plans/{quote(plan, safe='')}/execute", PlanView)

    def roll_back(self, plan: str) -> PlanView:
        """Take back what a plan did."""
        return self._send("POST", f"/v1/remediation/plans/{quote(plan, safe='')}/rollback", PlanView)

    def remediation(self) -> RemediationStatus:
        """What remediation may do, and whether it is stopped."""
        return self._get("/v1/remediation", RemediationStatus)

    def effects(self) -> Effects:
        """What past executions and trials say of each playbook."""
        return self._get("/v1/remediation/effects", Effects)

    def stop(self, reason: str) -> RemediationStatus:
        """The kill switch."""
        return self._send("POST", "/v1/remediation/stop", RemediationStatus, {"reason": reason})

    def release(self) -> RemediationStatus:
        """Let actions start again."""
        return self._send("POST", "/v1/remediation/release", RemediationStatus)

    def cost(self) -> CostReport:
        """What the forecasts would have been worth, with the assumptions."""
        return self._get("/v1/cost", CostReport)

    def save_assumptions(self, values: CostSettings) -> CostReport:
        """Replace the assumptions; returns the new report."""
        return self._send("PUT", "/v1/cost/assumptions", CostReport, values.model_dump())

    def _get(self, path: str, answer: type[Answer], query: Mapping[str, Any] | None = None) -> Answer:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        return _parse(self._request("GET", path, params=params), answer)

    def _send(self, method: str, path: str, answer: type[Answer], body: Mapping[str, Any] | None = None) -> Answer:
        return _parse(self._request(method, path, json=None if body is None else dict(body)), answer)

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, headers=self._headers, **arguments)
        except httpx.TimeoutException as error:
            raise ServiceError(f"the service did not answer {method} {path} in time; trying again") from error
        except httpx.TransportError as error:
            raise ServiceError(f"the service does not answer ({error}); trying again") from error
        if response.is_success:
            return response
        raise _refusal(response)


def _parse(response: httpx.Response, answer: type[Answer]) -> Answer:
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        what = f"{response.request.method} {response.request.url.path}"
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
        raise ServiceError(f"{what} answered what this dashboard does not understand ({found})") from error


def _refusal(response: httpx.Response) -> ServiceError:
    detail = _detail(response)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return AuthenticationError(f"Your API key is no longer accepted ({detail}). Log in again.")
    if response.status_code == httpx.codes.FORBIDDEN:
        return PermissionDeniedError(f"Not allowed: {detail}")
    if response.status_code == httpx.codes.NOT_FOUND:
        return NotFoundError(detail)
    return ServiceError(f"the service answered {response.status_code}: {detail}")


def _detail(response: httpx.Response) -> str:
    """The API's own words, or the status where the answer is not the API's."""
    try:
        return schemas.ErrorAnswer.model_validate_json(response.content).detail
    except ValidationError:
        return response.reason_phrase
