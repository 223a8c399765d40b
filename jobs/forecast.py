"""Ray job: `ray job submit --working-dir . -- python -m jobs.forecast ...`, arguments of `fleetcast forecast`."""

from __future__ import annotations

import sys

from fleetcast.cli import main

if __name__ == "__main__":
    main(["forecast", *sys.argv[1:]])
