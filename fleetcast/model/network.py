"""A Temporal Fusion Transformer with a head for quantiles of several targets."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn import functional

from fleetcast.model.config import NetworkConfig
from fleetcast.model.transformer import FastTemporalFusionTransformer

Batch = dict[str, torch.Tensor]


def build_transformer(config: NetworkConfig) -> FastTemporalFusionTransformer:
    """The network with the inputs and sizes of `config`, its parameters named as pytorch-forecasting names them."""
    outputs = config.targets * len(config.levels) * config.decoder_pool
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
        raw = raw.reshape(len(raw), -1, config.targets, len(config.levels))
        center, scale = batch["center"][:, None, :, None], batch["scale"][:, None, :, None]
        quantiles: torch.Tensor
        if config.head == "floor":
            quantiles = batch["base"] + scale * raw
        else:
            quantiles = functional.softplus(_softplus_inverse(center) + scale / _softplus_slope(center) * raw)
        if self.training:
            return quantiles
        return quantiles.clamp_min(0).sort(dim=-1).values


def _softplus_inverse(values: torch.Tensor) -> torch.Tensor:
    """x with softplus(x) = values, for values above 0 (clamped at 1e-4)."""
    positive = values.clamp_min(1e-4)
    inverse: torch.Tensor = positive + torch.log(-torch.expm1(-positive))
    return inverse


def _softplus_slope(values: torch.Tensor) -> torch.Tensor:
    """Derivative of softplus at the point where it has these values: carries a scale into its argument."""
    slope: torch.Tensor = -torch.expm1(-values.clamp_min(1e-4))
    return slope
