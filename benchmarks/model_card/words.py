"""What the page says whatever the figures are."""

from __future__ import annotations

TITLE = """# Model card

This page is made by `python -m benchmarks.model_card` from figures on disk (`benchmarks/accuracy/card.json`);
nothing in its tables is typed by hand. [evaluation.md](evaluation.md) defines the figures, [risk.md](risk.md) the
probabilities."""

INTENDED = """## Intended use

Forecasts of servers' metrics for some hours in steps of 5 minutes, as quantiles, and the probability that an
incident begins within 30 min, 2 h and 8 h, for people who plan capacity and stand by for trouble. A model is trained
on the fleet that it forecasts, or on one like it, and again as that changes. Who acts on a forecast is told whether
the model or the untrained fallback made it."""

DATA = """## Data and training

The network is a Temporal Fusion Transformer (Lim et al., Int. J. Forecasting 37, 2021) that corrects an untrained
floor: the median of the last 30 min plus quantiles of what followed such medians in the last 3 days, mixed with the
same time yesterday, its mean over like days, and the usual rise from here. Of several networks, trained one after
another with seeds of their own, the forecast is the median. Each is trained on windows that end at the cutoff, on the
pinball loss in units of each window's scale, and the averaged weights of the epoch that is best on the last hours are
kept ([training.md](training.md)). Everything that is scored here came after the cutoff, with a purge gap.

Simulated fleets have incidents with causes that show before they strike ([simulator.md](simulator.md)); the real
servers are the Bitbrains VMs of the Grid Workloads Archive (GWA-T-12), which are of one provider in the year
2013."""

LIMITS = """## Limits

- A simulated fleet is not a real one ([what it does not represent](simulator.md#what-it-does-not-represent)): its
  figures say how well the method finds what there is to find, not how good it is on a fleet of yours.
- Few loud servers carry most of the weighted quantile loss and few idle ones most of the mean MASE: read both and
  the median.
- The peak over a horizon is scored with the highest of the quantiles, which is too low where steps do not move
  together.
- A server with less history than half the encoder gets the fallback, with the spread of its profile
  ([explanations.md](explanations.md#new-servers)).
- Profiles that training did not see are one unknown profile. Coverage differs by profile: see the tables.
- Incident figures within 30 min rest on few events."""

MISUSES = """## Not for

- Deciding alone: nothing here is a reason to touch a machine without a person or an approval rule.
- Judging people or teams by their servers' risk.
- Causes: drivers and weights tell what a forecast rests on, not why a machine fails.
- Data of another meaning or step than the [contract](data-contract.md)'s, or fleets that changed since the cutoff.
- Security incidents, failures without a trace in the metrics, or anything beyond the horizon."""


COMMANDS = """## Commands

```
fleetcast simulate --servers 1500 --hours 504 --seed 1000003 --start 2026-01-08T05:00:00Z --out data/fleet
fleetcast train --data data/fleet --models models --run default --cutoff 2026-01-29T04:55:00Z
python -m benchmarks.limits --model models/default/bundle > limits.txt
python -m benchmarks.risk --model models/default/bundle > risk.txt

fleetcast import csv BITBRAINS --mapping examples/bitbrains.yaml --out data/vms
fleetcast train --data data/vms --targets cpu_utilization --horizon 48 --quantiles 0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9 --holdout 72h --models models --run vms
fleetcast backtest --model models/vms/bundle --data data/vms --windows 18 --stride 48 --rivals untrained --out report/vms

python -m benchmarks.model_card --models models/default/bundle models/vms/bundle --reports report/vms --limits limits.txt --risk risk.txt
```

Train and backtest again with `--seed 1` and `--seed 2`, and give all reports, for the spread over seeds."""  # noqa: E501

UNMEASURED = "Not on this page, since it was not measured for it: {}."
