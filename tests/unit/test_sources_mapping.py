"""The mapping file: every mistake is refused with its line and field, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetcast.contract.metrics import METRICS
from fleetcast.errors import MappingError
from fleetcast.sources.mapping import MetricColumn
from fleetcast.sources.mapping_file import load_mapping
from fleetcast.sources.units import UNITS, dimension_of

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD = """\
timezone: America/New_York
files:
  - match: "*.csv"
    server: {column: host}
    profile: {from_host: true}
    time: {column: at, format: iso, zone: UTC}
    metrics:
      cpu_utilization: {column: cpu, unit: percent}
    ignore: [note]
skip:
  - {match: "*.old.csv", reason: superseded}
"""


def load(tmp_path, text):
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return load_mapping(path)


def test_a_good_mapping_is_read(tmp_path):
    mapping = load(tmp_path, GOOD)
    assert mapping.timezone == "America/New_York"
    assert mapping.files[0].mapped_columns == {"host", "at", "cpu"}
    assert mapping.skip[0].reason == "superseded"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_examples_are_good(path):
    assert load_mapping(path).metrics


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    ignore: [note]", "    ignor: [note]", r":9: files\.0\.ignor: unknown field"),
        ("timezone: America/New_York", "timezone: Mars", r":1: timezone: unknown time zone 'Mars'"),
        ("unit: percent", "unit: furlong", r":3: files\.0: unknown unit 'furlong'"),
        ("unit: percent", "unit: KB/s", r"cpu_utilization is in 1 \(ratio\), but KB/s is bytes a second"),
        ("cpu_utilization:", "temperature:", r"unknown metric 'temperature'; the contract has cpu_utilization"),
        ("{column: host}", "{column: host, file: x}", r":4: files\.0\.server: give either `column` or `file`"),
        ("{column: host}", "{file: '(?P<id>x'}", r":4: files\.0\.server\.file: not a regular expression"),
        ("{column: host}", "{file: '(?P<id>x)'}", r":4: files\.0\.server: `name` '{server}' needs named groups"),
        ("{from_host: true}", "{fixed: mainframe}", r":5: files\.0\.profile\.fixed: unknown profile 'mainframe'"),
        ("{from_host: true}", "{}", r":5: files\.0\.profile: give one of"),
        ("format: iso", "format: julian", r":6: files\.0\.time\.format: unknown time format 'julian'"),
        ("column: at", "columm: at", r":6: files\.0\.time\.columm: unknown field"),
        ("[note]", "[note, cpu]", r"columns both mapped and ignored: cpu"),
        ("ignore: [note]", "ignore: note", r":9: files\.0\.ignore: Input should be a valid list"),
        ("unit: percent}", "unit: percent}\n      cpu_utilization: {column: c, unit: ratio}", r":9: .*given twice"),
        ("  - match:", "  - [match", r"no YAML"),
        ("reason: superseded", "reason: ''", r":11: skip\.0\.reason"),
        ('match: "*.csv"', "match: 17", r":3: files\.0\.match: Input should be a valid string"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_field(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(MappingError, match=message):
        load(tmp_path, GOOD.replace(old, new, 1))


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(MappingError) as caught:
        load(tmp_path, GOOD.replace("ignore", "ignor").replace("America/New_York", "Mars"))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "- a\n", "just words"])
def test_something_else_than_a_mapping_is_refused(tmp_path, text):
    with pytest.raises(MappingError, match="must be a YAML mapping"):
        load(tmp_path, text)


def test_a_missing_file_is_a_mapping_error(tmp_path):
    with pytest.raises(MappingError, match="cannot read"):
        load_mapping(tmp_path / "none.yaml")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_can_be_mapped(metric):
    fitting = [name for name, unit in UNITS.items() if unit.dimension == dimension_of(metric.unit)]
    assert fitting
    for name in fitting:
        MetricColumn(column="x", unit=name).check(metric.name)
