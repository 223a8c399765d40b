"""The service sees as much of the past as a backtest, and keeps a bounded number of servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetcast.clock import ClockSpec
from fleetcast.errors import UsageError
from fleetcast.model.config import NetworkConfig
from fleetcast.model.manifest import BundleManifest
from fleetcast.settings import ServiceSettings
from fleetcast.windows.spec import WindowSpec
from serve_app.arguments import AppArgs
from serve_app.commits import no_room
from serve_app.history import History
from serve_app.intake import check_rows
from serve_app.span import AHEAD_STEPS, kept_steps

NOW = datetime(2026, 1, 12, 10, 2, tzinfo=UTC)
STEPS = 6


def manifest(spec: WindowSpec) -> BundleManifest:
    return BundleManifest(
        run="mine", created=NOW, preset="small", targets=spec.targets, features=spec.features, levels=spec.levels,
        context=spec.context, horizon=spec.horizon, window=spec.model_dump(mode="json"),
        network=NetworkConfig.model_construct(), cutoff=NOW, timezone="UTC", parameters=1, data_fingerprint="",
    )  # fmt: skip


SPEC = WindowSpec(targets=("cpu_utilization",), features=("cpu_utilization",), levels=(0.1, 0.5, 0.9))


def test_what_is_kept_covers_what_the_model_reads_and_what_comes_in_meanwhile() -> None:
    assert SPEC.history_steps == 2016
    assert kept_steps(ServiceSettings(), manifest(SPEC)) == 2016 + AHEAD_STEPS
    assert kept_steps(ServiceSettings(history_hours=240), manifest(SPEC)) == 2880


def test_a_retention_shorter_than_the_model_reads_is_refused() -> None:
    with pytest.raises(UsageError, match="RETENTION_HOURS"):
        kept_steps(ServiceSettings(retention_hours=100), manifest(SPEC))


def args(tmp_path: Path, most: int) -> AppArgs:
    return AppArgs(
        bundle="none",
        database=f"sqlite:///{tmp_path / 'fleetcast.db'}",
        clock=ClockSpec(origin=NOW, anchor=datetime.now(UTC).timestamp(), speed=1e-6),
        service=ServiceSettings(max_servers=most),
    )


def rows(servers: Sequence[str], at: str = "2026-01-12T09:55:00Z") -> list[dict[str, str | float | None]]:
    return [{"server": name, "timestamp": at, "cpu_utilization": 0.5} for name in servers]


async def added(history: History, servers: Sequence[str], at: str = "2026-01-12T09:55:00Z") -> tuple[int, set[str]]:
    stored = await history.add(check_rows(rows(servers, at), NOW, timedelta(days=31)).table)
    return stored.inserted, set(stored.refused)


def test_servers_beyond_the_limit_are_refused_until_one_falls_silent(tmp_path: Path) -> None:
    async def scene() -> None:
        history = History(args(tmp_path, 2), "UTC", STEPS)
        assert await added(history, ["a", "b", "c"], "2026-01-12T09:00:00Z") == (2, {"c"})
        assert await added(history, ["c"], "2026-01-12T09:00:00Z") == (0, {"c"})
        assert await added(history, ["a", "d"]) == (1, {"d"})
        assert await added(history, ["d"]) == (1, set())  # b has been silent for longer than is kept
        assert (await history.info()).servers == 2
        assert "at most 2 servers" in no_room(2)

    asyncio.run(scene())


def test_a_restart_with_a_lower_limit_stays_within_it(tmp_path: Path) -> None:
    async def scene() -> None:
        assert await added(History(args(tmp_path, 9), "UTC", STEPS), ["a", "b", "c"]) == (3, set())
        assert (await History(args(tmp_path, 2), "UTC", STEPS).info()).servers == 2

    asyncio.run(scene())


def test_a_window_has_as_many_steps_as_the_model_reads(tmp_path: Path) -> None:
    async def scene() -> None:
        history = History(args(tmp_path, 9), "UTC", kept_steps(ServiceSettings(), manifest(SPEC)))
        await added(history, ["a"], "2026-01-05T09:55:00Z")
        await added(history, ["a"], "2026-01-12T10:05:00Z")  # newer than the origin
        origin = datetime(2026, 1, 12, 9, 50, tzinfo=UTC)
        fleet = await history.window(origin, SPEC.history_steps)
        assert (fleet.steps, fleet.time_at(fleet.steps - 1)) == (2016, origin)
        assert fleet.values[0, 0, 0] == 0.5

    asyncio.run(scene())
