"""One service with a real bundle on a simulated clock: what its API promises."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_socket

from fleetcast.dataset.reader import Dataset
from fleetcast.forecast.explanation import Explanation
from fleetcast.simulate.live import LiveFleet
from fleetcast.windows.arrays import arrays_from_table
from tests.integration.served import DEGRADED, NEWCOMER, STEP, Running, bearer, item_of, row_of, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_without_samples_the_process_lives_and_the_service_is_not_ready(before_samples: dict[str, Any]) -> None:
    assert before_samples["healthz"].status_code == 200
    assert before_samples["readyz"].status_code == 503
    assert before_samples["readyz"].json()["reasons"]
    status = before_samples["status"].json()
    assert (status["ready"], status["servers"], status["newest_sample"]) == (False, 0, None)
    assert before_samples["fleet"].json()["items"] == []


@pytest.mark.parametrize("path", ["/v1/fleet", "/v1/status", "/v1/alerts", "/v1/cost", "/v1/whoami", "/v1/demo"])
def test_no_key_and_a_wrong_key_are_refused(running: Running, path: str) -> None:
    wrong = "fc_" + "A" * 43
    for headers in ({}, bearer(wrong), {"Cookie": f"key={running.keys['all']}"}):
        answer = httpx.get(running.address + path, headers=headers, trust_env=False)
        assert answer.status_code == 401
        assert answer.json()["error"] == "unauthorized"
        assert wrong not in answer.text


def test_a_key_in_the_address_is_no_key(running: Running) -> None:
    for name in ("key", "api_key", "access_token", "token"):
        answer = httpx.get(f"{running.address}/v1/fleet", params={name: running.keys["all"]}, trust_env=False)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "/v1/fleet", None, "read"),
        ("POST", "/v1/samples", {"samples": []}, "write"),
        ("POST", "/v1/alerts/999/acknowledge", None, "operate"),
        ("POST", "/v1/alerts/999/resolve", None, "operate"),
        ("POST", "/v1/silences", {"matchers": ["server=none"], "hours": 1}, "operate"),
        ("POST", "/v1/silences/999/end", None, "operate"),
        ("POST", "/v1/remediation/plans/999/approve", {"hash": "x"}, "approve"),
        ("POST", "/v1/remediation/plans/999/reject", None, "approve"),
        ("POST", "/v1/remediation/plans/999/execute", None, "operate"),
        ("PUT", "/v1/cost/assumptions", {}, "operate"),
        ("PUT", "/v1/demo/scenario", {"name": "healthy"}, "operate"),
    ],
)
def test_a_key_without_the_scope_is_refused(running: Running, method: str, path: str, body: Any, scope: str) -> None:
    for name in ("read", "write", "operate", "approve"):
        answer = httpx.request(
            method, running.address + path, json=body, headers=bearer(running.keys[name]), trust_env=False, timeout=30
        )
        assert (answer.status_code == 403) == (name != scope), (name, answer.text)


def test_whoami_tells_the_name_and_scopes(running: Running) -> None:
    answer = httpx.get(f"{running.address}/v1/whoami", headers=bearer(running.keys["write"]), trust_env=False)
    assert answer.json() == {"name": "write", "scopes": ["write"]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/servers/nobody/forecast", 404),
        ("/v1/servers/nobody/explain", 404),
        ("/v1/servers/nobody/history", 404),
        ("/v1/servers/..%2F..%2Fetc%2Fpasswd/history", 404),
        ("/v1/trends?metric=nonsense", 422),
        ("/v1/heatmap?metric=uptime_seconds", 404),
        ("/v1/fleet?limit=0", 422),
        ("/v1/fleet?sort=__class__", 422),
        ("/v1/nowhere", 404),
    ],
)
def test_what_cannot_be_answered_is_refused_in_json_without_a_traceback(
    filled: Running, path: str, status: int
) -> None:
    answer = filled.client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "detail"}
    assert "Traceback" not in answer.text


def test_the_documents_need_no_key_and_fetch_nothing_from_elsewhere(running: Running) -> None:
    page = httpx.get(f"{running.address}/docs", trust_env=False)
    document = httpx.get(f"{running.address}/openapi.json", trust_env=False).json()
    assert page.status_code == 200
    assert "/v1/samples" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "/v1/fleet" in document["paths"]


def test_the_same_batch_twice_counts_once_and_a_late_correction_replaces(filled: Running) -> None:
    moment = filled.complete() - 4 * STEP
    rows = [row_of("ppdb9003", moment, cpu_utilization=0.3, memory_used=0.4)]
    first, again = filled.post_samples(rows).json(), filled.post_samples(rows).json()
    assert (first["accepted"], first["replaced"]) == (1, 0)
    assert (again["accepted"], again["replaced"]) == (1, 1)
    assert filled.post_samples([row_of("ppdb9003", moment, cpu_utilization=0.9)]).json()["replaced"] == 1
    history = filled.get("/v1/servers/ppdb9003/history", hours=2)
    place = [datetime.fromisoformat(text) for text in history["timestamps"]].index(moment)
    assert history["profile"] == "database"
    assert history["metrics"]["cpu_utilization"][place] == pytest.approx(0.9)
    assert history["metrics"]["memory_used"][place] is None
    assert sum(value is not None for value in history["metrics"]["cpu_utilization"]) == 1


def test_bad_rows_are_answered_with_their_rules_and_good_ones_are_kept(filled: Running) -> None:
    ahead = filled.complete() + 10 * STEP
    rows = [
        row_of("ppdb9004", filled.complete(), cpu_utilization=0.3),
        row_of("ppdb9004", ahead, cpu_utilization=0.3),
        row_of("ppdb9004", filled.complete() - STEP, memory_used=7.0),
    ]
    answer = filled.post_samples(rows)
    assert answer.status_code == 207
    assert answer.json()["accepted"] == 1
    refused = [(value["row"], value["column"]) for value in answer.json()["quarantined"]]
    assert refused == [(1, "timestamp"), (2, "memory_used")]
    assert "future" in answer.json()["quarantined"][0]["rule"]


def test_too_many_rows_and_too_large_bodies_are_refused(running: Running) -> None:
    rows = [row_of("a", running.complete(), cpu_utilization=0.1)] * 20_001
    assert running.post_samples(rows).status_code == 413
    large = running.client.post("/v1/samples", content=b" " * 20_000_001)
    assert large.status_code == 413
    assert large.json()["error"] == "too_large"


def test_a_forecast_starts_one_step_after_its_origin_and_comes_from_the_model(
    filled: Running, tiny_dataset: Path
) -> None:
    for server in Dataset.open(tiny_dataset).manifest.servers:
        found = filled.get(f"/v1/servers/{server}/forecast")
        assert (found["source"], found["reason"]) == ("model", "")
        origin = datetime.fromisoformat(found["origin"])
        for metric in found["metrics"].values():
            times = [datetime.fromisoformat(text) for text in metric["timestamps"]]
            assert times == [origin + STEP * number for number in range(1, len(times) + 1)]
            paths = [metric["quantiles"][f"{level:g}"] for level in found["levels"]]
            assert all(len(path) == len(times) for path in paths)
            assert all(low <= high for a, b in itertools.pairwise(paths) for low, high in zip(a, b, strict=True))


def test_the_served_forecast_is_that_of_the_bundle_itself(filled: Running, tiny_bundle: Path) -> None:
    from fleetcast.model.manifest import load_manifest

    manifest = load_manifest(tiny_bundle)
    status = filled.get("/v1/status")
    assert status["model"]["digest"] == manifest.weights_sha256
    assert status["model"]["targets"] == list(manifest.targets)
    assert status["ready"] is True
    assert status["clock"]["simulated"] is True


def test_the_served_quantiles_are_those_of_the_bundle_over_all_samples(
    filled: Running, tiny_bundle: Path, tiny_dataset: Path
) -> None:
    """What a backtest sees, the service sees: the whole history that the model reads, not only the latest hours."""
    from fleetcast.forecast.forecaster import Forecaster

    dataset = Dataset.open(tiny_dataset)
    live = LiveFleet.of_dataset(tiny_dataset)
    forecaster = Forecaster.load(tiny_bundle)
    for name in dataset.manifest.servers:
        found = filled.get(f"/v1/servers/{name}/forecast")
        origin = datetime.fromisoformat(found["origin"])
        rows, planned = live.rows(dataset.manifest.start, origin), live.maintenance(origin)
        fleet = arrays_from_table(rows, maintenance=planned, timezone=dataset.manifest.timezone)
        whole = forecaster.forecast(fleet, origin)
        served = [
            [found["metrics"][metric]["quantiles"][f"{level:g}"] for level in whole.levels] for metric in whole.metrics
        ]
        expected = whole.quantiles[whole.servers.index(name)].transpose(0, 2, 1)
        np.testing.assert_allclose(np.array(served, dtype=float), expected, atol=1e-6)


def test_the_served_explanation_is_that_of_the_bundle_over_all_samples(
    filled: Running, tiny_bundle: Path, tiny_dataset: Path
) -> None:
    from fleetcast.forecast.explain import explain
    from fleetcast.forecast.forecaster import Forecaster

    dataset = Dataset.open(tiny_dataset)
    live, name = LiveFleet.of_dataset(tiny_dataset), dataset.manifest.servers[2]
    served = Explanation.model_validate(filled.get(f"/v1/servers/{name}/explain"))
    rows, planned = live.rows(dataset.manifest.start, served.origin), live.maintenance(served.origin)
    fleet = arrays_from_table(rows, maintenance=planned, timezone=dataset.manifest.timezone)
    wanted = explain(Forecaster.load(tiny_bundle), fleet, name, served.origin)
    assert (served.source, served.model, served.profile) == ("model", wanted.model, wanted.profile)
    assert served.weights is not None
    assert wanted.weights is not None
    assert served.weights.encoder == pytest.approx(wanted.weights.encoder, abs=1e-5)
    assert [one.start for one in served.weights.past] == [one.start for one in wanted.weights.past]
    for found, expected in zip(served.drivers, wanted.drivers, strict=True):
        effects = [{one.metric: one.effect for one in side.drivers} for side in (found, expected)]
        for metric in effects[0] | effects[1]:
            assert effects[0].get(metric, 0) == pytest.approx(effects[1].get(metric, 0), abs=1e-5)
        assert found.peak == pytest.approx(expected.peak, abs=1e-5)


def test_a_server_with_too_little_history_falls_back_and_says_why(filled: Running) -> None:
    found = filled.get(f"/v1/servers/{NEWCOMER}/forecast")
    assert found["source"] in {"fallback", "none"}
    assert "needed" in found["reason"] or "no sample" in found["reason"]
    why = filled.get(f"/v1/servers/{NEWCOMER}/explain")
    assert (why["weights"], why["drivers"]) == (None, [])
    assert "model did not make" in why["note"] or "no forecast" in why["note"]
    item = item_of(filled, NEWCOMER)
    assert item is not None
    assert (item["source"], item["reason"]) == (found["source"], found["reason"])
    cycle = filled.get("/v1/status")["cycle"]
    assert cycle["model"] + cycle["fallback"] + cycle["none"] == cycle["servers"]
    assert cycle["fallback"] + cycle["none"] >= 1


def test_the_fleet_is_filtered_sorted_paged_and_summed(filled: Running) -> None:
    page = filled.get("/v1/fleet", limit=1000)
    scores = [item["score"] for item in page["items"] if item["score"] is not None]
    assert scores == sorted(scores, reverse=True)
    assert page["total"] == len(page["items"]) == page["summary"]["servers"]
    for counted in ("by_level", "by_state", "by_source"):
        assert sum(page["summary"][counted].values()) == page["total"]
    assert sum(profile["servers"] for profile in page["summary"]["by_profile"].values()) == page["total"]
    database = filled.get("/v1/fleet", profile="database", sort="server")["items"]
    names = [item["server"] for item in database]
    assert names == sorted(names)
    assert {item["profile"] for item in database} == {"database"}
    assert len(filled.get("/v1/fleet", limit=2, offset=1)["items"]) == 2


def test_trends_and_heatmap_have_one_series_a_profile_and_a_row_a_server(filled: Running) -> None:
    trends = filled.get("/v1/trends", metric="cpu_utilization", hours=6)
    assert len(trends["timestamps"]) == 72
    for profile in trends["profiles"].values():
        assert len(profile["mean"]) == len(profile["p90"]) == 72
    heat = filled.get("/v1/heatmap", metric="cpu_utilization")
    servers = [name for profile in heat["profiles"].values() for name in profile["servers"]]
    assert set(servers) >= {NEWCOMER, DEGRADED}
    for profile in heat["profiles"].values():
        assert len(profile["values"]) == len(profile["servers"])
        assert {len(row) for row in profile["values"]} == {len(profile["timestamps"])}


def test_a_degraded_server_gets_an_alert_a_plan_and_a_dry_run(filled: Running) -> None:
    item = item_of(filled, DEGRADED)
    assert item is not None
    alert = wait_for(
        lambda: next((one for one in filled.get("/v1/alerts")["items"] if one["server"] == DEGRADED), None), "an alert"
    )
    assert alert["metric"] == "memory_used"
    assert alert["level"] in {"P1", "P2", "P3"}
    assert all("would have" in note["status"] for note in alert["notifications"])
    plan = wait_for(
        lambda: next(
            (one for one in filled.get("/v1/remediation/plans")["items"] if one["alert_id"] == alert["id"]), None
        ),
        "a plan",
    )
    assert plan["dry_run"] is True
    path = f"/v1/remediation/plans/{plan['id']}"
    if not plan["automatic"]:
        assert filled.client.post(f"{path}/execute").status_code == 409
        assert filled.client.post(f"{path}/approve", json={"hash": "0" * 64}).status_code == 409
        assert filled.client.post(f"{path}/approve", json={"hash": plan["hash"]}).status_code == 200
        assert filled.client.post(f"{path}/execute").status_code == 200
    done = next(one for one in filled.get("/v1/remediation/plans")["items"] if one["id"] == plan["id"])
    assert all("would have" in step["wording"] for step in done["steps"])
    acknowledged = filled.client.post(f"/v1/alerts/{alert['id']}/acknowledge")
    assert (acknowledged.status_code, acknowledged.json()["acknowledged_by"]) == (200, "all")
    assert filled.get("/v1/alerts/routing")["items"][0]["level"] == "P1"


def test_cost_assumptions_are_saved_with_their_author(filled: Running) -> None:
    values = {**filled.get("/v1/cost")["assumptions"]["values"], "incident_hours": 3.5}
    answer = filled.client.put("/v1/cost/assumptions", json=values)
    assert answer.status_code == 200
    found = filled.get("/v1/cost")["assumptions"]
    assert (found["author"], found["values"]["incident_hours"]) == ("all", 3.5)


def test_announced_maintenance_shows_as_the_state_of_the_server(filled: Running, tiny_dataset: Path) -> None:
    server = Dataset.open(tiny_dataset).manifest.servers[0]
    start = filled.complete() - timedelta(hours=1)
    body = {"server": server, "start": start.isoformat(), "end": (start + timedelta(hours=6)).isoformat()}
    assert filled.client.post("/v1/maintenance", json=body).status_code == 200
    assert filled.post_samples([row_of(server, filled.complete(), cpu_utilization=0.3)]).status_code == 200
    assert filled.get(f"/v1/servers/{server}/history", hours=1)["states"][-1] == "maintenance"
    backwards = {**body, "end": (start - STEP).isoformat()}
    assert filled.client.post("/v1/maintenance", json=backwards).status_code == 422


def test_a_scenario_is_handed_to_the_feed_and_unknown_servers_are_refused(filled: Running, tiny_dataset: Path) -> None:
    server = Dataset.open(tiny_dataset).manifest.servers[-1]
    answer = filled.client.put("/v1/demo/scenario", json={"name": "degrading", "servers": [server]})
    assert answer.status_code == 200
    assert filled.get("/v1/demo") == answer.json()
    assert (answer.json()["scenario"], answer.json()["servers"]) == ("degrading", [server])
    assert filled.client.put("/v1/demo/scenario", json={"name": "degrading", "servers": ["x"]}).status_code == 422
    assert filled.client.put("/v1/demo/scenario", json={"name": "doom"}).status_code == 422


def test_the_stream_sends_a_message_a_cycle(filled: Running) -> None:
    address = filled.address.replace("http", "ws") + "/v1/stream"
    with connect_socket(address, additional_headers=bearer(filled.keys["read"])) as stream:
        messages = [json.loads(stream.recv(timeout=60)) for _ in range(2)]
    with connect_socket(address) as stream:
        stream.send(json.dumps({"key": filled.keys["read"]}))
        messages.append(json.loads(stream.recv(timeout=60)))
    for message in messages:
        assert message["type"] == "cycle"
        assert message["summary"]["servers"] >= 10
    assert messages[0]["seq"] < messages[1]["seq"] <= messages[2]["seq"]


@pytest.mark.parametrize("first", [None, {"key": "fc_" + "A" * 43}, {"key": 7}, ["key"], "write"])
def test_the_stream_is_closed_to_a_wrong_key(running: Running, first: Any) -> None:
    address = running.address.replace("http", "ws") + "/v1/stream"
    headers = bearer("wrong") if first is None else {}
    if first == "write":
        first, headers = None, bearer(running.keys["write"])
    with connect_socket(f"{address}?key={running.keys['all']}", additional_headers=headers) as stream:
        if first is not None:
            stream.send(json.dumps(first))
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
