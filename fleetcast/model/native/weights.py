"""A transformer's parameters as the flat array and the per-window contexts that `kernel.cpp` reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fleetcast.model.selection import Selection, gate_of
from fleetcast.model.transformer import FastTemporalFusionTransformer

Tensor = torch.Tensor


def sizes_of(network: FastTemporalFusionTransformer) -> dict[str, int] | None:
    """The macros of `kernel.cpp` for this network; None for one that the kernel does not cover."""
    options = network.hparams
    hidden, continuous = options.hidden_size, options.hidden_continuous_size
    covered = (
        options.lstm_layers == 1
        and continuous < hidden
        and hidden % options.attention_head_size == 0
        and options.causal_attention
        and network.n_targets == 1
        and len(options.time_varying_categoricals_encoder) <= 1
        and not options.time_varying_categoricals_decoder
        and min(len(options.time_varying_reals_encoder), len(options.time_varying_reals_decoder)) > 1
        and all(module.input_size_total != module.num_inputs for module in _selections(network))
    )
    if not covered:
        return None
    words = options.time_varying_categoricals_encoder
    return {
        "HIDDEN": hidden,
        "CONTINUOUS": continuous,
        "ATTENTION_HEADS": options.attention_head_size,
        "OUTPUTS": options.output_size,
        "ENCODER_REALS": len(options.time_varying_reals_encoder),
        "ENCODER_WORDS": len(words),
        "ENCODER_ROWS": options.embedding_sizes[words[0]][0] if words else 1,
        "DECODER_REALS": len(options.time_varying_reals_decoder),
    }


def flat_weights(network: FastTemporalFusionTransformer) -> npt.NDArray[np.float32]:
    """All that `struct Weights` holds, in its order."""
    with torch.no_grad():
        pieces = [piece.reshape(-1) for piece in _pieces(network)]
        return np.ascontiguousarray(torch.cat(pieces).numpy())


def _selections(network: FastTemporalFusionTransformer) -> tuple[Any, Any]:
    return network.encoder_variable_selection, network.decoder_variable_selection


def _pieces(network: FastTemporalFusionTransformer) -> Iterator[Tensor]:
    for selection in _selections(network):
        yield from _selection(network.collapsed(selection, merge=True))
    yield from _lstm(network.lstm_encoder)
    yield from _lstm(network.lstm_decoder)
    yield from _linear_gate(network.post_lstm_gate_encoder.fc, network.post_lstm_add_norm_encoder.norm)
    yield network.static_enrichment.fc1.weight.T
    yield from _merged_gate(network.static_enrichment)
    yield from _attention(network.multihead_attn)
    yield from _linear_gate(network.post_attn_gate_norm.glu.fc, network.post_attn_gate_norm.add_norm.norm)
    yield from _linear(network.pos_wise_ff.fc1)
    yield from _merged_gate(network.pos_wise_ff)
    yield from _linear_gate(network.pre_output_gate_norm.glu.fc, network.pre_output_gate_norm.add_norm.norm)
    yield from _linear(network.output_layer)


def _selection(selection: Selection) -> Iterator[Tensor]:
    weights, reals = selection.weights, selection.reals
    if weights is None or weights.residual_norm is None:
        raise ValueError("the kernel needs a selection of several variables with a resampled residual")
    yield from (weights.hidden, *weights.hidden_tables, weights.residual, weights.residual_bias)
    yield from (*weights.residual_tables, *weights.residual_norm, weights.gate.weight, weights.gate.bias)
    yield from (*weights.norm, *selection.tables)
    for v in range(len(reals.slope)):
        yield from (reals.slope[v], reals.offset[v], reals.gate.weight[v], reals.gate.bias[v], reals.residual[v])
        yield from (reals.variance[:, v], reals.scale[v], reals.shift[v])


def _lstm(lstm: Any) -> Iterator[Tensor]:
    yield torch.cat([lstm.weight_ih_l0.T, lstm.weight_hh_l0.T])
    yield lstm.bias_ih_l0 + lstm.bias_hh_l0


def _linear(layer: Any) -> Iterator[Tensor]:
    yield from (layer.weight.T, layer.bias)


def _linear_gate(layer: Any, norm: Any) -> Iterator[Tensor]:
    yield from _linear(layer)
    yield from (norm.weight, norm.bias)


def _merged_gate(module: Any) -> Iterator[Tensor]:
    gate, norm = gate_of([module], merge=True), module.gate_norm.add_norm.norm
    yield from (gate.weight, gate.bias, norm.weight, norm.bias)


def _attention(layer: Any) -> Iterator[Tensor]:
    scale = layer.d_k**-0.5
    yield torch.cat([query.weight for query in layer.q_layers]).T * scale
    yield torch.cat([query.bias for query in layer.q_layers]) * scale
    yield torch.cat([key.weight for key in layer.k_layers]).T
    yield torch.cat([key.bias for key in layer.k_layers])
    yield from _linear(layer.v_layer)
    yield layer.w_h.weight.T
