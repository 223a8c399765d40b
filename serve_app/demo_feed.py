"""The demo feed: `python -m serve_app.demo_feed --data DATASET --api URL --clock JSON`.

The API key comes from `FLEETCAST_API_KEY`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import httpx

from fleetcast.clock import ClockSpec
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import FleetCastError, UsageError
from fleetcast.operate.tls import trust
from fleetcast.simulate.live import LiveFleet
from serve_app.feed import Feed, FeedClient, Orphaned

KEY = "FLEETCAST_API_KEY"
TIMEOUT_S = 30.0


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    found = argparse.ArgumentParser(prog="python -m serve_app.demo_feed", description=__doc__)
    found.add_argument("--data", required=True, metavar="DATASET", help="the simulated dataset to continue")
    found.add_argument("--api", required=True, metavar="URL", help="address of the service")
    found.add_argument(
        "--clock", required=True, type=ClockSpec.model_validate_json, metavar="JSON", help="the service's clock"
    )
    found.add_argument("--history-hours", type=float, default=170.0, help="samples of the dataset to post first")
    found.add_argument("--certificate", metavar="FILE", help="the service's certificate, where it has one")
    found.add_argument("--parent", type=int, metavar="PID", help="end when this process, which started it, is gone")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Feed until SIGTERM or SIGINT; returns the exit code."""
    options = parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        _feed(options)
    except Orphaned as error:
        _say(f"feed: {error}")
    except FleetCastError as error:
        print(f"feed: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _feed(options: argparse.Namespace) -> None:
    key = os.environ.get(KEY)
    if not key:
        raise UsageError(f"no API key: set {KEY} to one with the scopes read, write and operate")
    start = Dataset.open(options.data).manifest.start
    verify = trust(options.certificate)
    with httpx.Client(base_url=options.api, timeout=TIMEOUT_S, trust_env=False, verify=verify) as http:
        client = FeedClient(http, key, options.parent, _say)
        feed = Feed(LiveFleet.of_dataset(options.data), start, client, options.clock.build(), _say)
        rows = feed.backfill(options.history_hours)
        _say(f"feed: posted the last {rows} samples of the fleet")
        while True:
            client.check_parent()
            feed.step()
            time.sleep(feed.pause_s())


def _say(line: str) -> None:
    print(line, flush=True)


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
