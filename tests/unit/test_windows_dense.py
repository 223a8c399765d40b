"""Dense windows equal pytorch-forecasting's batches bit for bit, and say what they do where it is wrong or silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data.encoders import NaNLabelEncoder
from pytorch_forecasting.metrics import QuantileLoss

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import DatasetError
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.dense import DenseWindows
from fleetcast.windows.dense_frame import fleet_frame
from fleetcast.windows.dense_spec import DenseSpec, TargetNormaliser
from fleetcast.windows.spec import PLAIN_CALENDAR
from tests.unit.dense_peer import (
    BY_WINDOW,
    FULL,
    REALS,
    assert_equal_batches,
    assert_same_bits,
    batches_of,
    frame_of,
    library,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@st.composite
def specifications(draw: st.DrawFn) -> DenseSpec:
    longest = draw(st.integers(2, 14))
    targets = draw(st.sampled_from([("cpu",), ("disk",), ("cpu", "memory"), ("disk", "cpu", "memory")]))
    unknown = draw(st.lists(st.sampled_from(REALS), unique=True, max_size=3))
    return DenseSpec(
        targets=targets,
        max_encoder_length=longest,
        min_encoder_length=draw(st.none() | st.integers(2, longest)),
        max_prediction_length=draw(st.integers(1, 6)),
        static_categoricals=draw(st.sampled_from([(), ("profile",)])),
        static_reals=draw(st.sampled_from([(), ("size",)])),
        time_varying_known_categoricals=draw(st.sampled_from([(), ("state",)])),
        time_varying_known_reals=("hour", *draw(st.sampled_from([(), ("week",)]))),
        time_varying_unknown_reals=tuple(unknown),
        normaliser=TargetNormaliser(
            by=draw(st.sampled_from(["server", "window"])),
            transformation=draw(st.sampled_from([None, "softplus"])),
            center=draw(st.booleans()),
        ),
        add_relative_time_idx=draw(st.booleans()),
        add_target_scales=draw(st.booleans()),
        add_encoder_length=draw(st.booleans()),
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    spec=specifications(),
    seed=st.integers(0, 1000),
    size=st.integers(1, 70),
    dtype=st.sampled_from([np.float32, np.float64]),
    shuffled=st.booleans(),
)
def test_every_key_equals_the_librarys_bit_for_bit(
    spec: DenseSpec, seed: int, size: int, dtype: type, shuffled: bool
) -> None:
    frame = frame_of(seed, dtype=dtype)
    given_frame = frame.sample(frac=1, random_state=seed) if shuffled else frame
    assert_equal_batches(list(DenseWindows(given_frame, spec).batches(size)), batches_of(library(frame, spec), size))


@pytest.mark.parametrize("spec", [FULL, BY_WINDOW], ids=["server", "window"])
def test_scalers_of_one_frame_serve_another(spec: DenseSpec) -> None:
    """As `TimeSeriesDataSet.from_dataset` does: later samples of fewer servers, codes and scales of the first frame."""
    frame = frame_of(1)
    later = frame_of(2)
    later = later[later["server"].isin(["server1", "server3"])].assign(time_idx=later["time_idx"] + 1000)
    theirs = TimeSeriesDataSet.from_dataset(library(frame, spec), later)
    ours = DenseWindows(later, spec, DenseWindows(frame, spec).fitted)
    assert ours.unseen == ()
    assert_equal_batches(list(ours.batches(16)), batches_of(theirs, 16))


def test_an_arrow_table_gives_what_its_frame_gives() -> None:
    frame = frame_of(3)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.set_column(0, "server", table["server"].dictionary_encode())
    found = list(DenseWindows(table, FULL).batches(50))
    for (x, y), (expected, expected_y) in zip(found, DenseWindows(frame, FULL).batches(50), strict=True):
        for name, values in expected.items():
            assert_same_bits(x[name], values, name)
        assert_same_bits(y[0], expected_y[0], "y")


def test_windows_can_be_asked_for_one_by_one() -> None:
    windows = DenseWindows(frame_of(4), FULL)
    index = windows.windows()
    picked = np.array([5, 0, 17])
    x, y = windows.batch(index.rows[picked], index.ends[picked])
    whole, whole_y = next(windows.batches(len(index)))
    for name, values in whole.items():
        assert_same_bits(x[name], values[picked], name)
    assert_same_bits(y[0], whole_y[0][picked], "y")


def test_a_fleet_becomes_the_frame_that_both_read() -> None:
    metrics = ("cpu_utilization", "memory_used")
    values = np.random.default_rng(0).random((3, 30, 2)).astype(np.float32)
    profiles = ("database", "mainframe", "database")
    fleet = FleetArrays(("b", "c", "a"), profiles, metrics, 1_767_571_200, values, MAINTENANCE.empty_table())
    frame = fleet_frame(fleet)
    spec = FULL.model_copy(
        update={
            "targets": metrics,
            "static_reals": (),
            "time_varying_known_reals": PLAIN_CALENDAR,
            "time_varying_unknown_reals": metrics,
        }
    )
    windows = DenseWindows(frame, spec)
    words = frame.astype({"server": str, "profile": str, "state": str})
    assert_equal_batches(list(windows.batches(8)), batches_of(library(words, spec), 8))
    x, _ = windows.batch(np.array([windows.servers.index("c")]), np.array([20]))
    np.testing.assert_array_equal(x["decoder_target"][1][0], values[1, 21:25, 1])
    assert x["encoder_cat"][0, 0].tolist() == [0, fleet.states()[1, 9]]


def true_scales(frame: pd.DataFrame) -> pd.DataFrame:
    scales = frame.groupby("server")["cpu"].agg(["mean", "std"])
    scales["std"] += np.finfo(np.float16).eps
    return scales


def scales_by_server(batches: list[Any], names: list[str]) -> pd.DataFrame:
    groups = torch.cat([x["groups"] for x, _ in batches])[:, 0]
    scales = torch.cat([x["target_scale"] for x, _ in batches])
    return pd.DataFrame(scales.numpy(), index=[names[code] for code in groups]).groupby(level=0).first()


def test_every_server_gets_its_own_scale_where_the_library_gives_the_previous_servers() -> None:
    frame = frame_of(5, servers=5)
    names = sorted(frame["server"].unique())
    truth = true_scales(frame)
    ours = scales_by_server(list(DenseWindows(frame, FULL).batches(64)), names)
    np.testing.assert_allclose(ours, truth, rtol=1e-5)

    right = scales_by_server(batches_of(library(frame, FULL), 64), names)
    np.testing.assert_array_equal(right, ours)
    encoders = {"server": NaNLabelEncoder(add_nan=True)}
    wrong = scales_by_server(batches_of(library(frame, FULL, encoders=encoders), 64), names)
    assert not np.allclose(wrong, truth, rtol=1e-5), "the library is repaired: add_nan can be compared with it now"
    np.testing.assert_allclose(wrong[1:], truth[:-1], rtol=1e-5)


def test_a_server_that_was_not_fitted_gets_the_medians_as_the_librarys_does() -> None:
    frame, new = frame_of(6), frame_of(7)
    new = pd.concat([new[new["server"] == "server1"], new[new["server"] == "server2"].assign(server="newcomer")])
    # the library takes new servers with add_nan only, and scales them rightly if its own group id has it too
    encoders = {name: NaNLabelEncoder(add_nan=True) for name in ("server", "__group_id__server")}
    expected = batches_of(TimeSeriesDataSet.from_dataset(library(frame, FULL, encoders=encoders), new), 64)
    for theirs, _ in expected:  # its codes begin with 1 then, and leave one out before the newcomer's
        codes = theirs["groups"]
        theirs["groups"] = torch.where(codes > 4, codes - 2, codes - 1)
    fitted = DenseWindows(frame, FULL).fitted
    ours = DenseWindows(new, FULL, fitted)
    assert ours.unseen == ("newcomer",)
    found = list(ours.batches(64))
    assert_equal_batches(found, expected)
    newcomer = found[0][0]["groups"][:, 0] == len(fitted.servers)
    medians = true_scales(frame).median().to_numpy()
    np.testing.assert_allclose(found[0][0]["target_scale"][newcomer][0], medians, rtol=1e-5)


def with_gaps(frame: pd.DataFrame, seed: int, share: float = 0.08) -> pd.DataFrame:
    keep = np.random.default_rng(seed).random(len(frame)) >= share
    return frame[keep | ~frame["server"].duplicated() | ~frame["server"].duplicated(keep="last")]


def starts_of(batch: Any) -> list[tuple[int, int]]:
    """(group, first decoder step) of each window."""
    groups, steps = batch["groups"][:, 0].tolist(), batch["decoder_time_idx"][:, 0].tolist()
    return list(zip(groups, steps, strict=True))


@pytest.mark.parametrize("spec", [FULL, BY_WINDOW], ids=["server", "window"])
def test_a_full_window_among_gaps_equals_the_librarys(spec: DenseSpec) -> None:
    frame = with_gaps(frame_of(8, steps=80), seed=8, share=0.03)
    (theirs, (their_y, _)) = batches_of(library(frame, spec, allow_missing_timesteps=True), 10_000)[0]
    x, (y, _) = next(DenseWindows(frame, spec).batches(10_000))
    places = {start: place for place, start in enumerate(starts_of(theirs))}
    full = [
        (row, places[start])
        for row, start in enumerate(starts_of(x))
        if x["encoder_observed"][row].all() and x["decoder_observed"][row].all()
    ]
    assert 10 < len(full) < len(y)
    mine, other = (torch.tensor(rows) for rows in zip(*full, strict=True))
    for name, values in theirs.items():
        assert_same_bits(x[name][mine], values[other], name)
    assert_same_bits(y[mine], their_y[other], "y")


@pytest.mark.parametrize("spec", [FULL, BY_WINDOW], ids=["server", "window"])
def test_a_missing_step_is_masked_zero_and_without_loss(spec: DenseSpec) -> None:
    frame = frame_of(9, servers=2)
    gone = (frame["server"] == "server0") & frame["time_idx"].isin(frame["time_idx"][0] + np.array([6, 7, 14]))
    windows = DenseWindows(frame[~gone], spec)
    x, (target, weight) = windows.batch(np.array([0]), frame["time_idx"][:1].to_numpy() + 11)
    assert np.flatnonzero(~x["encoder_observed"][0]).tolist() == [6, 7]
    assert np.flatnonzero(~x["decoder_observed"][0]).tolist() == [2]
    assert weight is not None
    assert weight.tolist() == [[1, 1, 0, 1]]
    assert target[0, 2] == 0

    # what no row can tell stays; what a row would tell is 0
    stays = [spec.reals.index(name) for name in ("size", *spec.computed)]
    columns = [column for column in range(len(spec.reals)) if column not in stays]
    assert not x["encoder_cont"][0, 6, columns].any()
    assert torch.equal(x["encoder_cont"][0, 6, stays[:-1]], x["encoder_cont"][0, 5, stays[:-1]])
    assert x["encoder_cont"][0, 6, stays[-1]] == -6 / 12
    assert x["encoder_cat"][0, 6].tolist() == [x["encoder_cat"][0, 5, 0], 0]

    def loss(at_gap: float) -> torch.Tensor:
        prediction = torch.ones(1, 4, 7)
        prediction[0, 2] = at_gap
        found: torch.Tensor = QuantileLoss()(prediction, (target, weight))
        return found

    assert loss(1.0) == loss(1000.0)


@pytest.mark.parametrize("spec", [FULL, BY_WINDOW], ids=["server", "window"])
def test_an_empty_row_is_a_missing_row(spec: DenseSpec) -> None:
    frame = frame_of(10)
    gappy = with_gaps(frame, seed=10)
    empty = frame.assign(state=frame["state"].where(frame.index.isin(gappy.index)))
    empty.loc[~empty.index.isin(gappy.index), [*REALS, "hour", "week"]] = np.nan
    fitted = DenseWindows(frame, spec).fitted
    x, y = next(DenseWindows(empty, spec, fitted).batches(1000))
    expected, expected_y = next(DenseWindows(gappy, spec, fitted).batches(1000))
    for name, values in expected.items():
        assert_same_bits(x[name], values, name)
    assert expected_y[1] is not None
    assert_same_bits(y[1], expected_y[1], "weight")


def test_one_empty_real_is_zero_and_one_empty_target_hides_the_step_of_all() -> None:
    spec = FULL.model_copy(update={"targets": ("cpu", "memory")})
    frame = frame_of(11, servers=1)
    frame.loc[5, "disk"] = np.nan
    frame.loc[13, "memory"] = np.nan
    x, (targets, weight) = DenseWindows(frame, spec).batch(np.array([0]), frame["time_idx"][11:12].to_numpy())
    assert x["encoder_observed"].all()
    assert x["encoder_cont"][0, 5, spec.reals.index("disk")] == 0
    assert x["encoder_cont"][0, 5, spec.reals.index("cpu")] != 0
    assert weight is not None
    assert weight.tolist() == [[1, 0, 1, 1]]
    assert targets[0][0, 1] == pytest.approx(frame["cpu"][13])
    assert targets[1][0, 1] == 0


@given(seed=st.integers(0, 1000), transformation=st.sampled_from([None, "softplus"]), center=st.booleans())
@settings(max_examples=15)
def test_a_window_with_gaps_is_scaled_by_what_it_has(seed: int, transformation: Any, center: bool) -> None:
    how = TargetNormaliser(by="window", transformation=transformation, center=center)
    frame = with_gaps(frame_of(seed, dtype=np.float64), seed, share=0.4)
    windows = DenseWindows(frame, FULL.model_copy(update={"normaliser": how}))
    x, _ = next(windows.batches(1000))
    column = windows.spec.reals.index("cpu")
    for row in range(0, len(x["groups"]), 7):
        seen = x["encoder_observed"][row]
        values = x["encoder_target"][row][seen].double()
        if len(values) < 2:
            continue
        values = values if transformation is None else values + torch.log(-torch.expm1(-values))
        scale = values.std() + 1e-7
        middle = values.mean() if center else torch.tensor(0.0)
        np.testing.assert_allclose(x["target_scale"][row], [middle, scale], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            x["encoder_cont"][row, seen, column], (values - middle) / scale, rtol=1e-3, atol=1e-4
        )


def test_a_window_with_one_observed_step_is_scaled_by_its_server() -> None:
    frame = frame_of(12, servers=2)
    lonely = frame["time_idx"].between(frame["time_idx"][0] + 1, frame["time_idx"][0] + 11) & (
        frame["server"] == "server0"
    )
    frame = frame[~lonely]
    x, _ = DenseWindows(frame, BY_WINDOW).batch(np.array([0]), frame["time_idx"][:1].to_numpy() + 11)
    assert x["encoder_observed"].sum() == 1
    np.testing.assert_allclose(x["target_scale"][0], true_scales(frame).loc["server0"], rtol=1e-5)
    assert torch.isfinite(x["encoder_cont"]).all()


def test_all_windows_that_see_something_before_and_after_are_there_and_no_others() -> None:
    frame = with_gaps(frame_of(19, servers=1, steps=120, dtype=np.float64), seed=19, share=0.9)
    start, steps = frame["time_idx"].min(), frame["time_idx"].to_numpy()

    def has_row(first: int, last: int) -> bool:
        return bool(((steps >= first) & (steps <= last)).any())

    every = range(start + 11, steps.max() - 3)
    expected = [end for end in every if has_row(end - 11, end) and has_row(end + 1, end + 4)]
    assert any(not has_row(end - 11, end) for end in every)
    assert DenseWindows(frame, FULL).windows().ends.tolist() == expected


def test_the_future_is_rows_without_targets() -> None:
    frame = frame_of(13, servers=1)
    ahead = frame.tail(4).assign(time_idx=frame["time_idx"].max() + np.arange(1, 5), **dict.fromkeys(REALS, np.nan))
    windows = DenseWindows(pd.concat([frame, ahead]), FULL)
    x, (_, weight) = windows.batch(np.array([0]), frame["time_idx"].tail(1).to_numpy())
    assert not x["decoder_observed"].any()
    assert weight is not None
    assert not weight.any()
    assert x["decoder_cont"][0, :, FULL.reals.index("week")].all()
    # no window is learnt from without a truth
    assert windows.windows().ends.max() + 1 == frame["time_idx"].max()


def test_a_short_history_stands_first_and_is_followed_by_zeros() -> None:
    spec = FULL.model_copy(update={"min_encoder_length": 3})
    frame = frame_of(14, servers=2)
    first = frame.groupby("server")["time_idx"].min().to_numpy()
    x, _ = DenseWindows(frame, spec).batch(np.array([0, 1]), first + np.array([4, 20]))
    assert x["encoder_lengths"].tolist() == [5, 12]
    np.testing.assert_array_equal(x["encoder_target"][0, :5], frame["cpu"][:5])
    for name in ("encoder_target", "encoder_cont", "encoder_cat", "encoder_observed"):
        assert not x[name][0, 5:].any(), name
    position = spec.reals.index("relative_time_idx")
    np.testing.assert_allclose(x["encoder_cont"][0, :5, position], np.arange(-5, 0) / 12, rtol=1e-6)


def test_series_that_are_too_short_are_named() -> None:
    frame = frame_of(15, servers=3)
    short = frame[frame["server"] != "server1"]
    few = frame[frame["server"] == "server1"].head(15)
    windows = DenseWindows(pd.concat([short, few]), FULL)
    assert windows.too_short == ("server1",)
    assert 1 not in windows.windows().rows


def broken(**columns: Any) -> pd.DataFrame:
    return frame_of(16, servers=2).assign(**columns)


def test_bad_data_is_one_clear_line() -> None:
    cases = [
        (broken().drop(columns=["disk", "size"]), "no column size, disk; it has cpu, hour"),
        (broken().drop(columns="cpu"), "no column cpu; it has"),
        (broken(cpu="high"), "column cpu holds .*, not numbers"),
        (broken(cpu=np.nan), "target cpu has no value at all"),
        (broken(memory=np.inf), "column memory holds infinite values"),
        (broken(time_idx=pd.Timestamp("2026-01-05")), "column time_idx holds datetime64.*, not whole steps"),
        (broken(time_idx=broken()["time_idx"] * 300), "server server0 has rows of time_idx .* number the steps"),
        (broken(server=None), "column server is empty in"),
        (broken().iloc[:0], "the data has no rows"),
        (pd.concat([broken(), broken().iloc[3:4]]), "server server0 has two rows of step"),
    ]
    for frame, message in cases:
        with pytest.raises(DatasetError, match=message) as caught:
            DenseWindows(frame, FULL)
        assert "\n" not in str(caught.value)


def test_values_that_softplus_does_not_take_are_refused() -> None:
    spec = FULL.model_copy(update={"normaliser": TargetNormaliser(transformation="softplus")})
    with pytest.raises(DatasetError, match=r"target cpu has values below 0 \(-2\): softplus takes none"):
        DenseWindows(broken(cpu=np.float32(-2)), spec)


def test_too_few_steps_say_how_many_are_missing() -> None:
    frame = frame_of(17, servers=1)
    start = int(frame["time_idx"][0])
    with pytest.raises(DatasetError, match=r"server0 has 11, .* takes 16 \(12 \+ 4\): 5 are missing"):
        DenseWindows(frame.head(11), FULL).windows()
    windows = DenseWindows(frame, FULL)
    with pytest.raises(DatasetError, match=rf"8 steps up to step {start + 7}, the encoder takes 12: 4 are missing"):
        windows.batch(np.array([0]), np.array([start + 7]))
    with pytest.raises(DatasetError, match=r"the decoder ends at step \d+: 3 are missing; append rows"):
        windows.batch(np.array([0]), np.array([start + len(frame) - 2]))
    with pytest.raises(DatasetError, match="encoder lengths must be 12 to 12 steps"):
        windows.batch(np.array([0]), np.array([start + 15]), np.array([5]))
    with pytest.raises(DatasetError, match="no window has values of cpu both in its encoder and after it"):
        DenseWindows(frame.assign(cpu=frame["cpu"].where(frame.index < 1)).head(16), FULL).windows()


def test_scalers_of_another_specification_are_refused() -> None:
    frame = frame_of(18)
    fitted = DenseWindows(frame, FULL.model_copy(update={"static_reals": ()})).fitted
    with pytest.raises(DatasetError, match="the fitted scalers have no size"):
        DenseWindows(frame, FULL, fitted)
    with pytest.raises(DatasetError, match=r"the scalers were fitted with by='window'.* the specification has by='s"):
        DenseWindows(frame, FULL, DenseWindows(frame, BY_WINDOW).fitted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ()}, "at least 1 item"),
        ({"min_encoder_length": 13}, "min_encoder_length 13 exceeds max_encoder_length 12"),
        ({"min_encoder_length": 1, "normaliser": TargetNormaliser(by="window")}, "at least 2"),
        ({"static_reals": ("hour",)}, r"named once: \['hour'\]"),
        ({"time_varying_known_reals": ("cpu",), "time_varying_unknown_reals": ()}, "are not known ahead"),
        ({"static_categoricals": ("rack",)}, r"categoricals \['rack'\] need a frozen vocabulary"),
    ],
)
def test_a_contradictory_specification_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseSpec(**{**FULL.model_dump(), **changes})
