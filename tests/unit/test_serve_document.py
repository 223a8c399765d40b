"""The OpenAPI document: examples that its own models read, a key for every route of the API, all refusals described."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from fleetcast.clock import RealClock
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.store.engine import open_store
from serve_app import schemas, schemas_past
from serve_app.arguments import AppArgs
from serve_app.auth import KeyRing
from serve_app.examples import EXAMPLES
from serve_app.ingress import make_app
from serve_app.services import Services


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    database = f"sqlite:///{tmp_path_factory.mktemp('document') / 'x.db'}"
    store, nobody = open_store(database), [None] * 5  # a document is made without asking anybody
    args = AppArgs(bundle="", database=database)
    return make_app(Services(args, STEPS_PER_DAY, RealClock(), store, KeyRing(store), *nobody)).openapi()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_is_one_of_its_own_model(name: str, document: dict[str, Any]) -> None:
    model: type[BaseModel] = getattr(schemas, name, None) or getattr(schemas_past, name)
    example = document["components"]["schemas"][name]["example"]
    read = model.model_validate(example)
    assert set(example) <= set(model.model_fields)
    assert read.model_dump(exclude_unset=True)


def test_every_route_of_the_api_asks_for_a_key_and_describes_its_refusals(document: dict[str, Any]) -> None:
    operations = [
        (path, operation) for path, one in document["paths"].items() for operation in one.values() if "/v1/" in path
    ]
    assert len(operations) > 20
    for path, operation in operations:
        assert operation["security"], path
        assert {"401", "403", "422", "503"} <= set(operation["responses"]), path
        assert operation["description"], path
