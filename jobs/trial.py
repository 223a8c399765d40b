"""Ray job: `ray job submit --working-dir . -- python -m jobs.trial ...`, arguments of `fleetcast remediate trial`."""

from __future__ import annotations

import sys

from fleetcast.cli import main

if __name__ == "__main__":
    main(["remediate", "trial", *sys.argv[1:]])
