"""A Temporal Fusion Transformer with a head for quantiles of several targets."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn import functional

from fleetcast.model.config import NetworkConfig
from fleetcast.model.transformer import FastTemporalFusionTransformer

Batch = dict[str, torch.Tensor]

BASE_SCORE = 2.0  # of the untrained quantiles, beside the anchors' which begin at 0: about 0.8 of the whole


def build_transformer(config: NetworkConfig) -> FastTemporalFusionTransformer:
    """The network with the inputs and sizes of `config`, its parameters named as pytorch-forecasting names them."""
    outputs = config.targets * (len(config.levels) + config.anchors) * config.decoder_pool
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        return _transformer(config, outputs)


def _transformer(config: NetworkConfig, outputs: int) -> FastTemporalFusionTransformer:
    return FastTemporalFusionTransformer(
        hidden_size=config.hidden_size,
        lstm_layers=config.lstm_layers,
        dropout=config.dropout,
        output_size=outputs,
        attention_head_size=config.attention_heads,
        max_encoder_length=config.encoder_tokens,
        static_categoricals=list(config.static_categoricals),
        static_reals=list(config.static_reals),
        time_varying_categoricals_encoder=list(config.encoder_categoricals),
        time_varying_categoricals_decoder=[],
        time_varying_reals_encoder=list(config.encoder_reals),
        time_varying_reals_decoder=list(config.decoder_reals),
        x_reals=list(config.reals),
        x_categoricals=[*config.static_categoricals, *config.encoder_categoricals],
        hidden_continuous_size=config.hidden_continuous_size,
        embedding_sizes={name: (rows, config.embedding_size) for name, rows in config.vocabulary.items()},
        logging_metrics=nn.ModuleList(),
    )


class ForecastNetwork(nn.Module):
    """Inputs of a batch of windows to quantiles in contract units."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = build_transformer(config)
        if config.head == "floor":
            nn.init.zeros_(self.transformer.output_layer.weight)
            nn.init.zeros_(self.transformer.output_layer.bias)

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def forward(self, batch: Batch, shared: int = 0) -> torch.Tensor:
        """Quantiles [batch, horizon, target, level].

        In training they may cross, so that each level gets its own gradient; in evaluation they are sorted
        (rearrangement, Chernozhukov et al. 2010) and at least 0. `shared` is how many of the first reals are the same
        in the whole batch (`FastTemporalFusionTransformer.forward`).
        """
        return self.quantiles(self.transformer(batch, shared=shared)["prediction"], batch)

    def quantiles(self, raw: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The transformer's raw output [batch, decoder tokens, outputs] as quantiles, see `forward`."""
        config = self.config
        raw = raw.reshape(len(raw), -1, config.targets, len(config.levels) + config.anchors)
        raw, scores = raw[..., : len(config.levels)], raw[..., len(config.levels) :]
        center, scale = batch["center"][:, None, :, None], batch["scale"][:, None, :, None]
        quantiles: torch.Tensor
        if config.head == "floor":
            quantiles = _moved(batch["base"], scores, batch) + scale * raw
        else:
            quantiles = functional.softplus(_softplus_inverse(center) + scale / _softplus_slope(center) * raw)
        if self.training:
            return quantiles
        return quantiles.clamp_min(0).sort(dim=-1).values


def _moved(base: torch.Tensor, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The untrained quantiles, moved towards `batch["anchors"]` by shares that are the softmax of `scores`.

    `scores` is [batch, horizon, target, anchor]; the untrained quantiles' own score is `BASE_SCORE`. So the network can
    repeat a value of the past exactly, which matters where days are alike. A missing anchor moves nothing.
    """
    if not scores.shape[-1]:
        return base
    own = torch.full_like(scores[..., :1], BASE_SCORE)
    shares = torch.cat([own, scores], dim=-1).softmax(dim=-1)[..., 1:]
    way = batch["anchors"][..., None, :] - base[..., None]
    return base + (torch.nan_to_num(way) * shares[..., None, :]).sum(dim=-1)


def _softplus_inverse(values: torch.Tensor) -> torch.Tensor:
    """x with softplus(x) = values, for values above 0 (clamped at 1e-4)."""
    positive = values.clamp_min(1e-4)
    inverse: torch.Tensor = positive + torch.log(-torch.expm1(-positive))
    return inverse


def _softplus_slope(values: torch.Tensor) -> torch.Tensor:
    """Derivative of softplus at the point where it has these values: carries a scale into its argument."""
    slope: torch.Tensor = -torch.expm1(-values.clamp_min(1e-4))
    return slope
