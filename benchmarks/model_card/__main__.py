"""Make docs/model-card.md from figures on disk.

`python -m benchmarks.model_card --models BUNDLE... --reports DIR... [--limits FILE] [--risk FILE]` gathers the figures
of the bundles' manifests, of the `report.json` that `fleetcast backtest` wrote, and of what `python -m
benchmarks.limits --model BUNDLE` and `python -m benchmarks.risk --model BUNDLE` printed, keeps them in
benchmarks/accuracy/card.json and writes the page. Reports of the same windows are of models that differ in their seed:
the first one is shown, with the spread over all. Without arguments the page is made of the kept figures again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.model_card.card import make_card, read_card, write_card
from benchmarks.model_card.page import page
from fleetcast.errors import FleetCastError, UsageError

ROOT = Path(__file__).parents[2]
CARD, PAGE = ROOT / "benchmarks" / "accuracy" / "card.json", ROOT / "docs" / "model-card.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="bundles whose manifests are shown")
    parser.add_argument("--reports", type=Path, nargs="*", default=[], help="report.json files, or their folders")
    parser.add_argument("--limits", type=Path, help="file of what benchmarks.limits printed")
    parser.add_argument("--risk", type=Path, help="file of what benchmarks.risk printed")
    parser.add_argument("--card", type=Path, default=CARD, help="where the figures are kept")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    options = parser.parse_args()
    try:
        if options.reports:
            card = make_card(options.models, options.reports, options.limits, options.risk)
            page(card)  # before anything is written
            write_card(options.card, card)
        elif options.models or options.limits or options.risk:
            raise UsageError("give --reports too: all figures of the page are gathered at once")
        options.out.write_text(page(read_card(options.card)))
    except FleetCastError as error:
        sys.exit(f"error: {error}")
    print(f"figures: {options.card}, page: {options.out}")


if __name__ == "__main__":
    main()
