"""Variable selection of a Temporal Fusion Transformer, restructured: the library's parameters, fewer operations.

A real's prescaler and the first linear layer of its gated residual network are affine in one scalar, so they collapse
to two vectors; the layer norm of an affine function has a variance in closed form; the networks of all reals are one
batched product; a categorical's embedding goes through its resampling once a row of its table; and the first linear
layer of the selection itself collapses to a small matrix and a table a categorical.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from fleetcast.model.native.training import TrainingKernels

Tensor = torch.Tensor


@dataclass(frozen=True)
class Gate:
    """The second linear layer and the gate's linear layer of gated residual networks; one matrix where they merge."""

    inner: Tensor | None  # [..., in, in]
    inner_bias: Tensor | None
    weight: Tensor  # [..., in, 2 x out]
    bias: Tensor  # [..., 1, 2 x out]

    def __getitem__(self, index: int | slice) -> Gate:
        """Of some of the networks on the leading axis."""
        inner = None if self.inner is None else self.inner[index]
        inner_bias = None if self.inner_bias is None else self.inner_bias[index]
        return Gate(inner, inner_bias, self.weight[index], self.bias[index])


@dataclass(frozen=True)
class Reals:
    """The single-variable networks of `V` reals of `c` dimensions each."""

    slope: Tensor  # [V, 1, c], first linear layer as a function of the scalar
    offset: Tensor  # [V, 1, c]
    gate: Gate  # [V, c, 2H]
    residual: Tensor  # [V, 3, H], of (x / deviation, 1 / deviation, 1)
    variance: Tensor  # [3, V, 1], of (x x, x, 1)
    scale: Tensor  # [V, 1, H], layer norm at the end
    shift: Tensor  # [V, H]

    def __getitem__(self, index: slice) -> Reals:
        """Of some of the reals."""
        return Reals(
            self.slope[index], self.offset[index], self.gate[index], self.residual[index], self.variance[:, index],
            self.scale[index], self.shift[index],
        )  # fmt: skip

    def flat(self) -> tuple[Tensor | None, ...]:
        """As `TrainingKernels.reals` takes them."""
        gate = self.gate
        return (
            self.slope, self.offset, gate.inner, gate.inner_bias, gate.weight, gate.bias, self.residual,
            self.variance[:, :, 0].T, self.scale, self.shift,
        )  # fmt: skip


class Weights(NamedTuple):
    """The network that weighs `K` variables."""

    hidden: Tensor  # [V, k], of the reals
    hidden_bias: Tensor  # [k]
    hidden_tables: tuple[Tensor, ...]  # [rows, k] each, of the categoricals
    context: Tensor | None  # [H, k]
    residual: Tensor  # [V, K]
    residual_bias: Tensor
    residual_tables: tuple[Tensor, ...]
    residual_norm: tuple[Tensor, Tensor] | None
    gate: Gate  # [k, 2K]
    norm: tuple[Tensor, Tensor]


class Selection(NamedTuple):
    """A variable selection network, collapsed. Variables are in the network's order: categoricals, then reals."""

    tables: tuple[Tensor, ...]  # [rows, H] each, outputs of the categoricals
    reals: Reals
    weights: Weights | None  # None where there is one variable


def collapse(
    network: Any, embeddings: Mapping[str, nn.Embedding], categoricals: tuple[str, ...], merge: bool
) -> Selection:
    """The parameters of a library's `VariableSelectionNetwork` in the form that `select` takes.

    Gradients flow through. `merge` joins the two linear layers that only dropout separates: right where it is off.
    """
    names = tuple(network.input_sizes)
    reals = tuple(name for name in names if name not in categoricals)
    if names != (*categoricals, *reals):
        raise ValueError(f"categoricals {categoricals} must come first in {names}")
    tables = tuple(network.single_variable_grns[name](embeddings[name].weight) for name in categoricals)
    weight = torch.stack([network.prescalers[name].weight[:, 0] for name in reals])
    bias = torch.stack([network.prescalers[name].bias for name in reals])
    weights = _weights(network, embeddings, categoricals, weight, bias, merge) if len(names) > 1 else None
    return Selection(
        tables, _reals([network.single_variable_grns[name] for name in reals], weight, bias, merge), weights
    )


def _reals(networks: list[Any], weight: Tensor, bias: Tensor, merge: bool) -> Reals:
    first = torch.stack([grn.fc1.weight for grn in networks])
    first_bias = torch.stack([grn.fc1.bias for grn in networks])
    slope = torch.einsum("voc,vc->vo", first, weight)
    offset = torch.einsum("voc,vc->vo", first, bias) + first_bias
    residual, variance = _affine_residual(networks, weight, bias)
    norms = [grn.gate_norm.add_norm.norm for grn in networks]
    return Reals(
        slope[:, None],
        offset[:, None],
        gate_of(networks, merge),
        residual,
        variance,
        torch.stack([norm.weight for norm in norms])[:, None],
        torch.stack([norm.bias for norm in norms]),
    )


def gate_of(networks: list[Any], merge: bool) -> Gate:
    """`Gate` of gated residual networks of one shape, a leading axis over them."""
    inner = torch.stack([grn.fc2.weight for grn in networks]).transpose(1, 2)
    inner_bias = torch.stack([grn.fc2.bias for grn in networks])[:, None]
    outer = torch.stack([grn.gate_norm.glu.fc.weight for grn in networks]).transpose(1, 2)
    outer_bias = torch.stack([grn.gate_norm.glu.fc.bias for grn in networks])[:, None]
    if not merge:
        return Gate(inner, inner_bias, outer, outer_bias)
    return Gate(None, None, inner @ outer, inner_bias @ outer + outer_bias)


def _affine_residual(networks: list[Any], weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """What is added to the gate's output, as (matrix of three features of x, coefficients of the variance)."""
    if not hasattr(networks[0], "resample_norm"):  # as many dimensions as the output: added as it is
        flat = torch.stack([torch.zeros_like(bias), weight, bias], dim=1)
        return flat[:, [1, 0, 2]], torch.stack([torch.zeros_like(bias[:, :1])] * 2 + [torch.ones_like(bias[:, :1])])
    norms = [grn.resample_norm for grn in networks]
    gain = torch.stack([2 * torch.sigmoid(norm.mask) for norm in norms])
    width = gain.shape[1]
    slope = _interpolated(weight, width) * gain
    offset = _interpolated(bias, width) * gain
    slope, offset = slope - slope.mean(dim=1, keepdim=True), offset - offset.mean(dim=1, keepdim=True)
    square, cross, constant = (
        (slope * slope).mean(dim=1, keepdim=True),
        2 * (slope * offset).mean(dim=1, keepdim=True),
        (offset * offset).mean(dim=1, keepdim=True) + norms[0].norm.eps,
    )
    scale = torch.stack([norm.norm.weight for norm in norms])
    shift = torch.stack([norm.norm.bias for norm in norms])
    return torch.stack([slope * scale, offset * scale, shift], dim=1), torch.stack([square, cross, constant])


def _interpolated(values: Tensor, width: int) -> Tensor:
    """Rows of `values` stretched to `width` as the library does."""
    return functional.interpolate(values[:, None], width, mode="linear", align_corners=True)[:, 0]


def _weights(
    network: Any, embeddings: Mapping[str, nn.Embedding], categoricals: tuple[str, ...], weight: Tensor, bias: Tensor,
    merge: bool,
) -> Weights:  # fmt: skip
    grn = network.flattened_grn
    sizes = [network.input_sizes[name] for name in network.input_sizes]
    total, count, split = sum(sizes), len(sizes), sum(sizes[: len(categoricals)])

    def pieces(matrix: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """A linear map of the concatenated inputs [out, total], as maps of the reals and of the table rows."""
        columns = torch.split(matrix[:, :split], sizes[: len(categoricals)], dim=1) if categoricals else ()
        found = tuple(embeddings[name].weight @ part.T for name, part in zip(categoricals, columns, strict=True))
        of_reals = matrix[:, split:].reshape(len(matrix), len(weight), -1)
        return (
            torch.einsum("ovc,vc->vo", of_reals, weight), torch.einsum("ovc,vc->o", of_reals, bias), found
        )  # fmt: skip

    hidden, hidden_bias, hidden_tables = pieces(grn.fc1.weight)
    straight = torch.eye(total, device=weight.device, dtype=weight.dtype)
    norm = None
    if hasattr(grn, "resample_norm"):
        gain = 2 * torch.sigmoid(grn.resample_norm.mask)
        straight = _interpolated(straight, count) * gain
        norm = (grn.resample_norm.norm.weight, grn.resample_norm.norm.bias)
    residual, residual_bias, residual_tables = pieces(straight.T)
    gate = gate_of([grn], merge)
    last = grn.gate_norm.add_norm.norm
    return Weights(
        hidden,
        hidden_bias + grn.fc1.bias,
        hidden_tables,
        grn.context.weight.T if grn.context_size is not None else None,
        residual,
        residual_bias,
        residual_tables,
        norm,
        gate[0],
        (last.weight, last.bias),
    )


def select(
    selection: Selection,
    reals: Tensor,
    codes: tuple[Tensor, ...],
    context: Tensor | None,
    shared: int = 0,
    dropout: float = 0.0,
    kernels: TrainingKernels | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply a variable selection network.

    Args:
        selection: from `collapse`.
        reals: [batch, time, V].
        codes: [batch, time] int64 for each categorical.
        context: [batch, H] or None.
        shared: so many of the first reals are the same in the whole batch, and are worked out for its first row only.
        dropout: probability; above 0 the selection must not be merged.
        kernels: compiled functions to use where they fit.

    Returns (output [batch, time, H], weights [batch, time, K]).
    """
    size, steps, count = reals.shape
    weights = _weigh(selection.weights, reals, codes, context, dropout)
    own, shares = reals[:, :, shared:], weights[..., len(codes) + shared :]
    networks = selection.reals[shared:]
    rows = (own.reshape(size * steps, -1), shares.reshape(size * steps, -1))
    if kernels is not None and kernels.fit(*rows) and count > shared:
        output = kernels.reals(*rows, networks.flat(), dropout)
    else:
        output = _weighted_sum(networks, *rows, dropout)
    output = output.reshape(size, steps, -1)
    if shared:
        once = single(selection.reals[:shared], reals[0, :, :shared], dropout)  # [time, shared, H]
        of_shared = weights[..., len(codes) : len(codes) + shared]
        output = output + torch.bmm(of_shared.transpose(0, 1), once).transpose(0, 1)
    for place, (table, code) in enumerate(zip(selection.tables, codes, strict=True)):
        output = output + weights[..., place : place + 1] * functional.embedding(code, table)
    return output, weights


def single(reals: Reals, values: Tensor, dropout: float = 0.0) -> Tensor:
    """Outputs of single-variable networks, [N, V, H]; `values` is [N, V]."""
    return (_before_scale(reals, values, dropout) * reals.scale + reals.shift[:, None]).transpose(0, 1)


def _weighted_sum(reals: Reals, values: Tensor, shares: Tensor, dropout: float) -> Tensor:
    """[N, H]; `values` and `shares` are [N, V]."""
    scaled = _before_scale(reals, values, dropout) * reals.scale
    return (scaled * shares.T[:, :, None]).sum(dim=0) + shares @ reals.shift


def _before_scale(reals: Reals, values: Tensor, dropout: float) -> Tensor:
    """Outputs of the single-variable networks before the last scale and shift, [V, N, H]; `values` is [N, V]."""
    x = values.T
    hidden = functional.elu(torch.addcmul(reals.offset, x[:, :, None], reals.slope))
    gated = gate(reals.gate, hidden, dropout)
    square, cross, constant = reals.variance
    inverse = torch.rsqrt((square * x + cross) * x + constant)
    features = torch.stack([x * inverse, inverse, torch.ones_like(x)], dim=2)
    total = torch.baddbmm(gated, features, reals.residual)
    return functional.layer_norm(total, total.shape[-1:])


def gate(parameters: Gate, hidden: Tensor, dropout: float) -> Tensor:
    """The gated linear unit that follows a hidden layer, [..., N, out]."""
    if parameters.inner is not None and parameters.inner_bias is not None:
        hidden = _affine(hidden, parameters.inner, parameters.inner_bias)
        hidden = functional.dropout(hidden, dropout) if dropout else hidden
    return functional.glu(_affine(hidden, parameters.weight, parameters.bias), dim=-1)


def _affine(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.dim() == 3:
        return torch.bmm(values, weight).add_(bias)  # `baddbmm` copies the bias as often as there are rows
    return torch.addmm(bias, values, weight)


def _weigh(
    weights: Weights | None, reals: Tensor, codes: tuple[Tensor, ...], context: Tensor | None, dropout: float
) -> Tensor:
    """The share of each variable, [batch, time, K]."""
    size, steps, _ = reals.shape
    if weights is None:
        return torch.ones_like(reals)
    hidden = reals @ weights.hidden + weights.hidden_bias
    straight = reals @ weights.residual + weights.residual_bias
    for code, table, other in zip(codes, weights.hidden_tables, weights.residual_tables, strict=True):
        hidden = hidden + functional.embedding(code, table)
        straight = straight + functional.embedding(code, other)
    if context is not None and weights.context is not None:
        hidden = hidden + (context @ weights.context)[:, None]
    gated = gate(weights.gate, functional.elu(hidden).reshape(size * steps, -1), dropout).view(size, steps, -1)
    if weights.residual_norm is not None:
        straight = functional.layer_norm(straight, straight.shape[-1:], *weights.residual_norm)
    scores = functional.layer_norm(gated + straight, gated.shape[-1:], *weights.norm)
    shares = torch.softmax(scores.transpose(1, 2).contiguous(), dim=1)  # vectorised over time, which is longer
    return shares.transpose(1, 2).contiguous()
