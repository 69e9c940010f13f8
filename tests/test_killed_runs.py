"""Runs that are ended early: by Ctrl-C, by a second Ctrl-C, and by kill -9, each at a step that the test chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from actors.machine.context import Context
from actors.system.world import World
from explorer.experiment import DRIVERS, RunOptions
from explorer.session import replay, run
from protocol.log import FLUSH_BYTES, LogReader
from protocol.operations import UPDATE, operation
from scenarios.stage import Stage
from tests.conftest import Command
from tests.helpers import (
    MODULE,
    Cell,
    each_driver_name,
    install,
    make_cell,
    make_scenario,
    run_process,
    run_small,
    start_process,
)

RUN_AND_RAISE = """
import os, signal, sys
import explorer.cli.run

class Progress(explorer.cli.run.LiveProgress):
    def __call__(self, world):
        if world.steps > {steps}:
            os.kill(os.getpid(), signal.{signal})

explorer.cli.run.LiveProgress = Progress
sys.exit(explorer.cli.main(sys.argv[1:]))
"""
"""The real command, run in a process that sends itself a signal in the middle of a step."""


def run_and_raise(name: str, steps: int, log: Path, driver: str) -> subprocess.CompletedProcess[str]:
    script = RUN_AND_RAISE.format(steps=steps, signal=name)
    arguments = ["run", "shared-dentry", "--set", "generations=100000", "--driver", driver, "--log", str(log)]
    return run_process(sys.executable, "-c", script, *arguments)


@pytest.fixture
def signal_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """A function that makes the command raise SIGINT *times* times after *steps* steps."""

    def arm(steps: int, times: int = 1) -> None:
        left = [None] * times

        class Progress:
            def __call__(self, world: World) -> None:
                if world.steps > steps and left:
                    left.pop()
                    signal.raise_signal(signal.SIGINT)

            def close(self) -> None: ...

        for command in ("run", "replay"):
            monkeypatch.setattr(f"explorer.cli.{command}.LiveProgress", Progress)

    return arm


@pytest.fixture(autouse=True)
def same_handler() -> Iterator[None]:
    """Check that a run restores the handler of SIGINT that it found."""
    before = signal.getsignal(signal.SIGINT)
    yield

    assert signal.getsignal(signal.SIGINT) is before


# -- in this process --------------------------------------------------------------------------------------------------


@each_driver_name
def test_ctrl_c_ends_a_run_with_a_whole_log_and_exit_code_130(
    driver: str, slabrace: Command, signal_after: Callable[..., None]
) -> None:
    signal_after(5_000)
    answer = slabrace("run", "shared-dentry", "--driver", driver, "--set", "generations=100000", "--log", "x.log")

    assert answer.code == 130
    assert "interrupted" in answer.out
    assert "slabrace replay x.log" in answer.out
    assert answer.err == ""

    signal_after(10**9)
    for other in DRIVERS:
        result = replay(Path("x.log"), driver=other)

        assert (result.divergence, result.damage) == (None, None)
        assert 5_000 < result.steps < 8_000


@each_driver_name
def test_the_json_of_an_interrupted_run_is_whole(
    driver: str, slabrace: Command, signal_after: Callable[..., None]
) -> None:
    signal_after(2_000)
    answer = slabrace("run", "shared-dentry", "--driver", driver, "--log", "x.log", "--json")
    told = json.loads(answer.out)

    assert answer.code == 130
    assert told["outcome"] == "interrupted"
    assert told["findings"] == []
    assert told["unreached"] == [], "a run that did not end has not failed to reach anything"
    assert replay(Path("x.log"), driver="stepper").digest == told["digest"]


@each_driver_name
def test_a_second_ctrl_c_does_not_wait_for_the_step_to_end(
    driver: str, slabrace: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one asks the run to end; if that takes too long, the second ends the command at once."""

    class Impatient:
        def __call__(self, world: World) -> None:
            if world.steps > 30_000:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

        def close(self) -> None: ...

    monkeypatch.setattr("explorer.cli.run.LiveProgress", Impatient)
    answer = slabrace("run", "shared-dentry", "--driver", driver, "--set", "generations=100000", "--log", "x.log")
    result = replay(Path("x.log"), driver="stepper")

    assert answer.code == 130
    assert result.divergence is None
    assert result.damage is not None
    assert result.steps > 20_000


@each_driver_name
def test_ctrl_c_ends_a_replay_too(driver: str, slabrace: Command, signal_after: Callable[..., None]) -> None:
    run_small("shared-dentry", settings={}, log=Path("x.log"))
    signal_after(4_000)
    answer = slabrace("replay", "x.log", "--driver", driver)

    assert answer.code == 130
    assert "interrupted" in answer.out


# -- at any place of a step -------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Trap(Cell):
    """A cell that calls a function while its owner handles a request."""

    spring: Callable[[str], None] = attrs.field(default=lambda _place: None, init=False)

    @operation(UPDATE)
    def bump(self) -> None:
        self.value += 1
        if self.value == 20:
            self.spring("in the owner")


def scenario_that_is_interrupted(where: str, armed: list[bool]) -> Callable[[Stage], None]:
    """A scenario that raises SIGINT at a fixed place of a fixed step, if *armed*."""

    def build(stage: Stage) -> None:
        world = stage.boot().world
        trap = Trap(make_cell(world).actor, "trap")
        cpus = stage.machine.cpus

        def strike(place: str) -> None:
            if place == where and armed:
                armed.pop()
                signal.raise_signal(signal.SIGINT)

        trap.spring = strike

        async def body(ctx: Context) -> None:
            for number in range(200):
                await ctx.ask(trap.bump)
                if number == 20:
                    strike("in the flow, before it moves")
                await ctx.migrate(cpus[number % 2])
                if number == 20:
                    strike("in the flow, after it moved")
                await ctx.choose(2)

        stage.task("a", body)
        world.checks.append(lambda _flow: strike("in a check") if world.steps == 50 else None)

    return build


PLACES = ("in the owner", "in the flow, before it moves", "in the flow, after it moved", "in a check")


@each_driver_name
@pytest.mark.parametrize("where", PLACES)
def test_an_interrupted_run_has_a_whole_log_that_replays_to_the_same_digest(
    driver: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    armed = [True]
    install(monkeypatch, make_scenario("interrupted", scenario_that_is_interrupted(where, armed)))
    live = run(RunOptions(scenario="interrupted", driver=driver), log=tmp_path / "x.log")

    assert not armed, "the signal was raised"
    assert live.outcome == "interrupted"
    assert 0 < live.steps < 200
    assert signal.getsignal(signal.SIGINT) is before
    for other in DRIVERS:
        replayed = replay(tmp_path / "x.log", driver=other)

        assert replayed.divergence is None
        assert (replayed.steps, replayed.digest) == (live.steps, live.digest)


@each_driver_name
def test_the_footer_of_an_interrupted_run_says_so(driver: str, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    result = run(
        RunOptions(scenario="shared-dentry", driver=driver),
        log=path,
        progress=lambda world: signal.raise_signal(signal.SIGINT) if world.stopped is None else None,
    )
    log = LogReader(path)
    for _ in log.records():
        pass
    log.close()

    assert log.damage is None
    assert log.footer is not None
    assert (log.footer.outcome, log.footer.steps, log.footer.digest) == ("interrupted", result.steps, result.digest)


# -- in a process of its own ------------------------------------------------------------------------------------------


@each_driver_name
def test_a_process_that_gets_sigint_exits_with_130_and_leaves_a_whole_log(driver: str, tmp_path: Path) -> None:
    process = run_and_raise("SIGINT", 3_000, tmp_path / "x.log", driver)
    result = replay(tmp_path / "x.log", driver="stepper")

    assert process.returncode == 130
    assert process.stderr == ""
    assert (result.divergence, result.damage) == (None, None)
    assert result.steps > 3_000


@each_driver_name
def test_a_process_that_is_killed_leaves_a_prefix_that_replays(driver: str, tmp_path: Path) -> None:
    process = run_and_raise("SIGKILL", 30_000, tmp_path / "x.log", driver)
    result = replay(tmp_path / "x.log", driver="stepper")
    lost = 30_000 - result.steps

    assert process.returncode == -signal.SIGKILL
    assert result.divergence is None
    assert result.damage is not None
    assert not result.is_damaged
    assert result.steps > 0
    assert lost < FLUSH_BYTES / 5, "no more is lost than the buffer holds"


# -- with a real clock ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_signal_from_outside_at_any_time_leaves_a_log_that_replays(driver: str, name: str, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    command = [*MODULE, "run", "shared-dentry", "--driver", driver, "--set", "generations=100000", "--log", str(log)]
    with start_process(*command) as process:
        wait_for(lambda: log.exists() and log.stat().st_size > 4 * FLUSH_BYTES)
        process.send_signal(signal.Signals[name])
        _, errors = process.communicate(timeout=60)
    result = replay(log, driver="stepper")

    assert process.returncode == (130 if name == "SIGINT" else -signal.SIGKILL)
    assert errors == ""
    assert result.divergence is None
    assert (result.damage is None) == (name == "SIGINT")
    assert result.steps > 10_000


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until *condition* holds; the only test of the slow suite that uses the real clock."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the run did not get that far in a minute"
        os.sched_yield()
