"""Ray job: `ray job submit --working-dir . -- python -m jobs.train ...`, arguments of `fleetcast train`."""

from __future__ import annotations

import sys

from fleetcast.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
