"""The commands that read logs, replay and log; and internal errors in run and replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.machine.context import Context
from scenarios import SCENARIOS
from scenarios.stage import Stage
from tests.conftest import Answer, Command, check_usage_error
from tests.helpers import (
    TINY_CAPTURE,
    crashes,
    each_driver_name,
    fails,
    install,
    make_cell,
    make_scenario,
    quiet,
    warns,
)


@pytest.fixture(autouse=True)
def known_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the scenarios with known outcomes, for every test of this module."""
    install(monkeypatch, *(make_scenario(body.__name__, body) for body in (quiet, warns, crashes, fails)))


# -- replay -----------------------------------------------------------------------------------------------------------


def comparable(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer.out)
    return {key: value for key, value in told.items() if key not in ("driver", "seconds")}


@each_driver_name
@pytest.mark.parametrize("name", ["quiet", "warns", "crashes", "canary", "nested"])
def test_replay_tells_what_run_told_under_either_driver(slabrace: Command, driver: str, name: str) -> None:
    live = slabrace("run", name, "--log", "x.log", "--json")
    replayed = slabrace("replay", "x.log", "--driver", driver, "--json")

    assert replayed.code == live.code
    assert json.loads(replayed.out)["driver"] == driver
    assert comparable(replayed) == comparable(live)
    assert replayed.err == ""


def test_replay_needs_nothing_but_the_log(slabrace: Command, tmp_path: Path) -> None:
    """The log contains the capture that the run was given."""
    capture = tmp_path / "slabinfo"
    capture.write_text(TINY_CAPTURE)
    live = slabrace("run", "quiet", "--set", f"slabinfo={capture}", "--log", "x.log", "--json")
    capture.unlink()

    assert comparable(slabrace("replay", "x.log", "--json")) == comparable(live)
    assert json.loads(live.out)["final"]["kmem_caches"] == 3


@each_driver_name
def test_replay_until_a_step_shows_where_each_flow_stands(slabrace: Command, driver: str) -> None:
    steps = json.loads(slabrace("run", "nested", "--log", "x.log", "--json").out)["steps"]
    answer = slabrace("replay", "x.log", "--until", steps // 2, "--driver", driver)
    header = next(line for line in answer.out.splitlines() if line.startswith("flow "))

    assert answer.code == 0
    assert header.split("  ")[0] == "flow"
    assert "stands before" in header
    assert f"stopped after step {steps // 2}" in answer.out
    assert "(waits)" in answer.out
    assert " < " in answer.out, "functions with their callers"


@pytest.mark.parametrize("until", [0, 1, 10])
def test_replay_until_a_step_makes_so_many_steps(slabrace: Command, until: int) -> None:
    slabrace("run", "nested", "--log", "x.log")
    answer = slabrace("replay", "x.log", "--until", until, "--json")
    told = json.loads(answer.out)

    assert answer.code == 0
    assert (told["outcome"], told["steps"], told["divergence"]) == ("ok", until, None)
    assert told["unreached"] == []


def test_replay_until_a_step_behind_the_end_is_refused(slabrace: Command) -> None:
    live = json.loads(slabrace("run", "nested", "--log", "x.log", "--json").out)
    line = check_usage_error(slabrace("replay", "x.log", "--until", 10**9, "--json"))

    assert f"x.log: there is no step {10**9}: the log ends after step {live['steps']}" in line


@each_driver_name
def test_a_log_of_changed_code_exits_with_4_and_says_where_and_what_was_enabled(
    slabrace: Command, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(stage: Stage) -> None:
        """As `quiet`, but one of the tasks takes an extra step."""
        cell = make_cell(stage.boot().world)

        async def body(ctx: Context) -> None:
            for _ in range(3 if ctx.name == "a" else 9):
                await ctx.ask(cell.add)

        stage.task("a", body)
        stage.task("b", body, cpu=1)

    slabrace("run", "quiet", "--log", "x.log")
    monkeypatch.setattr("scenarios.SCENARIOS", (*SCENARIOS, make_scenario("quiet", changed)))
    answer = slabrace("replay", "x.log", "--driver", driver)
    told = json.loads(slabrace("replay", "x.log", "--driver", driver, "--json").out)

    assert answer.code == 4
    assert told["outcome"] == "diverged"
    assert set(told["divergence"]) == {"step", "then", "now"}
    assert f"diverged at step {told['divergence']['step']}" in answer.out
    assert "then: " in answer.out
    assert "enabled now: " in answer.out
    assert "enabled: " in told["divergence"]["then"]


# -- log --------------------------------------------------------------------------------------------------------------


def events(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.out.splitlines()]


def test_log_prints_every_step_as_a_line_of_json(slabrace: Command) -> None:
    told = json.loads(slabrace("run", "rmdir-under-load", "--log", "x.log", "--json").out)
    answer = slabrace("log", "x.log", "--json")
    steps = [event for event in events(answer) if event["event"] == "step"]

    assert answer.code == 0
    assert [event["step"] for event in steps] == list(range(told["steps"]))
    assert [event["time"] for event in steps] == sorted(event["time"] for event in steps)
    for event in steps:
        assert set(event) == {
            *("schema", "event", "step", "time", "flow", "kind", "cpu", "function", "operation"),
            *("access", "owner", "choice", "enabled"),
        }
        assert event["enabled"][event["choice"]] == event["flow"]
        assert event["kind"] in ("T", "KW", "SI", "HI", "KT", "A")
        assert event["access"] in ("read", "update", "commute")


def test_log_tells_of_phases_moves_choices_and_findings(slabrace: Command) -> None:
    slabrace("run", "rmdir-under-load", "--kernel", "original", "--log", "x.log", "--set", "objects=30")
    slabrace("run", "warns", "--log", "y.log")
    told = {event["event"] for event in events(slabrace("log", "x.log", "--json"))}
    findings = [event for event in events(slabrace("log", "y.log", "--json")) if event["event"] == "finding"]

    assert told >= {"step", "phase", "moved", "value"}
    assert [(finding["kind"], finding["step"]) for finding in findings] == [("warn", 2)]


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 4), (7, 7), (5, 30)])
def test_log_prints_a_part(slabrace: Command, first: int, last: int) -> None:
    slabrace("run", "nested", "--log", "x.log")
    whole = [event for event in events(slabrace("log", "x.log", "--json")) if event["event"] == "step"]
    answer = slabrace("log", "x.log", "--json", "--first", first, "--last", last)
    part = [event for event in events(answer) if event["event"] == "step"]

    assert (answer.code, answer.err) == (0, "")
    assert part == whole[first : last + 1]


def test_log_prints_for_people_too(slabrace: Command) -> None:
    slabrace("run", "quiet", "--seed", 77, "--log", "x.log")
    answer = slabrace("log", "x.log")

    assert answer.code == 0
    assert "seed 77" in answer.out.splitlines()[0]
    assert len([line for line in answer.out.splitlines() if "operation=add" in line]) == 6


def test_log_prints_a_finding_for_people_too(slabrace: Command) -> None:
    slabrace("run", "warns", "--log", "x.log")
    answer = slabrace("log", "x.log")
    (finding,) = (line for line in answer.out.splitlines() if line.startswith("finding"))

    assert answer.code == 0
    assert "kind=warn" in finding
    assert "called=" in finding


# -- internal errors --------------------------------------------------------------------------------------------------


@each_driver_name
def test_an_internal_error_exits_with_3_and_is_no_finding(slabrace: Command, driver: str) -> None:
    answer = slabrace("run", "fails", "--driver", driver, "--log", "x.log", "--json")

    assert answer.code == 3
    assert answer.out == ""
    assert "the simulator is broken" in answer.err
    assert answer.err.splitlines()[-1].startswith("slabrace: internal error: this is a bug of slabrace")


def test_a_run_with_an_internal_error_leaves_a_log_up_to_there(slabrace: Command) -> None:
    slabrace("run", "fails", "--log", "x.log")
    answer = slabrace("log", "x.log", "--json")

    assert answer.code == 0
    assert "step" in {event["event"] for event in events(answer)}
    assert "the log has no end" in answer.err


@each_driver_name
def test_a_replay_of_a_run_with_an_internal_error_fails_in_the_same_way(slabrace: Command, driver: str) -> None:
    slabrace("run", "fails", "--log", "x.log")

    assert slabrace("replay", "x.log", "--driver", driver).code == 3
