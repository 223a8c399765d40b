"""`POST /v1/forecast`: callers' own samples, many callers at once, the numbers of the batch job."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fleetcast.dataset.reader import Dataset
from serve_app.formats import ARROW
from tests.integration.served import Running, bearer, row_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def batch(
    ray_session: None, tiny_bundle: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    """What the batch job forecasts for the whole dataset."""
    from fleetcast.forecast.batch import forecast_dataset

    out = tmp_path_factory.mktemp("batch") / "forecast.parquet"
    forecast_dataset(tiny_bundle, str(tiny_dataset), out)
    return pq.read_table(out)


@pytest.fixture(scope="module")
def samples(tiny_dataset: Path) -> pa.Table:
    """The dataset's rows without what only the dataset knows."""
    tables = [table.drop_columns(["state"]) for table in Dataset.open(tiny_dataset).tables()]
    return pa.concat_tables(tables)


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


@pytest.fixture(scope="module")
def planned(tiny_dataset: Path) -> list[str]:
    """The dataset's planned maintenance as the query takes it."""
    rows = Dataset.open(tiny_dataset).maintenance().to_pylist()
    assert rows
    return ["/".join([row["server"], row["start"].isoformat(), row["end"].isoformat()]) for row in rows]


def ask(running: Running, table: pa.Table, accept: str = ARROW, **query: str | list[str]) -> httpx.Response:
    headers = {**bearer(running.keys["read"]), "Content-Type": ARROW, "Accept": accept}
    return httpx.post(
        f"{running.address}/v1/forecast",
        content=arrow(table),
        params=query,
        headers=headers,
        timeout=60,
        trust_env=False,
    )


def check(found: pa.Table, batch: pa.Table, server: str) -> None:
    expected = batch.filter(pc.equal(batch["server"], server)).sort_by([("metric", "ascending"), ("step", "ascending")])
    mine = found.sort_by([("metric", "ascending"), ("step", "ascending")])
    assert mine.select(["server", "profile", "metric", "timestamp", "source"]).to_pylist() == (
        expected.select(["server", "profile", "metric", "timestamp", "source"]).to_pylist()
    )
    for name in (name for name in expected.schema.names if name.startswith("q")):
        np.testing.assert_allclose(np.asarray(mine[name]), np.asarray(expected[name]), atol=1e-6)


def test_callers_at_the_same_time_get_the_numbers_of_the_batch_job(
    running: Running, samples: pa.Table, batch: pa.Table, planned: list[str]
) -> None:
    origin = batch["origin"][0].as_py().isoformat()  # the newest sample of a single server may be older
    names = sorted(pc.unique(samples["server"]).to_pylist())

    def one(name: str) -> httpx.Response:
        return ask(running, samples.filter(pc.equal(samples["server"], name)), origin=origin, maintenance=planned)

    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(one, names))
    for name, answer in zip(names, answers, strict=True):
        assert answer.status_code == 200, answer.text
        check(pa.ipc.open_stream(answer.content).read_all(), batch, name)


def test_one_request_with_all_servers_answers_the_same_in_json_and_names_the_model(
    running: Running, samples: pa.Table, batch: pa.Table, planned: list[str]
) -> None:
    answer = ask(running, samples, "application/json", maintenance=planned)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["model"]["digest"] == running.get("/v1/status")["model"]["digest"]
    for item in found["items"]:
        for metric, one in item["metrics"].items():
            mine = pc.and_(pc.equal(batch["server"], item["server"]), pc.equal(batch["metric"], metric))
            rows = batch.filter(mine).sort_by("step")
            np.testing.assert_allclose(one["quantiles"]["0.5"], np.asarray(rows["q0.5"]), atol=1e-6)
            assert one["timestamps"][0] == (
                datetime.fromisoformat(found["origin"]) + timedelta(minutes=5)
            ).isoformat().replace("+00:00", "Z")


def test_samples_after_the_origin_change_nothing(running: Running, samples: pa.Table) -> None:
    one = samples.filter(pc.equal(samples["server"], samples["server"][0]))
    origin = pc.max(one["timestamp"]).as_py() - timedelta(hours=2)
    known = one.filter(pc.less_equal(one["timestamp"], pa.scalar(origin, one["timestamp"].type)))
    whole, cut = (ask(running, table, origin=origin.isoformat()) for table in (one, known))
    tables = [pa.ipc.open_stream(answer.content).read_all() for answer in (whole, cut)]
    np.testing.assert_allclose(np.asarray(tables[0]["q0.5"]), np.asarray(tables[1]["q0.5"]), atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "query", "status", "told"),
    [
        ([{"cpu_utilization": 7.0}], {}, 422, "row 0, cpu_utilization"),
        ([], {}, 422, "no sample"),
        ([{"cpu_utilization": 0.5}], {}, 422, "do not fit"),
        ([{"cpu_utilization": 0.5}], {"origin": "2026-01-05T12:00:00"}, 422, "time zone"),
        ([{"cpu_utilization": 0.5}], {"origin": "2026-01-05T12:00:01Z"}, 422, "grid"),
        ([{"cpu_utilization": 0.5}], {"maintenance": "web1/today"}, 422, "SERVER/START/END"),
        (
            [{"cpu_utilization": 0.5}],
            {"maintenance": "web1/0001-01-01T00:00+14:00/2026-01-05T12:00Z"},
            422,
            "out of range",
        ),
        (
            [{"cpu_utilization": 0.5}],
            {"maintenance": "web1/2026-01-05T14:00Z/2026-01-05T12:00Z"},
            422,
            "after the start",
        ),
    ],
)
def test_what_cannot_be_forecast_is_refused_with_the_reason(
    running: Running, rows: list[dict[str, Any]], query: dict[str, str], status: int, told: str
) -> None:
    moment = datetime.fromisoformat("2026-01-05T10:00:00+00:00")
    body = {"samples": [row_of("ppweb0001", moment, **row) for row in rows]}
    answer = running.client.post("/v1/forecast", json=body, params=query)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["detail"]


def test_a_key_without_the_scope_read_is_refused(running: Running, samples: pa.Table) -> None:
    answer = httpx.post(
        f"{running.address}/v1/forecast", content=b"", headers=bearer(running.keys["write"]), trust_env=False
    )
    assert answer.status_code == 403
