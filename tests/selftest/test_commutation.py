"""The self-test exchanges independent steps: real ones commute, and planted violations are reported."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from actors.machine.context import WARN_ON, Context
from actors.system.actor import Actor
from explorer.cli import main
from explorer.experiment import Experiment, RunOptions
from explorer.references import Resolved
from explorer.selftest import ACCESSES, STATE, SelfTest
from protocol.operations import READ
from scenarios.canary import Counter
from scenarios.registry import MACHINE, Scenario
from scenarios.stage import Stage


def two_tasks(stage: Stage, first: Callable[[Context], None], second: Callable[[Context], None]) -> None:
    """Two tasks on two CPUs, each with a counter of its own and a function with undeclared effects."""
    world = stage.boot("dentry").world

    def add(name: str, cpu: int, act: Callable[[Context], None]) -> None:
        counter = Counter(Actor(world, name))

        async def work(ctx: Context) -> None:
            await ctx.ask(counter.write, 1)
            act(ctx)
            await ctx.ask(counter.write, 2)

        stage.task(name, work, cpu=cpu)

    add("first", 0, first)
    add("second", 1, second)


def violations_of(body: Callable[[Stage], None], pairs: int = 60) -> SelfTest:
    """The self-test of a scenario with this body."""
    test = SelfTest(Experiment.of(RunOptions(scenario="toy"), Scenario("toy", "a toy", MACHINE, body)), pairs)
    test.run()
    return test


def warns_if(seen: list[str], text: str) -> Callable[[Context], None]:
    """A function that warns if *seen* is not empty."""

    def look(ctx: Context) -> None:
        WARN_ON(ctx, seen, text)

    return look


def nothing(_ctx: Context) -> None:
    """Have no undeclared effects."""


def test_tasks_that_share_nothing_commute() -> None:
    test = violations_of(lambda stage: two_tasks(stage, nothing, nothing))

    assert test.tried == 60
    assert not test.violations


def test_state_that_is_shared_without_a_request_is_found() -> None:
    """Both tasks use a list: the second one warns if the first has used it before."""

    def body(stage: Stage) -> None:
        seen: list[str] = []
        two_tasks(stage, lambda ctx: seen.append(ctx.name), warns_if(seen, "the first was there"))

    test = violations_of(body)

    assert test.violations
    assert {violation.kind for violation in test.violations} == {STATE}
    assert any("the first was there" in violation.difference for violation in test.violations)
    assert all({"first", "second"} == lanes_of(violation.in_words) for violation in test.violations)


def lanes_of(line: str) -> set[str]:
    """The two tasks that a line names as the stepping ones."""
    return {name for name in ("first", "second") if f"{name} on CPU" in line}


def test_names_that_are_counted_are_found() -> None:
    """Each task starts another one, whose name contains the number of tasks before it."""

    def body(stage: Stage) -> None:
        numbers = itertools.count()

        async def idle(_ctx: Context) -> None:
            """Do nothing."""

        def start(ctx: Context) -> None:
            ctx.machine.start(ctx.machine.new_task(f"child-{next(numbers)}", ctx.smp_processor_id), idle)

        two_tasks(stage, start, start)

    assert any(violation.kind == STATE for violation in violations_of(body).violations)


def test_an_access_that_depends_on_the_order_is_found() -> None:
    """The second task reports an access to a third object."""

    def body(stage: Stage) -> None:
        third: list[Counter] = []
        visits = itertools.count()

        def look(_ctx: Context) -> None:
            if next(visits):
                third[0].touch(READ)

        two_tasks(stage, look, look)
        third.append(Counter(Actor(stage.world, "third")))

    test = violations_of(body)

    assert any(violation.kind == ACCESSES for violation in test.violations)
    assert test.distinct()


def test_the_self_test_is_the_same_each_time() -> None:
    first, second = (violations_of(lambda stage: two_tasks(stage, nothing, nothing)) for _ in range(2))

    assert first.sites == second.sites


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["original", "v3", "5.4-fixed"])
def test_the_command_finds_that_free_and_destroy_commute(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "free-vs-destroy", "--kernel", kernel, "--schedules", "3", "--pairs", "40", "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["outcome"] == "ok"
    assert answer["pairs"] == 40
    assert answer["violations"] == []


def test_the_command_ends_with_4_and_names_both_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(stage: Stage) -> None:
        seen: list[str] = []
        two_tasks(stage, lambda ctx: seen.append(ctx.name), warns_if(seen, "seen"))

    toy = Scenario("toy", "a toy", MACHINE, body)
    monkeypatch.setattr("explorer.experiment.find", lambda _kind, _name: Resolved((toy,)))

    assert main(["selftest", "toy", "--schedules", "0", "--pairs", "60"]) == 4
    out = capsys.readouterr().out
    assert "not independent (state)" in out
    assert "first on CPU 0 in" in out
    assert "second on CPU 1 in" in out


def test_something_has_to_be_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "canary", "--schedules", "0", "--pairs", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
