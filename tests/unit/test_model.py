"""Networks and bundles."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.errors import BundleError, IncompatibleError
from fleetcast.model.base import BUCKET_EDGES, ResidualBase
from fleetcast.model.bundle import Bundle, attach_risk
from fleetcast.model.config import PRESETS, REFERENCE_PARAMETERS, NetworkConfig
from fleetcast.model.floor import forward_fill, residual_floor
from fleetcast.model.loss import pinball, training_loss, window_loss
from fleetcast.model.manifest import BundleManifest, load_manifest, update_manifest
from fleetcast.model.network import ForecastNetwork
from fleetcast.model.registry import current_bundle, list_bundles, promote
from fleetcast.training.plan import network_for
from fleetcast.windows.spec import ANCHORS, WindowSpec


def window_of(preset: str) -> WindowSpec:
    chosen = PRESETS[preset]
    targets = chosen.targets or ("cpu_utilization", "memory_used")
    features = chosen.features or METRIC_NAMES
    return WindowSpec(targets=targets, features=features, levels=QUANTILE_LEVELS, **chosen.window)


def config_of(preset: str) -> NetworkConfig:
    return network_for(window_of(preset), PRESETS[preset])


def bundle_of(preset: str = "tiny", seed: int = 0) -> Bundle:
    torch.manual_seed(seed)
    window = window_of(preset)
    network = ForecastNetwork(config_of(preset))
    torch.nn.init.normal_(network.transformer.output_layer.weight, std=0.05)
    manifest = BundleManifest(
        run="test",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        preset=preset,
        targets=window.targets,
        features=window.features,
        levels=window.levels,
        context=window.context,
        horizon=window.horizon,
        window=window.model_dump(mode="json"),
        network=config_of(preset),
        cutoff=datetime(2026, 1, 8, tzinfo=UTC),
        timezone="UTC",
        parameters=network.parameter_count,
        data_fingerprint="none",
    )
    return Bundle(manifest, network.state_dict())


def test_reference_preset_has_exactly_87080_parameters() -> None:
    assert REFERENCE_PARAMETERS == 87_080
    assert ForecastNetwork(config_of("reference")).parameter_count == 87_080


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_uses_all_its_parameters(preset: str) -> None:
    """A parameter without a gradient would stop training on several workers."""
    config = config_of(preset)
    network = ForecastNetwork(config).train()
    size = 4
    batch = {
        "encoder_cont": torch.randn(size, config.encoder_tokens, len(config.reals)),
        "decoder_cont": torch.randn(size, config.decoder_tokens, len(config.reals)),
        "encoder_cat": torch.randint(0, 8, (size, config.encoder_tokens, 2)),
        "decoder_cat": torch.zeros(size, config.decoder_tokens, 2, dtype=torch.int64),
        "center": torch.rand(size, config.targets),
        "scale": torch.rand(size, config.targets) + 0.1,
        "base": torch.rand(size, config.decoder_tokens * config.decoder_pool, config.targets, len(config.levels)),
        "anchors": torch.rand(size, config.decoder_tokens * config.decoder_pool, config.targets, config.anchors),
    }
    torch.nn.init.normal_(network.transformer.output_layer.weight)
    quantiles = network(batch)
    assert quantiles.shape == batch["base"].shape
    quantiles.square().sum().backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert idle == []
    assert bool((network.eval()(batch).diff(dim=-1) >= 0).all()), "quantiles must not cross"


def inputs_of(config: NetworkConfig, base: torch.Tensor, anchors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "encoder_cont": torch.randn(2, config.encoder_tokens, len(config.reals)),
        "decoder_cont": torch.randn(2, config.decoder_tokens, len(config.reals)),
        "encoder_cat": torch.zeros(2, config.encoder_tokens, 2, dtype=torch.int64),
        "decoder_cat": torch.zeros(2, config.decoder_tokens, 2, dtype=torch.int64),
        "center": torch.rand(2, config.targets),
        "scale": torch.ones(2, config.targets),
        "base": base,
        "anchors": anchors,
    }


def test_an_untrained_floor_network_gives_the_base_where_nothing_else_is_known() -> None:
    config = config_of("tiny")
    network = ForecastNetwork(config).eval()
    base = torch.rand(2, 96, config.targets, len(config.levels)).sort(dim=-1).values
    missing = torch.full((2, 96, config.targets, config.anchors), float("nan"))
    assert torch.equal(network(inputs_of(config, base, missing)), base)


@given(number=st.integers(0, len(ANCHORS) - 1), seed=st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_the_floor_head_can_repeat_a_value_of_the_past_exactly(number: int, seed: int) -> None:
    torch.manual_seed(seed)
    config = config_of("tiny")
    network = ForecastNetwork(config).eval()
    base = torch.rand(2, 96, config.targets, len(config.levels)).sort(dim=-1).values
    anchors = torch.rand(2, 96, config.targets, config.anchors)
    each = len(config.levels) + config.anchors
    with torch.no_grad():
        network.transformer.output_layer.bias[len(config.levels) + number :: each] = 40.0
    expected = anchors[..., number, None].expand_as(base)
    torch.testing.assert_close(network(inputs_of(config, base, anchors)), expected, rtol=0, atol=1e-6)


def test_pinball_is_minimal_at_the_quantile_and_masks_missing_truth() -> None:
    truth = torch.tensor(np.random.default_rng(0).normal(size=4001), dtype=torch.float32).reshape(1, -1, 1)
    grid = torch.linspace(-2, 2, 81)
    losses = [float(pinball(torch.full((1, 4001, 1, 1), float(x)), truth, (0.9,)).mean()) for x in grid]
    assert float(grid[int(np.argmin(losses))]) == pytest.approx(float(truth.quantile(0.9)), abs=0.06)
    missing = torch.full_like(truth, float("nan"))
    assert float(pinball(torch.zeros(1, 4001, 1, 1), missing, (0.9,)).abs().sum()) == 0


def test_window_loss_leaves_out_targets_that_were_not_observed() -> None:
    quantiles, truth = torch.zeros(1, 2, 2, 1), torch.tensor([[[1.0, 9.0], [1.0, 9.0]]])
    inputs = {"loss_scale": torch.ones(1, 2), "observed": torch.tensor([[True, False]])}
    losses, known = window_loss(quantiles, truth, inputs, (0.5,))
    assert known.tolist() == [[True, False]]
    assert float(training_loss(losses, known, torch.ones(2))) == pytest.approx(0.5)


def test_residual_floor_follows_the_published_rule() -> None:
    """Median of the last 30 min plus quantiles of what followed such medians in the last 3 days."""
    series = np.random.default_rng(1).random(1200).astype(np.float32)
    ends = [end for end in range(1200 - 3 * 288, 1200 - 48, 6) if end >= 6]
    residuals = np.concatenate([series[end : end + 48] - np.median(series[end - 6 : end]) for end in ends])
    expected = np.median(series[-6:]) + np.quantile(residuals, (0.1, 0.5, 0.9))
    found = residual_floor(series[None], 48, (0.1, 0.5, 0.9))
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(found[0, 47], expected, rtol=1e-5)


def test_a_young_series_has_the_floor_of_its_own_samples() -> None:
    """Missing steps before the first sample are not zeros: a calm young server has a narrow band."""
    past = np.full((3, 2016), np.nan, np.float32)
    past[0, -400:] = 0.5
    past[1] = 0.5
    past[2, -60:] = 0.5
    found = residual_floor(past, 96, (0.02, 0.5, 0.98))
    np.testing.assert_allclose(found, 0.5)
    noisy = np.full((1, 2016), np.nan, np.float32)
    noisy[0, -600:] = np.random.default_rng(3).random(600)
    np.testing.assert_allclose(
        residual_floor(noisy, 48, (0.1, 0.9))[0, 0], residual_floor(noisy[:, -600:], 48, (0.1, 0.9))[0, 0], atol=1e-6
    )


def test_base_reads_nothing_after_the_origin() -> None:
    generator = np.random.default_rng(2)
    values = generator.random((2, 1500, 1)).astype(np.float32)
    changed = values.copy()
    changed[:, 1201:] = 7.0
    rows, ends = np.array([0, 1]), np.array([1200, 1200])
    before = ResidualBase(values, 0, 96, (0.1, 0.5, 0.9), 8).at(rows, ends)
    np.testing.assert_array_equal(before, ResidualBase(changed, 0, 96, (0.1, 0.5, 0.9), 8).at(rows, ends))
    assert (np.diff(before, axis=-1) >= 0).all()


def plain_base(
    values: npt.NDArray[np.float32], start: int, horizon: int, shares: tuple[float, ...], most: int, row: int, end: int
) -> npt.NDArray[np.float32]:
    """The base of one window, by its definition."""
    series, first = forward_fill(values[row].T), (~np.isnan(values[row])).argmax(axis=0)
    first[np.isnan(values[row]).all(axis=0)] = len(values[row])
    block = (end + start // 300) // 24 * 24 - start // 300
    level = np.median(series[:, np.maximum(np.arange(end - 5, end + 1), 0)], axis=1)
    found, done = [], 0
    for edge in [*(edge for edge in BUCKET_EDGES if edge < horizon), horizon]:
        leads = np.unique(np.linspace(done + 1, edge, min(most, edge - done)).round().astype(np.int64))
        ends = np.arange(block - edge, max(block - edge - 864, 5), -12)
        spread = np.zeros((len(series), len(shares)), np.float32)
        if len(ends):
            levels = np.median(series[:, ends[:, None] + np.arange(-5, 1)], axis=2)
            began = ends - 5 >= first[:, None]
            residuals = (series[:, ends[:, None] + leads] - levels[:, :, None]) * began[:, :, None]
            spread = np.quantile(residuals.reshape(len(series), -1), shares, axis=1).T.astype(np.float32)
        found += [np.clip(level[:, None] + spread, 0, None)] * (edge - done)
        done = edge
    return np.stack(found)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), steps=st.integers(6, 2000), horizon=st.sampled_from([1, 2, 5, 48, 96, 300]),
    gaps=st.sampled_from([0.0, 0.2, 0.9]), grain=st.sampled_from([0, 4]), most=st.sampled_from([2, 4, 8]),
)  # fmt: skip
def test_base_is_its_definition_bit_for_bit(
    seed: int, steps: int, horizon: int, gaps: float, grain: int, most: int
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.random((3, steps, 3)).astype(np.float32)
    values = np.round(values * grain) / np.float32(grain) if grain else values
    values[generator.random((3, steps)) < gaps] = np.nan
    values[0, : steps // 2] = np.nan
    values[1, steps // 3 :, 1] = np.nan
    values[2, :, 2] = np.nan
    shares, start = (0.02, 0.1, 0.5, 0.9, 0.98), 300 * int(generator.integers(10**6))
    rows, ends = generator.integers(0, 3, 20), generator.integers(0, steps, 20)
    found = ResidualBase(values, start, horizon, shares, most).at(rows, ends)
    for one, row, end in zip(found, rows.tolist(), ends.tolist(), strict=True):
        np.testing.assert_array_equal(one, plain_base(values, start, horizon, shares, most, row, end))


def test_a_saved_bundle_loads_bit_for_bit(tmp_path: Path) -> None:
    bundle = bundle_of()
    bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    assert loaded.weights.keys() == bundle.weights.keys()
    for name, tensor in bundle.weights.items():
        assert torch.equal(tensor, loaded.weights[name])


def test_a_bundle_holds_safetensors_and_json_and_nothing_else(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bundle", "manifest.json", "model.safetensors"]


def test_a_bundle_is_never_overwritten(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    with pytest.raises(BundleError, match="exists already"):
        bundle_of().save(tmp_path / "bundle")


def test_a_bundle_of_another_format_is_refused(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    update_manifest(tmp_path / "bundle", format=2)
    with pytest.raises(IncompatibleError, match=r"format.*2.*1"):
        Bundle.load(tmp_path / "bundle")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    weights = tmp_path / "bundle" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("field", "value", "sides"),
    [
        ("contract_version", "3.0.0", ("3.0.0", "2.0.0")),
        ("profiles", ["ml_compute", "database"], ("'database')", "risk_analytics")),
        ("step_seconds", 60, ("60", "300")),
    ],
)
def test_a_bundle_of_another_contract_is_refused_with_both_sides(
    tmp_path: Path, field: str, value: object, sides: tuple[str, str]
) -> None:
    bundle_of().save(tmp_path / "bundle")
    file = tmp_path / "bundle" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(IncompatibleError) as refusal:
        Bundle.load(tmp_path / "bundle")
    for side in sides:
        assert side in str(refusal.value)


def test_updating_the_manifest_keeps_the_weights(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    update_manifest(tmp_path / "bundle", evaluation={"wql": 0.5})
    assert load_manifest(tmp_path / "bundle").evaluation == {"wql": 0.5}
    Bundle.load(tmp_path / "bundle")


def test_promote_moves_the_pointer_and_refuses_what_does_not_load(tmp_path: Path) -> None:
    bundle_of(seed=1).save(tmp_path / "first" / "bundle")
    bundle_of(seed=2).save(tmp_path / "second" / "bundle")
    promote(tmp_path, "first")
    assert current_bundle(tmp_path) == (tmp_path / "first" / "bundle").resolve()
    promote(tmp_path, "second")
    assert current_bundle(tmp_path) == (tmp_path / "second" / "bundle").resolve()
    (tmp_path / "first" / "bundle" / "model.safetensors").write_bytes(b"broken")
    for name in ("first", "nobody", "../second", "current"):
        with pytest.raises(BundleError):
            promote(tmp_path, name)
    assert current_bundle(tmp_path) == (tmp_path / "second" / "bundle").resolve()
    assert len(list_bundles(tmp_path)) == 2


def test_a_risk_model_is_put_in_a_bundle_whole_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    bundle_of().save(path)
    assert Bundle.load(path).risk is None
    for text in ("first", "second"):
        attach_risk(path, text, calibration={"horizons": {}})
        assert Bundle.load(path).risk == text
    (file,) = path.glob("risk-*.json")
    Bundle.load(path).save(tmp_path / "copy")
    assert Bundle.load(tmp_path / "copy").risk == "second"
    file.write_text("other")
    with pytest.raises(BundleError, match="is damaged"):
        Bundle.load(path)
    file.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(path)
    attach_risk(path, None)
    assert Bundle.load(path).risk is None
