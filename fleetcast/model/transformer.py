"""The library's Temporal Fusion Transformer with the same parameters and a faster forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_forecasting import TemporalFusionTransformer
from torch import nn
from torch.nn import functional

from fleetcast.model.native.compiler import CompileError
from fleetcast.model.native.training import TrainingKernels
from fleetcast.model.selection import Selection, collapse, gate, gate_of, select

Tensor = torch.Tensor
Batch = dict[str, torch.Tensor]


class FastTemporalFusionTransformer(TemporalFusionTransformer):  # type: ignore[misc]
    """pytorch-forecasting's network (Lim et al. 2021): same names, shapes and numbers, restructured forward pass.

    A state dict goes both ways. The output is the raw one: nothing is scaled back. Without dropout, and in evaluation,
    the numbers are the library's to float32 rounding; dropout draws its masks in another order.
    """

    kernels: TrainingKernels | None = None  # compiled functions for training on a processor, see `use_kernels`
    _frozen: dict[Any, Selection] | None = None

    def freeze(self) -> None:
        """For prediction alone: works out once what depends on the parameters, which must not change afterwards."""
        self.eval().requires_grad_(False)
        self._frozen = None  # what an earlier call found does not count
        networks = (
            self.static_variable_selection, self.encoder_variable_selection, self.decoder_variable_selection
        )  # fmt: skip
        with torch.inference_mode():
            self._frozen = {network: self.collapsed(network, merge=True) for network in networks if network.input_sizes}

    def use_kernels(self, folder: Path | None = None) -> None:
        """Train with compiled functions where they fit. Raises `CompileError`."""
        options = self.hparams
        if not options.causal_attention:
            raise CompileError("the kernels attend to the past only")
        sizes = (options.hidden_size, options.hidden_continuous_size, options.attention_head_size)
        self.kernels = TrainingKernels(*sizes, folder)

    def transform_output(self, prediction: Any, target_scale: Any, loss: Any = None) -> Any:
        """The network's raw output; whoever calls it scales it."""
        return prediction

    def forward(self, x: Batch, attention: bool = False, shared: int = 0) -> dict[str, Any]:
        """Raw output of a batch.

        Args:
            x: `encoder_cont`, `decoder_cont` [batch, time, real], `encoder_cat`, `decoder_cat` [batch, time, word],
                `encoder_lengths`, `decoder_lengths` [batch]; without lengths all windows are full.
            attention: also return what `interpret_output` reads (attention and selection weights, lengths).
            shared: so many of the first encoder reals, which are the first decoder reals too, are the same in the whole
                batch (calendar of one origin): they are worked out once.
        """
        merge = not (self.training and self.hparams.dropout > 0)
        dropout = 0.0 if merge else float(self.hparams.dropout)
        lengths = _lengths(x)
        static, static_weights = self.static_embedding(x, merge, dropout)
        context = self.static_context_variable_selection(static)
        encoder, encoder_weights = self._select(
            self.encoder_variable_selection, x["encoder_cont"], x["encoder_cat"], context, shared, merge, dropout
        )
        decoder, decoder_weights = self._select(
            self.decoder_variable_selection, x["decoder_cont"], x["decoder_cat"], context, shared, merge, dropout
        )
        past, future = self._recur(encoder, decoder, static, lengths)
        local = torch.cat([self._skip(past, encoder), self._skip(future, decoder)], dim=1)
        enriched = _residual_network(
            self.static_enrichment, local, self.static_context_enrichment(static), merge, dropout
        )
        asked = enriched[:, encoder.shape[1] :]
        attended, shares = self._attend(asked, enriched, encoder.shape[1], lengths, attention, dropout)
        attended = _gate_add_norm(self.post_attn_gate_norm, attended, asked, dropout)
        output = _residual_network(self.pos_wise_ff, attended, None, merge, dropout)
        output = _gate_add_norm(self.pre_output_gate_norm, output, local[:, encoder.shape[1] :], 0.0)
        if self.n_targets > 1:
            prediction: Any = [layer(output) for layer in self.output_layer]
        else:
            prediction = self.output_layer(output)
        if not attention or shares is None:
            return {"prediction": prediction}
        steps = encoder.shape[1]
        full = (x["encoder_cont"].shape[1], x["decoder_cont"].shape[1])
        whole = [torch.full((len(encoder),), length, device=encoder.device) for length in full]
        return {
            "prediction": prediction,
            "encoder_attention": shares[..., :steps],
            "decoder_attention": shares[..., steps:],
            "static_variables": static_weights,
            "encoder_variables": encoder_weights[:, :, None],
            "decoder_variables": decoder_weights[:, :, None],
            "encoder_lengths": whole[0] if lengths is None else lengths[0],
            "decoder_lengths": whole[1] if lengths is None else lengths[1],
        }

    def collapsed(self, network: Any, merge: bool) -> Selection:
        """A variable selection network of this transformer in the form that is worked out quickly."""
        if self._frozen is not None and network in self._frozen:
            return self._frozen[network]
        names = tuple(name for name in network.input_sizes if name in self.hparams.x_categoricals)
        return collapse(network, self.input_embeddings.embeddings, names, merge)

    def static_embedding(self, x: Batch, merge: bool = True, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """Static embedding [batch, H] and the static variables' weights [batch, 1, K]."""
        if not self.static_variables:
            size = len(x["encoder_cont"])
            zeros = x["encoder_cont"].new_zeros(size, self.hparams.hidden_size)
            return zeros, x["encoder_cont"].new_zeros(size, 0)
        found, weights = self._select(
            self.static_variable_selection, x["encoder_cont"][:, :1], x["encoder_cat"][:, :1], None, 0, merge, dropout
        )
        return found[:, 0], weights

    def _select(
        self, network: Any, cont: Tensor, cat: Tensor, context: Tensor | None, shared: int, merge: bool, dropout: float
    ) -> tuple[Tensor, Tensor]:
        names = tuple(network.input_sizes)
        words, reals = self.hparams.x_categoricals, self.hparams.x_reals
        codes = tuple(cat[:, :, words.index(name)] for name in names if name in words)
        columns = [reals.index(name) for name in names if name not in words]
        return select(
            self.collapsed(network, merge), cont[:, :, columns], codes, context, shared, dropout, self.kernels
        )

    def _recur(
        self, encoder: Tensor, decoder: Tensor, static: Tensor, lengths: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Outputs of both LSTMs."""
        layers = self.hparams.lstm_layers
        state = (
            self.static_context_initial_hidden_lstm(static).expand(layers, -1, -1).contiguous(),
            self.static_context_initial_cell_lstm(static).expand(layers, -1, -1).contiguous(),
        )
        if lengths is None:
            past, state = nn.LSTM.forward(self.lstm_encoder, encoder, state)
            return past, nn.LSTM.forward(self.lstm_decoder, decoder, state)[0]
        past, state = self.lstm_encoder(encoder, state, lengths=lengths[0], enforce_sorted=False)
        future, _ = self.lstm_decoder(decoder, state, lengths=lengths[1], enforce_sorted=False)
        return past, future

    def _skip(self, output: Tensor, before: Tensor) -> Tensor:
        return self.post_lstm_add_norm_encoder(self.post_lstm_gate_encoder(output), before)  # type: ignore[no-any-return]

    def _attend(
        self, asked: Tensor, known: Tensor, past: int, lengths: tuple[Tensor, Tensor] | None, weights: bool,
        dropout: float,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Interpretable multi-head attention: heads share one value projection, and their outputs are averaged."""
        layer, heads = self.multihead_attn, self.multihead_attn.n_head
        if self.kernels is not None and not weights and lengths is None and self.kernels.fit(asked, known):
            query, key = (
                functional.linear(side, *_joined(part))
                for side, part in ((asked, layer.q_layers), (known, layer.k_layers))
            )
            attended = self.kernels.attention(query, key, layer.v_layer(known))
            attended = functional.dropout(attended, dropout) if dropout else attended
            output = layer.w_h(attended.mean(dim=2))
            return functional.dropout(output, dropout) if dropout else output, None
        queries = _heads(functional.linear(asked, *_joined(layer.q_layers)), heads)
        keys = _heads(functional.linear(known, *_joined(layer.k_layers)), heads)
        values = layer.v_layer(known)[:, None]
        mask = self._mask(asked, past, lengths)
        shares = None
        if weights:
            scores = queries @ keys.transpose(2, 3) / keys.shape[-1] ** 0.5
            found = torch.softmax(scores.masked_fill(~mask, self.hparams.mask_bias), dim=-1)
            shares, attended = found.transpose(1, 2), found @ values
        else:
            attended = functional.scaled_dot_product_attention(
                queries, keys, values.expand(-1, heads, -1, -1), attn_mask=mask
            )
        if dropout:
            attended = functional.dropout(attended, dropout)
        output = layer.w_h(attended.mean(dim=1))
        return functional.dropout(output, dropout) if dropout else output, shares

    def _mask(self, asked: Tensor, past: int, lengths: tuple[Tensor, Tensor] | None) -> Tensor:
        """Which steps may be attended to, True for yes: [1 or batch, 1, decoder, time]."""
        if lengths is not None:
            hidden: Tensor = self.get_attention_mask(encoder_lengths=lengths[0], decoder_lengths=lengths[1])
            return ~hidden[:, None]
        ahead = asked.shape[1]
        later = torch.ones(ahead, ahead, dtype=torch.bool, device=asked.device)
        if self.hparams.causal_attention:
            later = later.tril(-1)
        return torch.cat([later.new_ones(ahead, past), later], dim=1)[None, None]


def _lengths(x: Batch) -> tuple[Tensor, Tensor] | None:
    """The lengths of the windows; None when all are full."""
    if "encoder_lengths" not in x:
        return None
    lengths = x["encoder_lengths"], x["decoder_lengths"]
    full = x["encoder_cont"].shape[1], x["decoder_cont"].shape[1]
    return None if all(bool((one == most).all()) for one, most in zip(lengths, full, strict=True)) else lengths


def _joined(layers: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of linear layers side by side."""
    return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])


def _heads(values: Tensor, heads: int) -> Tensor:
    """[batch, time, H] as [batch, head, time, H / heads]."""
    return values.view(*values.shape[:2], heads, -1).transpose(1, 2)


def _gate_add_norm(module: Any, values: Tensor, skip: Tensor, dropout: float) -> Tensor:
    values = functional.dropout(values, dropout) if dropout else values
    gated = functional.glu(module.glu.fc(values), dim=-1)
    return module.add_norm.norm(gated + skip)  # type: ignore[no-any-return]


def _residual_network(module: Any, values: Tensor, context: Tensor | None, merge: bool, dropout: float) -> Tensor:
    """A gated residual network of equal sizes, with a context a batch row."""
    hidden = module.fc1(values)
    if context is not None:
        hidden = hidden + module.context(context)[:, None]
    width = hidden.shape[-1]
    gated = gate(gate_of([module], merge)[0], functional.elu(hidden).reshape(-1, width), dropout).view(values.shape)
    return module.gate_norm.add_norm.norm(gated + values)  # type: ignore[no-any-return]
