"""What a cycle found is kept: whole for a time, then chosen horizons; levels go on after a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fleetcast.dataset.storage import Storage
from fleetcast.errors import ContractError, LeaseLostError
from fleetcast.forecast.part import forecast_rows, part_head, part_table
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.assess import Risk
from fleetcast.risk.cycle import Watch
from fleetcast.risk.risk_table import risk_table, risks_of, watch_of
from fleetcast.settings import ServiceSettings
from fleetcast.store.engine import Store, open_store
from fleetcast.store.forecasts import named_files, newest_cycle, risks_between
from fleetcast.store.leases import Lease, see_lease, take_lease
from fleetcast.store.samples import unpack
from serve_app.archive import Archive
from serve_app.schemas import ModelInfo

ORIGIN = datetime(2026, 1, 12, 10, tzinfo=UTC)
STEP = timedelta(seconds=300)
MODEL = ModelInfo(
    run="r1", digest="d" * 64, preset="tiny", cutoff=ORIGIN, targets=["cpu_utilization"], levels=[0.1, 0.5, 0.9],
    context=24, horizon=96, parameters=1, evaluation={},
)  # fmt: skip


def forecast(origin: datetime = ORIGIN, servers: tuple[str, ...] = ("web2", "web1", "mute")) -> ForecastArrays:
    values = np.random.default_rng(1).random((len(servers), 2, 96, 3), dtype=np.float32)
    quantiles = np.sort(values, axis=3)
    quantiles[0, 1] = np.nan
    quantiles[-1] = np.nan
    return ForecastArrays(
        servers, ("web_api",) * len(servers), ("cpu_utilization", "memory_used"), (0.1, 0.5, 0.9), origin, quantiles,
        ("model", "fallback", "none"), ("", "young", "no sample in the last 24 h"),
    )  # fmt: skip


def risk(server: str, p_30m: float | None = 0.1, p_8h: float | None = 0.2, origin: datetime = ORIGIN) -> Risk:
    return Risk(
        server=server, profile="web_api", origin=origin, p_30m=p_30m, p_2h=None, p_8h=p_8h, open=False, level="P4",
        score=12.5, metric="memory_used", metric_probabilities={"memory_used": 0.2}, breach_s=None, breach_low_s=600.0,
        breach_high_s=None, source="model", reason="",
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/fleetcast.db")


def lease_of(store: Store, holder: str = "a") -> Lease:
    with store.session() as session:
        found = take_lease(session, "watcher", holder, see_lease(session, "watcher"))
    assert found is not None
    return found


def save(archive: Archive, lease: Lease, origin: datetime = ORIGIN, watch: Watch | None = None) -> list[str]:
    found = forecast(origin)
    risks, kept = (watch or Watch()).step([risk(name, origin=origin) for name in found.servers])
    return archive.save(lease, found, risks, kept, MODEL)


def test_a_stored_forecast_comes_back_as_the_table_that_the_batch_job_writes(tmp_path: Path) -> None:
    storage, found = Storage(tmp_path), forecast()
    storage.write_table("part.parquet", part_table(found, "r1", "abc"), 100)
    back = storage.read_where("part.parquet", "server", ["web1", "web2", "mute", "nobody"])
    head = part_head(back.schema.metadata)
    assert (head.run, head.digest, head.origin, head.levels) == ("r1", "abc", ORIGIN, found.levels)
    order = ["mute", "web1", "web2"]
    expected = found.of_servers([found.servers.index(name) for name in order]).to_table()
    assert forecast_rows(back, head).equals(expected)
    one = storage.read_where("part.parquet", "server", ["web1"])
    assert set(one["server"].to_pylist()) == {"web1"}
    assert storage.read_where("part.parquet", "server", []).num_rows == 0
    with pytest.raises(ContractError, match="no stored forecast"):
        part_head({})


def test_risks_and_what_is_kept_with_them_survive_being_written_down() -> None:
    risks, kept = [risk("a", 0.9), risk("b", None, None)], Watch()
    for _ in range(3):
        risks, kept = kept.step(risks)
    table = risk_table(risks, kept, ORIGIN)
    back = watch_of(table)
    assert list(risks_of(table)) == risks
    calm = [risk("a", 0.0, 0.0), risk("b", 0.0, 0.0)]
    for _ in range(4):
        levels = [[one.level for one in after] for after, _ in (kept.step(calm), back.step(calm))]
        assert levels[0] == levels[1]
        (_, kept), (_, back) = kept.step(calm), back.step(calm)
    assert (back.flapped, back.watched) == (kept.flapped, kept.watched)
    with pytest.raises(ContractError, match="no table of risks"):
        watch_of(table.replace_schema_metadata(None))


def test_a_level_that_is_held_is_held_on_by_the_watcher_after_a_restart(store: Store, tmp_path: Path) -> None:
    archive, lease = Archive(store, str(tmp_path / "f"), ServiceSettings()), lease_of(store)
    risks, kept = Watch().step([risk("web1", 0.9)])
    assert risks[0].level == "P1"
    archive.save(lease, forecast().of_servers([1]), risks, kept, MODEL)
    after = Archive(store, str(tmp_path / "f"), ServiceSettings())
    risks, _ = after.recall(ORIGIN + STEP).step([risk("web1", 0.0, 0.0, ORIGIN + STEP)])
    assert risks[0].level == "P1", "down only after some calm origins in a row"
    for elsewhere in (ORIGIN, ORIGIN - STEP, ORIGIN + timedelta(hours=2)):
        assert after.recall(elsewhere).servers == ()


def test_a_cycle_is_kept_with_its_model_and_the_same_origin_again_replaces_it(store: Store, tmp_path: Path) -> None:
    archive, lease = Archive(store, str(tmp_path / "f"), ServiceSettings()), lease_of(store)
    assert save(archive, lease) == []
    assert save(archive, lease) == []
    assert save(archive, lease, ORIGIN + STEP) == []
    with store.reading() as session:
        found = newest_cycle(session, int(ORIGIN.timestamp()) + 299)
        origins = [origin for origin, _ in risks_between(session, 0, 2**40)]
        named = named_files(session)
    assert found is not None
    assert (found.origin, found.run, found.digest, found.servers) == (int(ORIGIN.timestamp()), "r1", "d" * 64, 3)
    assert origins == [int(ORIGIN.timestamp()) + 300, int(ORIGIN.timestamp())]
    assert named == set(Storage(tmp_path / "f").names())


def test_who_lost_the_lease_writes_nothing_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    archive, lease = Archive(store, str(tmp_path / "f"), ServiceSettings()), lease_of(store)
    save(archive, lease)
    before = Storage(tmp_path / "f").names()
    lease_of(store, "b")
    for attempt in (lambda: save(archive, lease, ORIGIN + STEP), lambda: archive.tidy(lease, ORIGIN)):
        with pytest.raises(LeaseLostError):
            attempt()
    assert Storage(tmp_path / "f").names() == before
    with store.reading() as session:
        assert [origin for origin, _ in risks_between(session, 0, 2**40)] == [int(ORIGIN.timestamp())]


def test_old_forecasts_keep_chosen_horizons_and_older_ones_go(store: Store, tmp_path: Path) -> None:
    service = ServiceSettings(forecast_whole_hours=1, forecast_hours=3, forecast_minutes=[30, 480])
    archive, lease = Archive(store, str(tmp_path / "f"), service), lease_of(store)
    for number in range(5):
        save(archive, lease, ORIGIN + number * timedelta(hours=1))
    (tmp_path / "f" / "left-by-a-crash.parquet").write_bytes(b"half")
    archive.tidy(lease, ORIGIN + timedelta(hours=4))
    archive.sweep()
    storage = Storage(tmp_path / "f")
    steps = {name[:14]: set(storage.read_table(name)["step"].to_pylist()) for name in storage.names()}
    whole = set(range(1, 97))
    assert steps == {
        "20260112T1100Z": {6, 96}, "20260112T1200Z": {6, 96}, "20260112T1300Z": whole, "20260112T1400Z": whole,
    }  # fmt: skip
    with store.reading() as session:
        assert named_files(session) == set(storage.names())
        assert len(list(risks_between(session, 0, 2**40))) == 4


def test_a_full_or_missing_disk_is_a_problem_of_the_cycle_and_the_risks_are_kept(store: Store, tmp_path: Path) -> None:
    archive, lease = Archive(store, str(tmp_path / "f"), ServiceSettings()), lease_of(store)
    (tmp_path / "f").rmdir()
    (tmp_path / "f").write_text("a file in the way")
    assert "not stored" in save(archive, lease)[0]
    with store.reading() as session:
        kept = [list(risks_of(unpack(payload))) for _, payload in risks_between(session, 0, 2**40)]
    assert [[risk.server for risk in risks] for risks in kept] == [["web2", "web1", "mute"]]


def test_without_a_folder_risks_alone_are_kept(store: Store) -> None:
    archive, lease = Archive(store, None, ServiceSettings()), lease_of(store)
    assert save(archive, lease) == []
    archive.sweep()
    archive.tidy(lease, ORIGIN + timedelta(hours=2))
    with store.reading() as session:
        assert newest_cycle(session, 2**40) is None
        assert len(list(risks_between(session, 0, 2**40))) == 1
