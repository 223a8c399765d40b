"""Ray job: `ray job submit --working-dir . -- python -m jobs.backtest ...`, arguments of `fleetcast backtest`."""

from __future__ import annotations

import sys

from fleetcast.cli import main

if __name__ == "__main__":
    main(["backtest", *sys.argv[1:]])
