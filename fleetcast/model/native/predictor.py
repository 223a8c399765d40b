"""Prediction with the compiled kernel: the raw output of a network in evaluation, without PyTorch's operations."""

from __future__ import annotations

import copy
import ctypes
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fleetcast.model.native.compiler import CompileError, load_kernel
from fleetcast.model.native.weights import flat_weights, sizes_of
from fleetcast.model.selection import single
from fleetcast.model.transformer import FastTemporalFusionTransformer

logger = logging.getLogger(__name__)
Tensor = torch.Tensor
_FIELDS = (
    "encoder", "decoder", "codes", "encoder_context", "decoder_context", "enrichment", "hidden", "cell",
    "encoder_known", "decoder_known",
)  # fmt: skip


class _Inputs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _FIELDS]


class NativePredictor:
    """A network's weights at the time of making, with a kernel for its sizes.

    A window has the same numbers whatever others are in its batch: the kernel works on each by itself, and what depends
    on the static variables, whose matrix products PyTorch orders by the size of the batch, is worked out in float64.

    Raises `CompileError` when the kernel does not cover the network, cannot be compiled or is not the network's.
    """

    def __init__(self, network: FastTemporalFusionTransformer, steps: int, folder: Path | None = None) -> None:
        """`steps` is the most encoder and decoder steps together; `folder` that of compiled kernels."""
        sizes = sizes_of(network)
        if sizes is None:
            raise CompileError("the kernel does not cover a network of this form")
        self.network, self.steps = network, steps
        self.library = load_kernel({**sizes, "STEPS": steps}, folder)
        for name in ("weight_count", "memory_bytes"):
            getattr(self.library, name).restype = ctypes.c_int64
        self.weights = flat_weights(network)
        if self.library.weight_count() != len(self.weights):
            raise CompileError(f"the kernel takes {self.library.weight_count()} weights, this is {len(self.weights)}")
        with torch.no_grad():
            self.encoder = network.collapsed(network.encoder_variable_selection, merge=True)
            self.decoder = network.collapsed(network.decoder_variable_selection, merge=True)
        self.double = copy.deepcopy(network).double()
        self.double.freeze()

    @torch.inference_mode()
    def __call__(self, x: dict[str, Tensor], shared: int = 0) -> Tensor:
        """Raw output [batch, decoder steps, outputs] of full windows; arguments as the network's `forward`."""
        options = self.network.hparams
        columns = [
            [options.x_reals.index(name) for name in names]
            for names in (options.time_varying_reals_encoder, options.time_varying_reals_decoder)
        ]
        encoder, decoder = x["encoder_cont"][:, :, columns[0]], x["decoder_cont"][:, :, columns[1]]
        size, past, ahead = len(encoder), encoder.shape[1], decoder.shape[1]
        if past + ahead > self.steps:
            raise ValueError(f"{past} + {ahead} steps are more than {self.steps}")
        tensors = {
            "encoder": encoder,
            "decoder": decoder,
            "codes": self._codes(x),
            **self._contexts(x),
            "encoder_known": _known(self.encoder, encoder, shared),
            "decoder_known": _known(self.decoder, decoder, shared),
        }
        arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}
        found = np.empty((size, ahead, options.output_size), np.float32)
        memory = np.empty(self.library.memory_bytes(), np.uint8)
        self.library.forecast(
            _pointer(self.weights), ctypes.byref(_Inputs(*(_pointer(arrays[name]) for name in _FIELDS))),
            ctypes.c_int64(size), ctypes.c_int64(past), ctypes.c_int64(ahead), ctypes.c_int32(shared),
            _pointer(memory), _pointer(found),
        )  # fmt: skip
        return torch.from_numpy(found)

    def _contexts(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the static variables of each window give: inputs of the selections, of the enrichment and the LSTM."""
        network = self.double
        static, _ = network.static_embedding({**x, "encoder_cont": x["encoder_cont"][:, :1].double()})
        context = network.static_context_variable_selection(static)
        enrichment = network.static_enrichment
        found = {
            "encoder_context": _context(network.collapsed(network.encoder_variable_selection, merge=True), context),
            "decoder_context": _context(network.collapsed(network.decoder_variable_selection, merge=True), context),
            "enrichment": enrichment.context(network.static_context_enrichment(static)) + enrichment.fc1.bias,
            "hidden": network.static_context_initial_hidden_lstm(static),
            "cell": network.static_context_initial_cell_lstm(static),
        }
        return {name: tensor.float() for name, tensor in found.items()}

    def _codes(self, x: dict[str, Tensor]) -> Tensor:
        words = self.network.hparams.time_varying_categoricals_encoder
        if not words:
            return torch.zeros(x["encoder_cont"].shape[:2], dtype=torch.int32)
        return x["encoder_cat"][:, :, self.network.hparams.x_categoricals.index(words[0])].to(torch.int32)


def _context(selection: Any, context: Tensor) -> Tensor:
    """What a window adds to the hidden layer of a selection, [batch, k]."""
    found: Tensor = context @ selection.weights.context + selection.weights.hidden_bias
    return found


def _known(selection: Any, reals: Tensor, shared: int) -> Tensor:
    """Outputs of the shared reals' networks, [step, shared, H]."""
    if not shared:
        return torch.zeros(1)
    return single(selection.reals[:shared], reals[0, :, :shared])


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
