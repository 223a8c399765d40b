"""Which format a reader gets, and that an unchanged answer is not sent again."""

from __future__ import annotations

import pyarrow as pa
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve_app.caching import Revalidation
from serve_app.formats import ARROW, CSV, TABLES, Wanted, table_response
from serve_app.refusals import add_handlers


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    bodies = iter(range(1000))

    @app.get("/v1/table", responses=TABLES)
    async def table(kind: Wanted) -> object:
        pairs = pa.array([[("x", 1)], []], pa.map_(pa.string(), pa.int64()))
        found = pa.table({"server": ["a", 'b"'], "value": [1.5, None], "all": pairs})
        return {"kind": kind} if kind == "json" else table_response(found, kind)

    @app.get("/v1/changing")
    async def changing() -> int:
        return next(bodies)

    @app.get("/elsewhere")
    async def elsewhere() -> int:
        return 1

    add_handlers(app)
    app.add_middleware(Revalidation)
    return TestClient(app)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/*", CSV),
        (f"{CSV};q=0.3, {ARROW};q=0.9", ARROW),
        (f"application/json;q=0, {CSV}", CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        (f"{CSV}; q=1.0; header=present", CSV),
    ],
)
def test_the_format_is_the_one_that_the_reader_likes_best(client: TestClient, accept: str, kind: str) -> None:
    answer = client.get("/v1/table", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(kind)


@pytest.mark.parametrize("accept", ["image/png", "text/html", f"{CSV};q=0", "nonsense", f"{CSV};q=x"])
def test_a_format_that_there_is_not_is_refused_with_those_that_there_are(client: TestClient, accept: str) -> None:
    answer = client.get("/v1/table", headers={"Accept": accept})
    assert answer.status_code == 406
    assert CSV in answer.json()["detail"]


def test_tables_are_whole_in_arrow_and_flat_in_csv(client: TestClient) -> None:
    arrow = pa.ipc.open_stream(client.get("/v1/table", headers={"Accept": ARROW}).content).read_all()
    assert arrow["server"].to_pylist() == ["a", 'b"']
    assert client.get("/v1/table", headers={"Accept": CSV}).text.splitlines() == [
        '"server","value"',
        '"a",1.5',
        '"b""",',
    ]


def test_an_unchanged_answer_is_304_and_a_changed_one_is_sent(client: TestClient) -> None:
    first = client.get("/v1/table")
    tag = first.headers["etag"]
    again = client.get("/v1/table", headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = client.get("/v1/table", headers={"If-None-Match": tag, "Accept": CSV})
    assert (other.status_code, other.headers["etag"] != tag) == (200, True)
    changing = client.get("/v1/changing").headers["etag"]
    assert client.get("/v1/changing", headers={"If-None-Match": changing}).status_code == 200
    assert "Authorization" in first.headers["vary"]
    assert "private" in first.headers["cache-control"]


def test_refusals_and_other_addresses_carry_no_digest(client: TestClient) -> None:
    assert "etag" not in client.get("/v1/table", headers={"Accept": "image/png"}).headers
    assert "etag" not in client.get("/elsewhere").headers
    assert "etag" not in client.post("/v1/table").headers
