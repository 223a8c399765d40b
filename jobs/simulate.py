"""Ray job: `ray job submit --working-dir . -- python -m jobs.simulate ...`, arguments of `fleetcast simulate`."""

from __future__ import annotations

import sys

from fleetcast.cli import main

if __name__ == "__main__":
    main(["simulate", *sys.argv[1:]])
