"""`explore --from LOG --at STEP`: every schedule begins as the log does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.onward import read_beginning
from protocol.log import LogReader
from protocol.records import Step
from tests.conftest import Command, check_usage_error

SCENARIO = "destroy-vs-offline"
AT = 190


@pytest.fixture
def log(slabrace: Command, tmp_path: Path) -> Path:
    path = tmp_path / "first.log"
    slabrace("run", SCENARIO, "--kernel", "5.3", "--seed", "3", "--strategy", "random", "--log", str(path))
    return path


def choices_of(path: Path, count: int) -> list[tuple[int, int]]:
    """Time and lane of the first *count* steps of a log."""
    log = LogReader(path)
    try:
        steps = [(record.dt, record.index) for _, record in log.records() if isinstance(record, Step)]
    finally:
        log.close()
    return steps[:count]


@pytest.mark.parametrize("strategy", ["portfolio", "guided", "random", "pct:2", "dpor", "clock"])
def test_the_schedule_of_a_finding_begins_as_the_log_does_and_replays(
    slabrace: Command, log: Path, tmp_path: Path, strategy: str
) -> None:
    answer = slabrace("explore", "--from", str(log), "--at", str(AT), "--strategy", strategy, "--budget=20", "--json")
    found = json.loads(answer.out)

    assert answer.code in (0, 1)
    assert found["schedules"] > 0
    for finding in found["findings"]:
        assert choices_of(tmp_path / finding["log"], AT) == choices_of(log, AT)
        assert slabrace("replay", finding["log"]).code == 1


def test_schedules_with_the_same_prefix_reach_many_classes(slabrace: Command, log: Path) -> None:
    found = json.loads(slabrace("explore", "--from", str(log), "--at", str(AT), "--budget=40", "--json").out)

    assert found["trace_classes"] > 20
    assert found["from"] == {"log": str(log), "at": AT}


def test_two_workers_give_the_same_answer(slabrace: Command, log: Path) -> None:
    command = ("explore", "--from", str(log), "--at", str(AT), "--budget=20", "--no-log", "--json")
    one, two = (json.loads(slabrace(*command, f"--workers={workers}").out) for workers in (1, 2))

    assert {**one, "seconds": 0, "schedules_per_second": 0} == {**two, "seconds": 0, "schedules_per_second": 0}


def test_the_prefix_has_all_choices_before_the_step(log: Path) -> None:
    reader = LogReader(log)
    try:
        beginning = read_beginning(reader, AT)
    finally:
        reader.close()

    assert list(beginning.steps) == choices_of(log, AT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "LOG"], "from which step on?"),
        (["--at", "5"], "of which log?"),
        ([], "give a SCENARIO"),
        (["--from", "LOG", "--at", "100000"], "steps 0 to"),
        (["--from", "LOG", "--at", "0"], "in which nothing races"),
        (["--from", "LOG", "--at", "190", "--kernel", "5.3"], "leave out --kernel"),
        (["canary", "--from", "LOG", "--at", "190"], "leave out SCENARIO"),
        (["--from", "LOG", "--at", "190", "--set", "cpus=3"], "leave out --set"),
        (["--from", "missing.log", "--at", "190"], "No such file"),
        (["--from", "LOG", "--at", "190", "--patch", "exit-during-atomic-switch"], "diverges from it at step"),
    ],
)
def test_an_impossible_prefix_is_refused(slabrace: Command, log: Path, arguments: list[str], message: str) -> None:
    given = [str(log) if argument == "LOG" else argument for argument in arguments]

    assert message in check_usage_error(slabrace("explore", *given))
