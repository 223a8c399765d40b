"""The command line: exit codes, one-line errors, arguments as people write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetcast.cli import main
from fleetcast.cli.parse import parse_numbers, parse_span, parse_time, parse_words
from fleetcast.errors import UsageError

COMMANDS = [
    ["demo"],
    ["simulate"],
    ["import", "csv"],
    ["import", "parquet"],
    ["validate"],
    ["compare"],
    ["train"],
    ["backtest"],
    ["spread"],
    ["forecast"],
    ["explain"],
    ["models", "list"],
    ["models", "show"],
    ["models", "promote"],
    *(
        ["alerts", command]
        for command in ("list", "show", "acknowledge", "resolve", "silence", "silences", "unsilence", "route", "test")
    ),
    ["keys", "list"],
    ["keys", "create"],
    ["keys", "rotate"],
    ["keys", "revoke"],
    ["serve"],
    ["status"],
    ["doctor"],
    ["reset"],
]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "Usage" in out


def test_wrong_use_is_2_and_a_failure_is_1_with_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "no-such-command")[0] == 2
    assert run(capsys, "train", "--data", "x", "--models", "y", "--holdout", "soon")[0] == 2
    code, out, err = run(capsys, "validate", str(tmp_path / "nothing"))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "fleetcast simulate" in err, "the message says what to do"
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--servers", "0"], "servers is 0"),
        (["--start", "2026-01-08T05:00Z", "--end", "2026-01-08T04:00Z"], "not after the start"),
        (["--start", "2026-01-08T05:01Z"], "grid"),
        (["--hours", "3", "--end", "2026-02-08T04:00Z"], "not both"),
        (["--profiles", "mainframe"], "'mainframe'"),
        (["--without-kinds", "gremlins"], "'gremlins' given as kinds of incident; choose from memory_leak"),
        (["--scenario", "panic"], "unknown scenario 'panic'; choose from healthy, degrading"),
        (["--scenario-after", "-1"], "scenario_after is -1"),
        (["--noise", "-1"], "noise is -1"),
        (["--dirt", "0.9"], "dirt is 0.9"),
        (["--shard-servers", "0"], "shard_servers is 0"),
        (["--workers", "0"], "workers 0"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    wrong: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "simulate", "--out", str(tmp_path / "new" / "data"), *wrong)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_validate_prints_a_summary(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "validate", str(tiny_dataset), "--json")
    assert code == 0
    summary = json.loads(out)
    assert (summary["ok"], summary["servers"], summary["quarantine"]) == (True, 9, [])


def test_validate_exits_1_when_a_part_was_changed(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in tiny_dataset.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    part = tmp_path / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-8])
    code, out, _ = run(capsys, "validate", str(tmp_path), "--json")
    assert code == 1
    assert any("part-00000.parquet" in problem for problem in json.loads(out)["problems"])


def test_an_empty_models_folder_is_an_empty_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "list", "--models", str(tmp_path), "--json")
    assert (code, json.loads(out)) == (0, [])


def test_times_spans_words_and_numbers() -> None:
    assert parse_time("2026-01-31T08:00Z") == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert parse_time("2026-01-31T08:00") == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert parse_time("2026-01-31T08:00-05:00") == datetime(2026, 1, 31, 13, tzinfo=UTC)
    assert [parse_span(text) for text in ("90m", "72h", "3d")] == [timedelta(minutes=90), timedelta(3), timedelta(3)]
    assert parse_words("a, b") == ("a", "b")
    assert parse_numbers("0.1,0.5") == (0.1, 0.5)
    for parse, text in ((parse_time, "noon"), (parse_span, "72"), (parse_words, ","), (parse_numbers, "a")):
        with pytest.raises(UsageError, match="write for example"):
            parse(text)
