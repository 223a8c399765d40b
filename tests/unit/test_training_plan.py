"""What a training fixes before it starts."""

from __future__ import annotations

import os
import shlex
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.dataset.manifest import Manifest, Part
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.errors import ContractError, DatasetError, IncompatibleError, TrainingError, UsageError
from fleetcast.model.base import ResidualBase
from fleetcast.training.checkpoint import LAST, CheckpointStore, restore, restore_optimizer, snapshot
from fleetcast.training.fit import scaling
from fleetcast.training.loaders import VALIDATION_WINDOWS, make_loaders
from fleetcast.training.module import ForecastModule
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan, check_parameters, make_plan
from fleetcast.training.trainer import trainer_arguments
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.sampling import usable_windows

START = datetime(2026, 1, 1, tzinfo=UTC)
METRICS = ["cpu_utilization", "memory_used", "filesystem_used", "load1_per_core"]


def manifest_of(days: float, metrics: list[str] = METRICS) -> Manifest:
    end = START + timedelta(days=days)
    part = Part(name="part-00000.parquet", sha256="0", rows=1, servers=["a"], start=START, end=end)
    return Manifest(metrics=metrics, rows=1, start=START, end=end, parts=[part])


def options_of(**fields: object) -> TrainOptions:
    return TrainOptions.model_validate({"data": "data", "models": "models", **fields})


def test_the_last_tenth_is_kept_out_by_default() -> None:
    plan = make_plan(options_of(), manifest_of(30))
    assert plan.cutoff == START + timedelta(days=27)
    assert plan.validation_start < plan.cutoff
    assert plan.window.targets == ("cpu_utilization", "memory_used", "filesystem_used", "load1_per_core")
    assert plan.window.levels == QUANTILE_LEVELS
    assert (plan.window.context, plan.window.horizon) == (288, 96)


def test_cutoff_and_holdout_move_the_end_of_training() -> None:
    day = START + timedelta(days=20)
    assert make_plan(options_of(cutoff=day), manifest_of(30)).cutoff == day
    assert make_plan(options_of(holdout=timedelta(hours=72)), manifest_of(30)).cutoff == START + timedelta(days=27)


def test_the_reference_preset_forecasts_one_metric() -> None:
    plan = make_plan(options_of(preset="reference"), manifest_of(30))
    assert plan.window.targets == ("cpu_utilization",)
    assert plan.network.encoder_tokens == 288
    check_parameters("reference", 87_080)
    with pytest.raises(TrainingError, match="87,080"):
        check_parameters("reference", 87_081)


@pytest.mark.parametrize(
    ("fields", "days", "error", "words"),
    [
        ({}, 1, TrainingError, r"too little data.*missing"),
        ({"preset": "huge"}, 30, UsageError, "there are default"),
        ({"targets": ("cpu_iowait",)}, 30, TrainingError, "lacks cpu_iowait"),
        ({"targets": ("cpu",)}, 30, ContractError, "unknown metric 'cpu'"),
        ({"levels": (0.1, 0.9)}, 30, UsageError, "0.5"),
        ({"context": 100}, 30, UsageError, "multiple"),
        ({"cutoff": START, "holdout": timedelta(1)}, 30, UsageError, "not both"),
        ({"precision": "64"}, 30, UsageError, "there are 32-true"),
        ({"precision": "16-mixed"}, 30, UsageError, "needs GPUs"),
        ({"cutoff": START + timedelta(days=90)}, 30, UsageError, "outside the data"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    fields: dict[str, object], days: float, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make_plan(options_of(**fields), manifest_of(days))


def test_a_dataset_of_another_contract_is_refused_with_both_sides() -> None:
    other = manifest_of(30).model_copy(update={"contract_version": "3.0.0"})
    with pytest.raises(IncompatibleError, match=r"contract version.*2.0.0.*3.0.0"):
        make_plan(options_of(), other)


def test_a_dataset_of_another_step_length_is_refused_with_both_sides_in_one_line() -> None:
    minutely = manifest_of(30).model_copy(update={"step_seconds": 60})
    with pytest.raises(IncompatibleError, match=r"step_seconds: .* has 300, the dataset data has 60") as refusal:
        make_plan(options_of(), minutely)
    assert "\n" not in str(refusal.value)


def test_a_run_under_another_vocabulary_is_not_resumed() -> None:
    plan = make_plan(options_of(), manifest_of(30))
    found = {**plan.identity(), "contract": {**plan.identity()["contract"], "profiles": ["ml_compute"]}}
    with pytest.raises(IncompatibleError, match=r"contract.profiles.*risk_analytics.*\['ml_compute'\]"):
        plan.require_identity(found, "the run 'old'")


def test_a_dataset_without_any_target_is_refused() -> None:
    with pytest.raises(ContractError, match="no forecast target"):
        make_plan(options_of(), manifest_of(30, ["swap_used"]))


def test_a_dataset_with_cpu_alone_can_be_planned() -> None:
    plan = make_plan(options_of(), manifest_of(30, ["cpu_utilization"]))
    assert plan.window.targets == plan.window.features == ("cpu_utilization",)


def fleet_in_order(plan: TrainPlan) -> FleetArrays:
    """The dataset up to the cutoff, servers as in the manifest."""
    dataset = Dataset.open(plan.data)
    fleet = arrays_from_dataset(dataset)
    fleet = fleet.until(fleet.index_of(plan.cutoff))
    return fleet.of_servers([fleet.servers.index(name) for name in dataset.manifest.servers])


@pytest.fixture(scope="module")
def tiny_plan(tiny_dataset: Path) -> TrainPlan:
    options = options_of(data=str(tiny_dataset), preset="tiny", holdout=timedelta(hours=30))
    return make_plan(options, Dataset.open(tiny_dataset).manifest)


def test_no_window_straddles_a_cut(tiny_plan: TrainPlan) -> None:
    training, validation = make_loaders(tiny_plan, rank=0, world=1)
    horizon = tiny_plan.window.horizon
    border = int((tiny_plan.validation_start - tiny_plan.start).total_seconds()) // 300
    assert training.windows.all()[1].max() + horizon <= border
    before = fleet_in_order(tiny_plan)
    windows = usable_windows(before, tiny_plan.window, border, before.steps - 1 - horizon).spread(VALIDATION_WINDOWS)
    rows, ends = windows.all()
    assert 0 < len(rows) <= VALIDATION_WINDOWS
    assert ends.max() + horizon <= before.steps - 1
    expected = WindowBatcher(before, tiny_plan.window, None).truth(rows, ends)
    found = torch.cat([truth["truth"] for _, truth in validation])
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_training_never_sees_what_comes_after_the_cutoff(tiny_plan: TrainPlan) -> None:
    training, _ = make_loaders(tiny_plan, rank=0, world=1)
    assert training.batcher.store.steps == int((tiny_plan.cutoff - tiny_plan.start).total_seconds()) // 300 + 1


@pytest.mark.parametrize("preset", ["tiny", "reference", "default"])
def test_batches_from_disk_are_those_of_the_service(tiny_dataset: Path, preset: str) -> None:
    """The same window built from all that a forecast in service is given."""
    options = options_of(data=str(tiny_dataset), preset=preset, holdout=timedelta(hours=30), samples_per_epoch=40)
    plan = make_plan(options, Dataset.open(tiny_dataset).manifest)
    training, _ = make_loaders(plan, rank=0, world=1)
    fleet = fleet_in_order(plan)
    base = None
    if plan.network.head == "floor":
        base = ResidualBase(
            fleet.select(plan.window.targets),
            fleet.start,
            plan.window.horizon,
            plan.window.levels,
            plan.window.floor_leads,
        )
    batcher = WindowBatcher(fleet, plan.window, base)
    rows, ends = training.windows.at(training.indices()[: plan.batch_size])
    inputs, truth = training.batcher.batch(rows, ends)
    expected, after = batcher.batch(rows, ends)
    assert inputs.keys() == expected.keys()
    for name, tensor in {**inputs, **truth}.items():
        torch.testing.assert_close(tensor, {**expected, **after}[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("samples", [7, 64, 10**6])
def test_an_epoch_has_the_same_windows_whatever_the_number_of_workers(tiny_plan: TrainPlan, samples: int) -> None:
    plan = tiny_plan.model_copy(update={"samples_per_epoch": samples, "batch_size": 3})
    epochs = []
    for world in (1, 2, 3):
        loaders = [make_loaders(plan, rank, world)[0] for rank in range(world)]
        assert len({len(loader) for loader in loaders}) == 1, "workers wait for each other"
        servers = [set(loader.windows.at(loader.indices())[0].tolist()) for loader in loaders]
        assert all(found <= set(loader.batcher.store.places) for found, loader in zip(servers, loaders, strict=True))
        for loader in loaders:
            loader.epoch = 2
        drawn = np.concatenate([np.stack(loader.windows.at(loader.indices()), axis=1) for loader in loaders])
        epochs.append(sorted(map(tuple, drawn.tolist())))
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(epochs[0])) == len(epochs[0]) == min(samples, len(loader.windows))


def test_workers_keep_only_the_servers_of_their_windows(tiny_plan: TrainPlan) -> None:
    kept = [set(make_loaders(tiny_plan, rank, 3)[0].batcher.store.places) for rank in range(3)]
    assert set.union(*kept) == set(range(9))
    assert all(len(servers) <= 4 for servers in kept)


def test_an_epoch_can_begin_at_any_batch(tiny_plan: TrainPlan) -> None:
    training, _ = make_loaders(tiny_plan.model_copy(update={"samples_per_epoch": 50, "batch_size": 8}), 0, 1)
    whole = [truth["truth"] for _, truth in training]
    training.skip_batches = 4
    rest = [truth["truth"] for _, truth in training]
    assert len(whole) == len(training) == 7
    for left, right in zip(rest, whole[4:], strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_loader_threads_give_the_same_batches_in_the_same_order(tiny_plan: TrainPlan, threads: int) -> None:
    plan = tiny_plan.model_copy(update={"samples_per_epoch": 90, "batch_size": 8})
    alone, _ = make_loaders(plan, 0, 1)
    shared, _ = make_loaders(plan.model_copy(update={"loader_threads": threads}), 0, 1)
    alone.skip_batches = shared.skip_batches = 1
    pairs = list(zip(alone, shared, strict=True))
    assert len(pairs) == len(alone) - 1
    for (ours, truth), (theirs, other) in pairs:
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(truth["truth"], other["truth"], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_damaged_store_is_told_of_and_no_thread_is_left(tiny_plan: TrainPlan, threads: int) -> None:
    many = {"loader_threads": threads, "samples_per_epoch": 200, "batch_size": 4}
    training, _ = make_loaders(tiny_plan.model_copy(update=many), 0, 1)
    batches = iter(training)
    next(batches)
    os.ftruncate(training.batcher.store._number, 100)
    with pytest.raises(DatasetError, match=r"the kept samples of server \d+ cannot be read back"):
        list(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_too_few_windows_are_told_of(tiny_plan: TrainPlan, tmp_path: Path) -> None:
    dataset, storage = Dataset.open(tiny_plan.data), Storage(tmp_path)
    rows = dataset.read(dataset.manifest.parts[0])
    part = write_part(storage, 0, pa.concat_tables([rows.slice(0, 30), rows.slice(rows.num_rows - 5)]), METRIC_NAMES)
    write_manifest(storage, [part], METRIC_NAMES)
    with pytest.raises(TrainingError, match="0 usable training and 0 validation windows for 1 workers"):
        make_loaders(tiny_plan.model_copy(update={"data": str(tmp_path)}), 0, 1)


def step_of(module: ForecastModule, plan: TrainPlan, optimizer: torch.optim.Optimizer) -> None:
    training, _ = make_loaders(plan, rank=0, world=1)
    batch = next(iter(training))
    optimizer.zero_grad()
    module.training_step(batch, 0).backward()
    optimizer.step()
    module.on_train_batch_end(None, batch, 0)


def test_a_checkpoint_restores_weights_average_optimizer_and_progress(tiny_plan: TrainPlan, tmp_path: Path) -> None:
    module = ForecastModule(tiny_plan, 4, torch.ones(len(tiny_plan.window.targets)))
    optimizer = torch.optim.AdamW(module.network.parameters(), 1e-2)
    step_of(module, tiny_plan, optimizer)
    store = CheckpointStore(str(tmp_path))
    store.write(LAST, *snapshot(module, optimizer))
    checkpoint = store.read(LAST)
    assert checkpoint is not None
    other = ForecastModule(tiny_plan, 4, torch.ones(len(tiny_plan.window.targets)))
    fresh = torch.optim.AdamW(other.network.parameters(), 1e-2)
    restore(checkpoint, other)
    restore_optimizer(checkpoint[0], fresh)
    assert other.progress() == module.progress()
    step_of(module, tiny_plan, optimizer)
    step_of(other, tiny_plan, fresh)
    for name, tensor in module.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name


def test_a_checkpoint_of_another_network_is_refused_with_both_sides(tiny_plan: TrainPlan) -> None:
    module = ForecastModule(tiny_plan, 4, torch.ones(len(tiny_plan.window.targets)))
    optimizer = torch.optim.AdamW(module.network.parameters(), 1e-2)
    checkpoint = snapshot(module, optimizer)
    wider = tiny_plan.model_copy(update={"network": tiny_plan.network.model_copy(update={"hidden_size": 16})})
    with pytest.raises(IncompatibleError, match=r"network.hidden_size.*16.*8"):
        restore(checkpoint, ForecastModule(wider, 4, torch.ones(len(wider.window.targets))))
    vocabulary = {"profile": 7, "state": 9}
    fewer = tiny_plan.model_copy(update={"network": tiny_plan.network.model_copy(update={"vocabulary": vocabulary})})
    with pytest.raises(IncompatibleError, match=r"network.vocabulary.*'profile': 7.*'profile': 8"):
        fewer.require_identity(tiny_plan.identity(), "the run 'x'")


def test_a_loss_that_is_not_finite_stops_the_training(tiny_plan: TrainPlan) -> None:
    module = ForecastModule(tiny_plan, 4, torch.ones(len(tiny_plan.window.targets)))
    training, _ = make_loaders(tiny_plan, rank=0, world=1)
    inputs, truth = next(iter(training))
    inputs["base"] = torch.full_like(inputs["base"], float(np.inf))
    with pytest.raises(TrainingError, match="learning-rate"):
        module.training_step((inputs, truth), 0)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(("gpus", "accelerator", "devices"), [(0.0, "cpu", 1), (1.0, "gpu", "auto")])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_ray_and_lightning_are_asked_for(
    precision: str, gpus: float, accelerator: str, devices: object, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    options = options_of(precision=precision, gpus_per_worker=gpus, workers=workers)
    plan = make_plan(options, manifest_of(30))
    asked = trainer_arguments(plan, 3, gpus > 0, [])
    assert (asked["accelerator"], asked["devices"], asked["precision"]) == (accelerator, devices, precision)
    assert isinstance(asked["strategy"], RayDDPStrategy)
    assert isinstance(asked["plugins"][0], RayLightningEnvironment)
    assert asked["max_epochs"] == 3
    scale = scaling(options, workers)
    assert (scale.num_workers, scale.use_gpu) == (workers, gpus > 0)
    assert scale.resources_per_worker == {"CPU": 1.0, **({"GPU": gpus} if gpus else {})}
    assert plan.loader_threads == (2 if gpus else 0), "a GPU's batches are made while it computes"
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    assert scaling(options, workers).num_workers == ((1, workers) if workers > 1 else 1)


def test_the_command_of_a_run_gives_back_its_options() -> None:
    options = options_of(holdout=timedelta(hours=30), levels=(0.1, 0.5), preset="tiny", seed=3, promote=False)
    words = shlex.split(options.command("mine"))
    assert words[:2] == ["fleetcast", "train"]
    given = dict(zip(words[2::2], words[3::2], strict=False))
    assert (given["--run"], given["--holdout"], given["--quantiles"]) == ("mine", "30h", "0.1,0.5")
    assert Path(given["--models"]).is_absolute()
    assert "--no-promote" in words
    assert "--workers" not in words
