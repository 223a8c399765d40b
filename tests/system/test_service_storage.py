"""The whole service, whose database goes away or whose disk is full while samples flow, loses none and comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import postgres
from tests.system.test_service_process import client_of, fed_by, start, wait_for, wait_for_new_forecasts
from tests.system.witness import witnessed

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def test_a_database_that_was_away_costs_no_sample_and_forecasts_are_back(
    tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    with postgres.running() as database:
        running = start(tmp_path, tiny_bundle, fed_by(tiny_dataset), FLEETCAST_DATABASE_URL=database.url)
        try:
            with client_of(running) as client, witnessed(running) as witness:
                wait_for_new_forecasts(client)
                before = len(witness.refusals)
                database.stop()
                wait_for(lambda: 503 in witness.refusals[before:], "a refusal")
                database.start()
                wait_for_new_forecasts(client)
        finally:
            running.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_was_full_costs_no_sample_and_forecasts_are_back(
    tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(home)], check=True)
    try:
        running = start(tmp_path, tiny_bundle, fed_by(tiny_dataset))
        try:
            with client_of(running) as client, witnessed(running) as witness:
                wait_for_new_forecasts(client)
                ballast, before = home / "ballast", len(witness.refusals)
                with ballast.open("wb") as file:
                    file.write(b"x" * max(0, shutil.disk_usage(home).free - 100_000))
                wait_for(lambda: 507 in witness.refusals[before:], "a refusal")
                ballast.unlink()
                wait_for_new_forecasts(client)
        finally:
            running.stop()
    finally:
        # a process that has ended lets go of its files a little later
        wait_for(lambda: not subprocess.run(["umount", str(home)], check=False).returncode, "the disk's end")
