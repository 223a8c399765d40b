"""The contract's fixed words, its digest, its document, server ids and compatibility."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.compatibility import Side, require_fit, this_contract
from fleetcast.contract.definition import digest
from fleetcast.contract.document import document
from fleetcast.contract.metrics import METRICS, default_targets, in_contract_order, metric
from fleetcast.contract.servers import server_id, server_ids
from fleetcast.contract.thresholds import THRESHOLDS, threshold, threshold_matrix
from fleetcast.contract.vocabulary import (
    PROFILES,
    STATES,
    UNKNOWN,
    VERSION,
    profile_code,
    profile_from_host,
    profile_name,
    state_code,
)
from fleetcast.errors import CollisionError, ContractError, IncompatibleError

DOCUMENT = Path(__file__).parents[2] / "docs" / "data-contract.md"
DIGEST_OF_2_0_0 = "ba2876f1085b6908564ab2177bb20cf73fbeafd320943b2e69bd2d861dab41d3"


def test_version_2_0_0_never_changes():
    assert VERSION == "2.0.0", "pin the digest of the new version beside this one"
    assert digest() == DIGEST_OF_2_0_0, "the definition changed: give it a new version"


def test_the_document_is_that_of_the_code():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "stale: run `python -m fleetcast.contract.document docs/data-contract.md`"
    )


def test_codes_are_fixed_and_unknown_words_take_slot_zero():
    assert [profile_code(word) for word in PROFILES] == [1, 2, 3, 4, 5, 6, 7]
    assert [state_code(word) for word in STATES] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert profile_code("mainframe") == state_code("on fire") == profile_code(UNKNOWN) == 0
    assert [profile_name(profile_code(word)) for word in (*PROFILES, UNKNOWN)] == [*PROFILES, UNKNOWN]


@pytest.mark.parametrize(
    ("host", "profile"),
    [
        ("ppml0000017", "ml_compute"),
        ("PPDB0001", "database"),
        ("nginx-3", "web_api"),
        ("ppcon002", "conductor_mgmt"),
        ("kafka7", "data_ingest"),
        ("quant-9", "risk_analytics"),
        ("mail1", "generic"),
    ],
)
def test_a_host_name_suggests_a_profile(host, profile):
    assert profile_from_host(host) == profile


def test_soft_ranges_lie_within_hard_ones_and_thresholds_within_both():
    for found in METRICS:
        assert found.hard[0] <= found.soft[0] < found.soft[1] <= found.hard[1]
    for name, limits in THRESHOLDS.items():
        assert metric(name).soft[0] < limits.warning < limits.critical <= metric(name).soft[1]


def test_a_profile_overrides_a_threshold_and_no_threshold_is_infinite():
    matrix = threshold_matrix(["cpu_iowait", "uptime_seconds"])
    assert matrix[profile_code("database")].tolist() == [0.5, float("inf")]
    assert matrix[profile_code("web_api")].tolist() == [0.4, float("inf")]
    assert threshold("cpu_iowait", "database").warning == 0.3
    assert threshold("uptime_seconds") is None


def test_metrics_are_put_in_contract_order_and_unknown_ones_refused():
    assert in_contract_order(["memory_used", "cpu_utilization", "memory_used"]) == ("cpu_utilization", "memory_used")
    with pytest.raises(ContractError, match="temperature"):
        in_contract_order(["temperature"])
    assert default_targets(["swap_used", "memory_used"]) == ("memory_used",)
    with pytest.raises(ContractError, match="swap_used"):
        default_targets(["swap_used"])


def test_server_ids_are_the_first_64_bits_of_sha256():
    assert server_id("abc") == 0xBA7816BF8F01CFEA  # FIPS 180-2, appendix B.1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=20), unique=True))
def test_a_servers_id_depends_on_its_name_alone(names):
    ids = server_ids(names)
    assert ids == {name: server_id(name) for name in names} == server_ids(reversed(names))


def test_two_names_with_one_id_are_an_error_that_names_both():
    with pytest.raises(CollisionError, match=r"'web1' and 'db1' share the id 0000000000000007"):
        server_ids(["web1", "db1"], identify=lambda name: 7)
    assert server_ids(["web1", "web1"], identify=lambda name: 7) == {"web1": 7}


def test_a_model_fits_data_with_the_metrics_that_it_needs_whatever_else_there_is():
    require_fit(this_contract(["cpu_utilization"], "model"), this_contract(["cpu_utilization", "swap_used"], "data"))


def test_every_difference_is_named_with_both_sides():
    model = Side("model m", "2.0.0", 300, ("cpu_utilization", "swap_used"))
    data = Side("dataset d", "3.1.0", 60, ("cpu_utilization",), profiles=PROFILES[:6])
    with pytest.raises(IncompatibleError) as caught:
        require_fit(model, data)
    assert [what for what, _, _ in caught.value.differences] == [
        "contract version",
        "step_seconds",
        "profiles",
        "metrics",
    ]
    assert "model m has '2.0.0', dataset d has '3.1.0'" in str(caught.value)
