"""What people read on the dashboard: numbers in human units, escaped names, the contract's words in colour."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetcast.contract.vocabulary import PROFILES, STATES
from serve_app.dashboard import markup, palette, words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0 %"),
        (0.0004, "< 0.1 %"),
        (0.0123, "1.2 %"),
        (0.86, "86 %"),
        (0.9991, "> 99 %"),
        (1.0, "100 %"),
        (1.19, "119 %"),
    ],
)
def test_a_ratio_is_shown_in_per_cent(value: float | None, shown: str) -> None:
    assert words.percent(value) == shown


@example(0.995)
@given(st.floats(0, 1))
def test_only_zero_and_one_are_shown_as_never_and_always(value: float) -> None:
    assert (words.percent(value) == "0 %") == (value == 0)
    assert (words.percent(value) == "100 %") == (value == 1)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(45, "45 s"), (600, "10 min"), (7800, "2 h 10 min"), (3600, "1 h"), (3 * 86400 + 7200, "3 d 2 h"), (None, "–")],
)
def test_a_duration_is_shown_in_its_largest_units(seconds: float | None, shown: str) -> None:
    assert words.duration(seconds) == shown


@given(st.floats(0, 1e7))
def test_a_duration_is_never_empty(seconds: float) -> None:
    assert words.duration(seconds).strip()


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("cpu_utilization", 0.48, "48 %"),
        ("network_receive_bytes", 1_234_567.0, "1.2 MB/s"),
        ("network_receive_bytes", 940.0, "940 B/s"),
        ("load1_per_core", 0.956, "0.956"),
        ("tcp_close_wait", 1234.0, "1,234"),
        ("major_page_faults", 3.0, "3 /s"),
        ("uptime_seconds", 90061.0, "1 d 1 h 1 min"),
        ("memory_used", None, "–"),
    ],
)
def test_a_metric_is_shown_in_units_that_people_use(metric: str, value: float | None, shown: str) -> None:
    assert words.metric_value(metric, value) == shown


def test_times_say_that_they_are_utc() -> None:
    at = datetime(2026, 1, 12, 14, 35, tzinfo=UTC)
    assert (words.moment(at), words.hour(at), words.moment(None)) == ("2026-01-12 14:35 UTC", "14:35 UTC", "–")


def test_what_is_already_so_is_now() -> None:
    assert (words.ahead(0.0), words.ahead(300.0), words.ahead(None)) == ("now", "5 min", "–")


def test_profiles_come_in_the_order_of_the_contract() -> None:
    found = dict.fromkeys([*reversed(PROFILES), "mainframe"], 1)
    assert [name for name, _ in words.by_profile(found)] == [*PROFILES, "mainframe"]


def test_money_has_its_sign_before_the_currency() -> None:
    assert (words.money(1234.5), words.money(-100.0), words.money(None)) == ("$1,234", "−$100", "–")


class _Tags(HTMLParser):
    """Names of the tags and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(str(html))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values = dict(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_server_name_is_text_whatever_it_holds(name: str) -> None:
    found = _Tags(markup.server(name))
    assert found.tags == ["button"]
    assert found.text == name
    assert found.values["data-value"] == name


def test_cells_of_a_table_are_escaped() -> None:
    attack = '<img src=x onerror="alert(1)">'
    found = _Tags(markup.table(["a_b", attack], [[attack, markup.level("P1")]], numeric=(1,)))
    assert "img" not in found.tags
    assert found.text.count(attack) == 2


def test_every_word_of_the_contract_has_a_colour_of_its_own() -> None:
    assert set(palette.PROFILES) == set(PROFILES)
    assert set(palette.STATES) == set(STATES)
    for colors in (palette.PROFILES, palette.STATES, palette.LEVELS):
        assert len(set(colors.values())) == len(colors)


def test_a_level_is_told_by_its_word() -> None:
    assert [_Tags(markup.level(name)).text for name in palette.LEVELS] == ["P1", "P2", "P3", "P4"]
