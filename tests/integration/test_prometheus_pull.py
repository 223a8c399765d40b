"""The real Prometheus with a week of history: what its import says is what the history was made of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import DatasetError, SourceError, UsageError
from fleetcast.settings import PrometheusSettings, RelabelRule
from fleetcast.sources.prometheus.client import PrometheusClient
from fleetcast.sources.prometheus.history import import_prometheus
from fleetcast.sources.prometheus.pull import Pull
from fleetcast.sources.prometheus.relabel import LONGEST_LABEL, Relabeller
from tests.prometheus import Prometheus, busy, free_port, host_lines, memory, prometheus

ROOT = Path(__file__).parents[2]
END = datetime(2026, 1, 12, 10, tzinfo=UTC)
DAY = timedelta(days=1)
START = END - 7 * DAY
BOOT = int((END - timedelta(hours=30)).timestamp()) + 90
GAP = (int((END - timedelta(hours=20)).timestamp()), int((END - timedelta(hours=19)).timestamp()))


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    first, last = int(START.timestamp()), int(END.timestamp())

    def lines() -> Iterator[str]:
        yield from host_lines("ppweb0001:9100", first, last, boots=[BOOT])
        for line in host_lines("db7:9100", first, last):
            if not GAP[0] < int(line.rpartition(" ")[2]) <= GAP[1]:
                yield line

    with prometheus(tmp_path_factory.mktemp("prometheus"), blocks=lines()) as found:
        yield found


def of_server(table: pa.Table, server: str) -> dict[int, dict[str, object]]:
    return {int(row["timestamp"].timestamp()): row for row in table.to_pylist() if row["server"] == server}


def test_labels_of_a_host_are_told_as_they_are_now() -> None:
    rules = Relabeller(PrometheusSettings().relabel, ["cell", "team"])
    for labels in ({"cell": "a", "team": "x"}, {"cell": "b"}, {"cell": "a", "team": "x"}, {}):
        assert rules.host({"instance": "web1:9100", "job": "node", **labels}) is not None
        assert rules.taken_labels() == {"web1": labels}
    assert rules.taken_labels() == {}
    rules.host({"instance": "web1:9100", "cell": "x" * (LONGEST_LABEL + 1)})
    assert rules.taken_labels() == {"web1": {}}


def test_a_week_is_imported_by_the_command_and_is_the_truth(week: Prometheus, tmp_path: Path) -> None:
    out = tmp_path / "data"
    command = [sys.executable, "-c", "from fleetcast.cli import main; main()", "import", "prometheus", week.url]
    command += ["--start", START.isoformat()]
    command += ["--end", END.isoformat(), "--out", str(out), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    dataset = Dataset.open(out)
    assert dataset.manifest.servers == ["db7", "ppweb0001"]
    expected = {
        "cpu_utilization",
        "cpu_user",
        "memory_used",
        "network_receive_bytes",
        "load1_per_core",
        "uptime_seconds",
    }
    assert set(summary["metrics"]) == expected
    table = pa.concat_tables(dataset.tables())
    web, database = of_server(table, "ppweb0001"), of_server(table, "db7")
    assert len(web) == 7 * 288
    assert set(web) - set(database) >= set(range(GAP[0] + 300, GAP[1] - 300, 300))
    assert {row["profile"] for row in web.values()} == {"web_api"}
    assert {row["profile"] for row in database.values()} == {"database"}
    for second, row in web.items():
        assert row["cpu_utilization"] == pytest.approx(busy(second), abs=1e-4)
        assert row["memory_used"] == pytest.approx(memory(second), abs=1e-4)
        assert row["network_receive_bytes"] == pytest.approx(1000, rel=1e-3)
    booted = BOOT // 300 * 300 + 300
    assert web[booted]["uptime_seconds"] == pytest.approx(booted + 300 - BOOT)


def test_a_span_beyond_a_querys_limit_is_asked_for_in_parts(week: Prometheus) -> None:
    settings = PrometheusSettings(url=week.url, chunk_steps=100)
    with PrometheusClient(settings) as client:
        with pytest.raises(UsageError, match="11000"):
            client.query_range("up", 0, 300 * 11_000, 300)
        pull = Pull(client, settings)
        first = int(START.timestamp())
        whole = pull.read(first, first + 300 * 287)
        parts = [pull.read(first + 300 * at, first + 300 * min(287, at + 99)) for at in range(0, 288, 100)]
    order = [("server", "ascending"), ("timestamp", "ascending")]
    assert pa.concat_tables(parts).sort_by(order).equals(whole.sort_by(order))


def test_queries_and_rules_of_the_settings_take_the_place_of_the_defaults(week: Prometheus) -> None:
    settings = PrometheusSettings(
        url=week.url,
        queries={"cpu_utilization": "vector(0.25) * on () group_right node_load1 * 0 + 0.25", "memory_used": ""},
        relabel=[
            RelabelRule(source_labels=["nodename"], regex=r"(\w+)\.example", target_label="server", replacement="x-$1"),
            RelabelRule(source_labels=["job"], regex="node", target_label="profile", replacement="risk_analytics"),
            RelabelRule(source_labels=["instance"], regex="db.*", action="drop"),
        ],
    )
    with PrometheusClient(settings) as client:
        table = Pull(client, settings).read(int(START.timestamp()), int(START.timestamp()) + 3000)
    assert set(table["server"].to_pylist()) == {"x-ppweb0001"}
    assert set(table["profile"].to_pylist()) == {"risk_analytics"}
    assert set(table["cpu_utilization"].to_pylist()) == {0.25}
    assert "memory_used" not in table.schema.names


def test_what_cannot_be_asked_is_refused_in_one_line(week: Prometheus, tmp_path: Path) -> None:
    settings = PrometheusSettings(url=week.url)

    def run(**changes: object) -> None:
        import_prometheus(settings.model_copy(update=changes), START, END, tmp_path / "out", show_progress=False)

    with pytest.raises(SourceError, match=r"refused 'rate\(': .*parse error"):
        run(queries={"cpu_utilization": "rate("})
    with pytest.raises(SourceError, match="does not answer"):
        run(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UsageError, match="no Prometheus is set"):
        run(url=None)
    with pytest.raises(DatasetError, match="has no host"):
        import_prometheus(
            settings, END + timedelta(days=1), END + timedelta(days=2), tmp_path / "out", show_progress=False
        )
    with pytest.raises(UsageError, match="no whole step"):
        import_prometheus(settings, END, END, tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_rules_work_as_those_of_prometheus() -> None:
    joined = RelabelRule(source_labels=["a", "b"], separator="-", regex="(.+)-(.+)", target_label="server")
    rules = [
        joined.model_copy(update={"replacement": "${2}.$1"}),
        RelabelRule(source_labels=["server"], target_label="server", action="lowercase"),
        RelabelRule(source_labels=["env"], regex="prod|", action="keep"),
    ]
    found = Relabeller(rules).host({"a": "X", "b": "GPU1"})
    assert found is not None
    assert (found.server, found.profile) == ("gpu1.x", "ml_compute")
    assert Relabeller(rules).host({"a": "X", "b": "Y", "env": "test"}) is None
    assert Relabeller(rules).host({"a": "X"}) is None


@pytest.mark.parametrize(("instance", "server"), [("web1:9100", "web1"), ("web2", "web2"), ("[::1]:9100", "[::1]")])
def test_a_host_is_named_by_its_instance_without_the_port_unless_rules_say_otherwise(
    instance: str, server: str
) -> None:
    found = Relabeller(PrometheusSettings().relabel).host({"instance": instance, "profile": "database"})
    assert found is not None
    assert (found.server, found.profile) == (server, "database")


@pytest.mark.parametrize(
    "rule",
    [
        RelabelRule(regex="(", target_label="server"),
        RelabelRule(replacement="$7", target_label="server"),
        RelabelRule(),
    ],
)
def test_a_rule_that_is_none_is_refused(rule: RelabelRule) -> None:
    with pytest.raises(UsageError, match="rule"):
        Relabeller([rule])
