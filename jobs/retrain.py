"""Ray job: train the current bundle's kind of model anew on the latest data; a person (or their scheduler) starts it.

`ray job submit --working-dir . -- python -m jobs.retrain --data DATASET --models MODELS [options of fleetcast train]`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fleetcast.cli import main
from fleetcast.errors import BundleError
from fleetcast.model.manifest import BundleManifest, load_manifest
from fleetcast.model.registry import current_bundle


def arguments_of(manifest: BundleManifest) -> list[str]:
    """The arguments of `fleetcast train` that made this bundle, but for data, cutoff and run."""
    training = manifest.training
    return [
        f"--preset={manifest.preset}",
        f"--targets={','.join(manifest.targets)}",
        f"--context={manifest.context}",
        f"--horizon={manifest.horizon}",
        f"--quantiles={','.join(f'{level:g}' for level in manifest.levels)}",
        f"--epochs={training['epochs']}",
        f"--samples-per-epoch={training['samples_per_epoch']}",
        f"--batch-size={training['batch_size']}",
        f"--learning-rate={training['learning_rate']}",
        f"--members={manifest.members}",
    ]


def retrain(arguments: Sequence[str]) -> None:
    """Train as the current bundle of `--models` was trained; further arguments win over its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--models", required=True, type=Path)
    known, further = parser.parse_known_args(arguments)
    bundle = current_bundle(known.models)
    if bundle is None:
        raise BundleError(f"{known.models} has no current bundle to take the options from; train one first")
    options = arguments_of(load_manifest(bundle))
    main(["train", f"--data={known.data}", f"--models={known.models}", *options, *further])


if __name__ == "__main__":
    try:
        retrain(sys.argv[1:])
    except BundleError as error:
        sys.exit(f"error: {error}")
