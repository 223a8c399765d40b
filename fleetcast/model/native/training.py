"""The compiled parts of training as functions of PyTorch's autograd."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fleetcast.model.native.compiler import CompileError, load_kernel

Tensor = torch.Tensor
LANES = 16


class TrainingKernels:
    """What `training.cpp` has, compiled for a hidden size, a size of the reals' networks and a number of heads.

    Raises `CompileError` when there is no compiler or the sizes are not covered.
    """

    def __init__(self, hidden: int, continuous: int, heads: int, folder: Path | None = None) -> None:
        if hidden % 4 or continuous % 4 or hidden % heads:
            raise CompileError(
                f"sizes {hidden} and {continuous} are not multiples of 4, or {heads} heads do not divide"
            )
        sizes = {"HIDDEN": hidden, "CONTINUOUS": continuous, "ATTENTION_HEADS": heads}
        self.library = load_kernel(sizes, folder, "training.cpp")
        self.heads = heads

    @staticmethod
    def fit(*tensors: Tensor) -> bool:
        """Whether these tensors can be worked on: float32 on a processor, without automatic mixed precision."""
        plain = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
        return plain and not torch.is_autocast_enabled("cpu")

    def reals(self, x: Tensor, shares: Tensor, parameters: tuple[Tensor | None, ...], dropout: float) -> Tensor:
        """Weighted sum of the outputs of single-variable networks, [rows, H].

        Args:
            x: values [rows, V], without gradient.
            shares: weights [rows, V].
            parameters: of the V networks: slope, offset, inner, inner bias (both None without dropout), gate, gate
                bias, residual, variance [V, 3], scale, shift; see `selection.Reals`.
            dropout: probability.
        """
        rows = len(x)
        padding = (0, -rows % LANES)
        values, weights = functional.pad(x.T, padding).contiguous(), functional.pad(shares.T, padding).contiguous()
        seed = int(torch.randint(2**31, (1,))) if dropout else 0
        found: Tensor = _Reals.apply(self.library, values, weights, dropout, seed, *parameters)  # type: ignore[no-untyped-call]
        return found.T[:rows]

    def attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each decoder step's attention on all steps before it, by head: [batch, decoder steps, heads, d].

        `query` is [batch, decoder steps, H], `key` [batch, steps, H], `value` [batch, steps, d]: one for all heads.
        """
        found: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
            self.library, self.heads, query.contiguous(), key.contiguous(), value.contiguous()
        )
        return found


class _Reals(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, library: Any, x: Tensor, shares: Tensor, dropout: float, seed: int, *parameters: Tensor | None
    ) -> Tensor:
        flat = [None if part is None else part.contiguous() for part in parameters]
        variables, rows = x.shape
        out = x.new_empty(flat[-1].shape[-1] if flat[-1] is not None else 0, rows)
        library.reals_forward(
            _pointers(flat), _size(variables), _size(rows), _pointer(x), _pointer(shares),
            ctypes.c_float(dropout), ctypes.c_uint32(seed), _pointer(out),
        )  # fmt: skip
        ctx.save_for_backward(x, shares, *flat)
        ctx.library, ctx.dropout, ctx.seed = library, dropout, seed
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, shares, *flat = ctx.saved_tensors
        variables, rows = x.shape
        gradient = gradients[0].contiguous()
        of_shares = torch.empty_like(shares)
        found = [None if part is None else torch.empty_like(part) for part in flat]
        ctx.library.reals_backward(
            _pointers(flat), _size(variables), _size(rows), _pointer(x), _pointer(shares),
            ctypes.c_float(ctx.dropout), ctypes.c_uint32(ctx.seed), _pointer(gradient), _pointer(of_shares),
            _pointers(found),
        )  # fmt: skip
        return (None, None, of_shares, None, None, *found)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, library: Any, heads: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, ahead, hidden = query.shape
        steps, depth = key.shape[1], value.shape[2]
        ctx.scale = (hidden // heads) ** -0.5
        out, logsum = query.new_empty(batch, ahead, heads, depth), query.new_empty(batch, ahead, heads)
        library.attention_forward(
            _pointer(query), _pointer(key), _pointer(value), _size(batch), _size(ahead), _size(steps),
            ctypes.c_float(ctx.scale), _pointer(out), _pointer(logsum),
        )  # fmt: skip
        ctx.save_for_backward(query, key, value, out, logsum)
        ctx.library = library
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, logsum = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        found = [torch.empty_like(tensor) for tensor in (query, key, value)]
        ctx.library.attention_backward(
            _pointer(query), _pointer(key), _pointer(value), _size(query.shape[0]), _size(query.shape[1]),
            _size(key.shape[1]), ctypes.c_float(ctx.scale), _pointer(out), _pointer(logsum), _pointer(gradient),
            *(_pointer(tensor) for tensor in found),
        )  # fmt: skip
        return (None, None, *found)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pointers(tensors: list[Tensor | None]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))


def _size(number: int) -> ctypes.c_int64:
    return ctypes.c_int64(number)
