"""The two networks of the observations-only reference and how they are fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.errors import UsageError
from fleetcast.simulate.reference.features import CURVES

BATCH = 128
HIDDEN, LAYERS = 512, 3
LEARNING_RATE = 2e-3
WARM_UP = 0.1  # share of the steps
CLIP = 6.0  # standard deviations beyond which a feature says no more
AVERAGED = 0.998  # memory of the moving average of the weights
ONSET_BATCH, ONSET_HIDDEN, ONSET_DROPOUT = 512, 512, 0.1
UNSURPRISED = -7.0  # log-odds of a surprise before the calibration


class Standard(nn.Module):
    """Features to zero mean and unit spread, as in a sample [row, feature] of them."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        spread = sample.std(0)
        self.register_buffer("mean", sample.mean(0))
        self.register_buffer("spread", torch.where(spread > 1e-5, spread, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features, same shape."""
        deviations: Tensor = (features - self.get_buffer("mean")) / self.get_buffer("spread")
        return deviations.clamp(-CLIP, CLIP)


class QuantileNetwork(nn.Module):
    """Quantiles as the present level, plus curves of other times by learned and by gated weights, plus a correction."""

    def __init__(self, sample: Tensor, shape: tuple[int, int, int]) -> None:
        super().__init__()
        targets, horizon, levels = self.shape = shape
        self.inputs = nn.Sequential(Standard(sample), nn.Linear(sample.shape[1], HIDDEN), nn.SiLU())
        self.layers = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(LAYERS))
        self.correction = nn.Linear(HIDDEN, targets * horizon * levels)
        self.gate = nn.Linear(HIDDEN, CURVES * targets * levels)
        self.weights = nn.Parameter(torch.zeros(CURVES, targets, horizon))
        with torch.no_grad():
            self.weights[1] = 0.5
            for layer in (self.correction, self.gate):
                layer.weight.zero_()
                layer.bias.zero_()
            self.correction.bias.view(shape).copy_(torch.linspace(-0.6, 0.6, levels))

    def forward(self, features: Tensor, level: Tensor, curves: Tensor) -> Tensor:
        """Scaled quantiles [window, target, step, level], not yet in order."""
        hidden = self.inputs(features)
        for layer in self.layers:
            hidden = hidden + functional.silu(layer(hidden))
        gate = self.gate(hidden).view(-1, CURVES, self.shape[0], self.shape[2])
        base = level[:, :, None] + torch.einsum("bcth,cth->bth", curves, self.weights)
        corrected = self.correction(hidden).view(-1, *self.shape) + base[..., None]
        gated = torch.einsum("bcth,bctl->bthl", curves, gate)
        quantiles: Tensor = corrected + gated
        return quantiles


def mixing_of(levels: Sequence[float]) -> Tensor:
    """Weights [level, fitted level] that interpolate, and continue beyond the ends, linearly on the normal scale."""
    if not levels or any(not 0 < level < 1 for level in levels) or list(levels) != sorted(set(levels)):
        raise UsageError(f"levels are {list(levels)}; give ascending numbers between 0 and 1")
    fitted = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
    wanted = np.array([NormalDist().inv_cdf(level) for level in levels])
    right = np.clip(np.searchsorted(fitted, wanted), 1, len(fitted) - 1)
    share = (wanted - fitted[right - 1]) / (fitted[right] - fitted[right - 1])
    mixing = np.zeros((len(levels), len(fitted)))
    rows = np.arange(len(levels))
    mixing[rows, right - 1], mixing[rows, right] = 1 - share, share
    return torch.from_numpy(mixing.astype(np.float32))


def pinball(quantiles: Tensor, truth: Tensor, levels: Tensor) -> Tensor:
    """Mean pinball loss [window, target]; a truth that is NaN counts as a hit."""
    known = ~torch.isnan(truth)
    error = torch.where(known, truth, 0.0)[..., None] - quantiles
    loss = (error @ levels + functional.relu(-error).sum(-1)) * known
    return loss.mean(2) / len(levels)


def fit_quantiles(
    network: QuantileNetwork, batches: Iterator[tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]], steps: int,
    levels: Tensor,
) -> None:  # fmt: skip
    """Fit by the sum over targets of log weighted quantile loss, on batches of (inputs, truth, spread).

    The truth is scaled [window, target, step], the spread [window, target] undoes the scale: loud servers count as in
    the score. Afterwards the network has the moving average of its weights.
    """
    usual: Tensor | None = None

    def loss() -> Tensor:
        nonlocal usual
        inputs, truth, spread = next(batches)
        target = (pinball(network(*inputs), truth, levels) * spread).mean(0)
        usual = target.detach() if usual is None else 0.98 * usual + 0.02 * target.detach()
        return (target / usual.clamp(min=1e-9)).mean()

    _descend(network, loss, steps, LEARNING_RATE)


class OnsetNetwork(nn.Module):
    """Features [window, feature] to probabilities [window, horizon], calibrated on servers that it was not fitted to.

    An onset comes as the network says, sharpened or flattened and shifted, or else as a surprise at a constant rate.
    """

    def __init__(self, sample: Tensor, horizons: int) -> None:
        super().__init__()
        sizes = (sample.shape[1], ONSET_HIDDEN, ONSET_HIDDEN)
        layers = [
            layer
            for before, after in pairwise(sizes)
            for layer in (nn.Linear(before, after), nn.SiLU(), nn.Dropout(ONSET_DROPOUT))
        ]
        self.odds = nn.Sequential(Standard(sample), *layers, nn.Linear(ONSET_HIDDEN, horizons))
        self.slope = nn.Parameter(torch.ones(horizons, dtype=torch.double))
        self.shift = nn.Parameter(torch.zeros(horizons, dtype=torch.double))
        self.surprise = nn.Parameter(torch.full((horizons,), UNSURPRISED, dtype=torch.double))

    def forward(self, features: Tensor) -> Tensor:
        """Calibrated probabilities in double precision."""
        return self.calibrated(self.odds(features).double())

    def calibrated(self, odds: Tensor) -> Tensor:
        """Probabilities [window, horizon] of raw log-odds."""
        announced = torch.sigmoid(self.slope * odds + self.shift)
        return announced + (1 - announced) * torch.sigmoid(self.surprise)


def fit_onsets(network: OnsetNetwork, features: Tensor, labels: Tensor, weights: Tensor) -> None:
    """Fit by the weighted cross-entropy of features [window, feature] (half precision) and labels [window, horizon].

    Each window is seen once.
    """
    parts = torch.randperm(len(features)).chunk(-(-len(features) // ONSET_BATCH))
    coming = iter(parts)

    def loss() -> Tensor:
        chosen = next(coming)
        odds = network.odds(features[chosen].float())
        each = functional.binary_cross_entropy_with_logits(odds, labels[chosen], reduction="none")
        return (each * weights[chosen, None]).mean()

    _descend(network.odds, loss, len(parts), LEARNING_RATE)


def calibrate_onsets(network: OnsetNetwork, features: Tensor, labels: Tensor, weights: Tensor) -> None:
    """Fit slope, shift and surprise alone, on windows of other servers than the network was fitted to."""
    with torch.no_grad():
        odds = torch.cat([network.odds(part.float()) for part in features.chunk(-(-len(features) // 4096))]).double()
    optimiser = torch.optim.LBFGS([network.slope, network.shift, network.surprise], max_iter=100)

    def step() -> Tensor:
        optimiser.zero_grad()
        probability = network.calibrated(odds).clamp(1e-9, 1 - 1e-9)
        each = functional.binary_cross_entropy(probability, labels.double(), reduction="none")
        loss = (each * weights[:, None]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(step)  # type: ignore[no-untyped-call]


def _descend(network: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """AdamW with warm-up and cosine decay; leaves the average of the weights and the evaluation mode."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1, pct_start=WARM_UP)
    average = [parameter.detach().clone() for parameter in network.parameters()]
    network.train()
    for step in range(steps):
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        memory = min(AVERAGED, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(average, list(network.parameters()), 1 - memory)
    with torch.no_grad():
        for parameter, mean in zip(network.parameters(), average, strict=True):
            parameter.copy_(mean)
    network.eval()
