"""The service refuses to be reachable by accident, makes its first key once and goes on where a demo stopped."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import ServiceError, UsageError
from fleetcast.operate.address import check_address
from fleetcast.settings import ServiceSettings
from fleetcast.store.engine import Store, open_store
from fleetcast.store.keys import verify
from fleetcast.store.samples import append_samples
from serve_app.__main__ import main
from serve_app.arguments import AppArgs, DashboardArgs
from serve_app.launcher import stay
from serve_app.preparation import demo_clock, feed_key, first_key, fresh_key, preload

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(f"sqlite:///{tmp_path / 'fleetcast.db'}")
    yield found
    found.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fleet.example"])
def test_an_address_that_others_reach_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="ALLOW_REMOTE"):
        check_address(ServiceSettings(host=host))


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            check_address(ServiceSettings(port=port))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_is_not_shared_with_a_server_that_would_share_it(host: str) -> None:
    """Ray Serve and uvicorn listen with SO_REUSEPORT: a second one would get half of the connections."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, 0))
        other.listen()
        with pytest.raises(UsageError, match="cannot listen"):
            check_address(ServiceSettings(port=other.getsockname()[1]))


def test_wrong_use_and_failures_have_their_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home")]
    assert main(["--model", "nowhere", "--host", "0.0.0.0", *home]) == 2
    assert main(["--model", str(tmp_path / "nowhere"), "--port", str(_free_port()), *home]) == 1
    assert "no model bundle" in capsys.readouterr().err


def test_keys_are_said_before_anything_that_can_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    start = ["--model", str(tmp_path / "nowhere"), "--port", str(_free_port()), "--home", str(home)]
    assert main([*start, "--new-key", "ann"]) == 1
    said = dict(re.findall(r"API key of '(\w+)'.*: (fc_\S+)", capsys.readouterr().out))
    assert set(said) == {"admin", "ann"}
    store = open_store(f"sqlite:///{home / 'fleetcast.db'}")
    with store.reading() as session:
        assert all(verify(session, key) is not None for key in said.values())
    store.close()
    assert main(start) == 1
    assert "fc_" not in capsys.readouterr().out


def test_the_service_ends_with_an_error_when_the_demo_feed_does() -> None:
    feed = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(ServiceError, match="demo feed ended with exit code 3") as ended:
        stay(feed)
    assert ended.value.exit_code == 1


def test_the_first_key_is_made_once_and_carries_all_scopes(store: Store) -> None:
    feed_key(store)
    key = first_key(store)
    assert key is not None
    assert first_key(store) is None
    with store.reading() as session:
        found = verify(session, key)
    assert found is not None
    assert found.scopes == {"read", "write", "operate", "approve", "admin"}


def test_a_new_key_of_a_name_ends_the_earlier_one(store: Store) -> None:
    old, new = fresh_key(store, "demo-feed", ("read",)), fresh_key(store, "demo-feed", ("read",))
    with store.reading() as session:
        assert verify(session, old) is None
        assert verify(session, new) is not None


def test_the_demo_clock_continues_the_dataset_and_then_what_was_stored(store: Store, tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    step = timedelta(seconds=300)
    assert demo_clock(store, dataset, 60.0, 0.0).origin == dataset.manifest.end + step
    later = dataset.manifest.end + timedelta(hours=5)
    with store.session() as session:
        head = {"server": ["a"], "profile": ["generic"], "timestamp": pa.array([later], pa.timestamp("s", tz="UTC"))}
        append_samples(session, pa.table({**head, "cpu_utilization": [0.5]}))
    assert demo_clock(store, dataset, 60.0, 0.0).origin == later + step


def test_preload_stores_the_last_hours_of_a_dataset(store: Store, tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    since = dataset.manifest.end - timedelta(hours=2)
    expected = sum(1 for table in dataset.tables() for time in table["timestamp"].to_pylist() if time >= since)
    assert preload(store, dataset, timedelta(hours=2)) == expected > 0


def test_the_serve_config_file_is_what_ray_and_the_builders_expect() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text())
    found = ServeDeploySchema.model_validate(config)
    assert found.http_options.request_timeout_s is not None
    api, ui = found.applications
    assert AppArgs.model_validate(api.args).clock.build().now() - datetime.now(UTC) < timedelta(minutes=1)
    assert DashboardArgs.model_validate(ui.args).api_url.endswith(str(found.http_options.port))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
