"""The restructured transformer and its compiled form give the library's numbers."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_forecasting import TemporalFusionTransformer

from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.config import PRESETS, NetworkConfig
from fleetcast.model.native.compiler import CompileError, compiled_kernel, load_kernel
from fleetcast.model.native.predictor import NativePredictor
from fleetcast.model.network import build_transformer
from fleetcast.model.transformer import FastTemporalFusionTransformer
from fleetcast.settings import ForecastSettings
from fleetcast.training.plan import network_for
from fleetcast.windows.spec import WindowSpec
from tests.unit.test_model import bundle_of

Batch = dict[str, torch.Tensor]
TOLERANCE = 1e-5


def config_of(preset: str, **changes: Any) -> NetworkConfig:
    chosen = PRESETS[preset]
    spec = WindowSpec(
        targets=chosen.targets or DEFAULT_TARGETS,
        features=chosen.features or METRIC_NAMES,
        levels=QUANTILE_LEVELS,
        **chosen.window,
    )
    return network_for(spec, chosen).model_copy(update={"dropout": 0.0, **changes})


def library(ours: FastTemporalFusionTransformer, trained: bool) -> TemporalFusionTransformer:
    """The library's own network with the same weights, which `ours` takes from it."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = TemporalFusionTransformer(**ours.hparams)
    theirs.transform_output = lambda prediction, target_scale, loss=None: prediction
    if trained:  # far from where weights begin: no bias is zero, no norm is one
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, mean=0.2 if parameter.dim() == 1 else 0.0, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return theirs


def batch_of(config: NetworkConfig, size: int, shared: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(size)
    steps = {"encoder": config.encoder_tokens, "decoder": config.decoder_tokens}
    batch = {}
    for side, count in steps.items():
        reals = torch.randn(size, count, len(config.reals), generator=generator)
        common = [config.reals.index(name) for name in config.encoder_reals[:shared]]
        reals[:, :, common] = reals[:1, :, common].clone()
        batch[f"{side}_cont"] = reals
        batch[f"{side}_cat"] = torch.randint(0, 8, (size, count, 2), generator=generator)
        batch[f"{side}_cat"][:, :, 0] = torch.arange(size)[:, None] % 8
        batch[f"{side}_lengths"] = torch.full((size,), count)
    batch["target_scale"] = torch.ones(size, 2)
    return batch


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("preset", ["reference", "default", "tiny"])
def test_raw_outputs_gradients_and_interpretation_are_the_librarys(preset: str, trained: bool, compiled: bool) -> None:
    config = config_of(preset)
    ours = build_transformer(config)
    theirs = library(ours, trained)
    if compiled:
        ours.use_kernels()
    batch, directions = batch_of(config, 5), torch.randn(5, config.decoder_tokens, ours.hparams.output_size)
    for network in (ours, theirs):
        (network.train()(batch)["prediction"] * directions).mean().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=TOLERANCE, rtol=0)
    with torch.inference_mode():
        found, wanted = ours.eval()(batch, attention=True), theirs.eval()(batch)
        torch.testing.assert_close(found["prediction"], wanted["prediction"], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(ours(batch)["prediction"], wanted["prediction"], atol=TOLERANCE, rtol=0)
        shown, meant = ours.interpret_output(found), theirs.interpret_output(wanted)
    assert shown.keys() == meant.keys()
    for name, value in meant.items():
        torch.testing.assert_close(shown[name], value, atol=TOLERANCE, rtol=0, equal_nan=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"lstm_layers": 2},
        {"hidden_continuous_size": 8, "hidden_size": 8, "attention_heads": 2},
        {"static_reals": (), "static_categoricals": (), "vocabulary": {"state": 9}},
        {"encoder_categoricals": (), "vocabulary": {"profile": 8}},
    ],
    ids=["two layers", "as wide as hidden", "no statics", "no state"],
)
def test_other_forms_of_network_too(changes: dict[str, Any]) -> None:
    config = config_of("tiny", **changes)
    ours = build_transformer(config)
    theirs = library(ours, trained=True).eval()
    batch = batch_of(config, 3)
    ours.freeze()
    with torch.inference_mode():
        torch.testing.assert_close(ours(batch)["prediction"], theirs(batch)["prediction"], atol=TOLERANCE, rtol=0)


def test_windows_of_unequal_length() -> None:
    config = config_of("tiny")
    ours = build_transformer(config)
    theirs = library(ours, trained=True).eval()
    batch = batch_of(config, 4)
    batch["encoder_lengths"] = torch.tensor([config.encoder_tokens, 3, 5, 1])
    batch["decoder_lengths"] = torch.tensor([config.decoder_tokens, 2, config.decoder_tokens, 4])
    with torch.inference_mode():
        found, wanted = ours.eval()(batch, attention=True), theirs(batch)
        plain = ours(batch)
    for one in (found, plain):
        torch.testing.assert_close(one["prediction"], wanted["prediction"], atol=TOLERANCE, rtol=0)
    shown, meant = ours.interpret_output(found), theirs.interpret_output(wanted)
    for name, value in meant.items():
        torch.testing.assert_close(shown[name], value, atol=TOLERANCE, rtol=0, equal_nan=True)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_dropout_has_the_librarys_distribution_and_is_off_in_evaluation(compiled: bool) -> None:
    config = config_of("tiny", dropout=0.3)
    network = build_transformer(config)
    if compiled:
        network.use_kernels()
    batch = batch_of(config, 4)
    theirs = library(network, trained=True)
    with torch.no_grad():
        draws = {
            name: torch.stack([one.train()(batch)["prediction"] for _ in range(200)])
            for name, one in (("ours", network), ("theirs", theirs))
        }
        assert torch.equal(network.eval()(batch)["prediction"], network(batch)["prediction"])
    assert float(draws["ours"].std(dim=0).min()) > 0
    error = (draws["ours"].var(dim=0) / 200 + draws["theirs"].var(dim=0) / 200).sqrt()
    apart = (draws["ours"].mean(dim=0) - draws["theirs"].mean(dim=0)) / error
    assert float(apart.square().mean()) < 2  # 1 where both draw from one distribution
    spread = draws["ours"].std(dim=0) / draws["theirs"].std(dim=0)
    assert 0.9 < float(spread.mean()) < 1.1


@pytest.mark.parametrize("shared", [0, 2])
@pytest.mark.parametrize("rows", [1, 16, 45])
def test_compiled_gradients_with_dropout_are_those_of_the_compiled_output(rows: int, shared: int) -> None:
    """By central differences in one direction, the dropout masks fixed by the seed."""
    config = config_of("tiny", dropout=0.4)
    network = build_transformer(config)
    library(network, trained=True)
    network.use_kernels()
    network.train()
    batch = batch_of(config, rows, shared)

    def loss() -> torch.Tensor:
        torch.manual_seed(3)
        return (network(batch, shared=shared)["prediction"] * directions).mean()

    directions = torch.randn(rows, config.decoder_tokens, network.hparams.output_size)
    loss().backward()
    moves = [torch.randn_like(parameter) for parameter in network.parameters()]
    slope = sum(
        float((p.grad * m).sum()) for p, m in zip(network.parameters(), moves, strict=True) if p.grad is not None
    )
    ends, step = [], 1e-3
    for sign in (1, -2, 1):
        with torch.no_grad():
            for parameter, move in zip(network.parameters(), moves, strict=True):
                parameter.add_(sign * step * move)
            ends.append(float(loss()))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=0.03, abs=2e-3)


@pytest.mark.parametrize("shared", [0, 5])
@pytest.mark.parametrize("preset", ["reference", "default", "tiny"])
@pytest.mark.parametrize("size", [1, 16, 37])
def test_the_compiled_form_gives_the_librarys_numbers(preset: str, size: int, shared: int) -> None:
    config = config_of(preset)
    ours = build_transformer(config)
    theirs = library(ours, trained=True).eval()
    batch = batch_of(config, size, shared)
    kernel = NativePredictor(ours.eval(), config.encoder_tokens + config.decoder_tokens)
    with torch.inference_mode():
        wanted = theirs(batch)["prediction"]
        torch.testing.assert_close(kernel(batch, shared), wanted, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(ours(batch, shared=shared)["prediction"], wanted, atol=TOLERANCE, rtol=0)
        ours.freeze()
        torch.testing.assert_close(ours(batch, shared=shared)["prediction"], wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("preset", ["default", "tiny"])
def test_a_window_has_the_same_numbers_alone_and_among_others_in_the_compiled_form(preset: str) -> None:
    config = config_of(preset)
    network = build_transformer(config)
    library(network, trained=True)
    network.freeze()
    kernel = NativePredictor(network, config.encoder_tokens + config.decoder_tokens)
    batch = batch_of(config, 37, 5)
    together = kernel(batch, 5)
    for row in (0, 17, 36):
        alone = kernel({name: tensor[row : row + 1] for name, tensor in batch.items()}, 5)
        torch.testing.assert_close(alone[0], together[row], atol=0, rtol=0)


def test_extreme_inputs_stay_finite_in_the_compiled_form() -> None:
    config = config_of("tiny")
    ours = build_transformer(config)
    theirs = library(ours, trained=True).eval()
    batch = batch_of(config, 16)
    for side in ("encoder_cont", "decoder_cont"):
        batch[side] *= 1e4
    kernel = NativePredictor(ours.eval(), config.encoder_tokens + config.decoder_tokens)
    with torch.inference_mode():
        torch.testing.assert_close(kernel(batch), theirs(batch)["prediction"], atol=1e-3, rtol=1e-3)


def test_a_network_that_the_kernel_does_not_cover_is_refused() -> None:
    with pytest.raises(CompileError, match="does not cover"):
        NativePredictor(build_transformer(config_of("tiny", lstm_layers=2)), 100)


SIZES = {
    "HIDDEN": 8, "CONTINUOUS": 4, "ATTENTION_HEADS": 2, "OUTPUTS": 7, "ENCODER_REALS": 3, "ENCODER_WORDS": 1,
    "ENCODER_ROWS": 9, "DECODER_REALS": 3, "STEPS": 12,
}  # fmt: skip


def test_a_kernel_is_compiled_once_into_a_folder_of_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    first = compiled_kernel(SIZES, folder)
    made = first.stat().st_mtime_ns
    assert folder.stat().st_mode & 0o077 == 0
    assert compiled_kernel(SIZES, folder) == first
    assert first.stat().st_mtime_ns == made
    assert compiled_kernel({**SIZES, "STEPS": 13}, folder) != first
    assert len(list(folder.iterdir())) == 2
    first.chmod(0o777)
    with pytest.raises(CompileError, match="can be written by somebody else"):
        compiled_kernel(SIZES, folder)
    folder.chmod(0o777)
    with pytest.raises(CompileError, match="can be written by somebody else"):
        compiled_kernel({**SIZES, "STEPS": 14}, folder)


def test_a_damaged_kernel_is_told_in_one_line(tmp_path: Path) -> None:
    compiled_kernel(SIZES, tmp_path).write_bytes(b"nothing")
    with pytest.raises(CompileError, match="cannot be loaded, delete it"):
        load_kernel(SIZES, tmp_path)


def test_without_a_compiler_forecasts_are_eager_and_a_log_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert Forecaster(bundle_of(), ForecastSettings(kernels=tmp_path / "kernels")).kernels == []
    assert "no C++ compiler (apt-get install g++)" in caplog.text
    assert list((tmp_path / "kernels").iterdir()) == []
