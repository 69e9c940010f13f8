"""Shrinking makes a schedule easier to follow, never harder, and ends when its time limit is reached."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from explorer.cli import main
from explorer.schedule import Follow
from explorer.shrink import Shrinker, TimeLimit, size_of
from explorer.trace import run_traced
from protocol.schedule import Schedule
from tests.explain.stages import FREED_TOO_EARLY, experiment, free_against_use, signature_of

RESTLESS: Schedule = tuple(
    lane for other in ("user", "user", "freer", "freer", "user") for lane in ("bystander", other)
)
"""A schedule that frees the box too early, with further switches that are irrelevant."""


def make_shrinker(schedule: Schedule, end: float | None = None) -> Shrinker:
    toy = experiment(free_against_use)
    trace = run_traced(toy, Follow(schedule), signature_of(toy, schedule))
    return Shrinker(toy, trace) if end is None else Shrinker(toy, trace, end=end)


@pytest.mark.parametrize("schedule", [FREED_TOO_EARLY, RESTLESS])
def test_the_result_shows_the_same_and_is_easier_to_follow(schedule: Schedule) -> None:
    shrinker = make_shrinker(schedule)
    before = shrinker.best
    shrinker.shrink()

    assert shrinker.best.signature == before.signature
    assert size_of(shrinker.best) < size_of(before)
    assert shrinker.best.preemptions <= before.preemptions
    assert "bystander" not in {step.lane for step in shrinker.best.steps}


def test_no_run_that_is_kept_preempts_more_than_the_one_before() -> None:
    shrinker = make_shrinker(RESTLESS)
    sizes = [size_of(shrinker.best)]
    shrinker.progress = lambda shrinker: sizes.append(size_of(shrinker.best))
    shrinker.shrink()

    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == shrinker.runs + 1


def test_a_flaw_that_needs_no_preemption_keeps_none() -> None:
    """The freeing task runs first to its end, and then the using task."""
    shrinker = make_shrinker(RESTLESS)
    shrinker.shrink()

    assert (shrinker.best.preemptions, shrinker.best.switches) == (0, 1)


def test_when_the_time_is_over_it_ends_with_what_it_has() -> None:
    shrinker = make_shrinker(RESTLESS, end=time.monotonic())
    before = shrinker.best
    shrinker.shrink()

    assert (shrinker.runs, shrinker.best) == (0, before)


def test_a_run_is_stopped_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.shrink.LOOKS", 3)
    toy = experiment(free_against_use)
    trace = run_traced(toy, Follow(()), "nothing", TimeLimit(time.monotonic()))

    assert trace.stage.world.stopped == "out of time"


def test_the_command_prints_the_measures_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "canary.log"
    assert main(["run", "canary", "--set", "rounds=1", "--driver", "stepper", "--seed", "1", "--log", str(log)]) == 1
    capsys.readouterr()

    assert main(["shrink", str(log), "--budget", "200", "--seconds", "20"]) == 1
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:6]] == [
        "preemptions",
        "switches",
        "steps",
        "steps",
        "lanes",
    ]
