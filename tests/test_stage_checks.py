"""What a scenario hands to the stage is checked: one line, with the place, for what cannot work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command, check_usage_error

BEGINNING = """
from functools import wraps

from scenarios.api import MACHINE, fill, run_in, scenario


async def nap(ctx):
    await ctx.sleep(10)


@scenario("x", "a scenario with a mistake", *MACHINE)
def build(stage):
    m = stage.boot("kmalloc-8")
"""

FIRST = BEGINNING.count("\n") + 2
"""The number of the line after these."""

IN_BUILD = {
    "stage.task(5, nap)": "TypeError: the name of a task is a line of 1 to 200 printable characters, not 5",
    "stage.task('a\\nb', nap)": "TypeError: the name of a task is a line of 1 to 200 printable characters, not 'a\\nb'",
    "stage.task('a', nap(None))": "TypeError: the body of the task a is called already; give the function itself",
    "stage.task('a', 5)": "TypeError: the body of the task a is a function, not 5",
    "stage.task('a', lambda: nap)": "TypeError: the body of the task a is called with 1 argument: too many positional",
    "stage.set_up(None)": "TypeError: the body of the set-up is a function, not None",
    "stage.wind_up(lambda: None)": "TypeError: the body of the wind-up is called with 1 argument",
    "stage.always('p', True)": "TypeError: the property 'p' is a function, not True",
    "stage.sometimes([1], bool)": "TypeError: the name of a property is a line of 1 to 200 printable characters, not",
    "stage.eventually('p', lambda m: True)": "TypeError: the property 'p' is called with no arguments: missing a",
    "stage.boot('kmalloc-8')": "RuntimeError: the machine is booted already; a stage has one",
    "stage.start()": "RuntimeError: the run starts by itself, after the scenario's function has returned",
    "stage.make_scarce(5, 'pages')": "ValueError: pages: there is no such fault; do you mean 'page'?",
    "stage.make_scarce(500, 'page')": "ValueError: 500 % of the allocations cannot fail: give 0 to 100",
    "stage.set_up(nap); stage.set_up(nap)": "RuntimeError: the stage has a set-up already; put all of it into one",
    "stage.wind_up(nap); stage.wind_up(nap)": "RuntimeError: the stage has a wind-up already",
    "stage.set_up(nap, settles='no')": "TypeError: settles is True or False, not 'no'",
    "stage.always('p', bool, is_local='no')": "TypeError: is_local is True or False, not 'no'",
    "stage.task('a', nap, migrates=1)": "TypeError: migrates is True or False, not 1",
    "stage.task('a', nap, cpu='0')": "TypeError: the task a runs on a CPU's number, not on '0'",
    "m.new_task(6, 0)": "TypeError: the name of a task is a line of 1 to 200 printable characters, not 6",
}
"""Lines of a scenario's function, with the message."""

IN_A_TASK = {
    "stage.sample(5)": "TypeError: the name of a sample is a line of 1 to 200 printable characters, not 5",
    "stage.start()": "RuntimeError: the run starts by itself",
    "stage.boot('kmalloc-8')": "RuntimeError: the machine is booted already",
    "await ctx.sleep(-5)": "ValueError: the number of nanoseconds to sleep is -5: give a whole number from 0 to",
    "await ctx.sleep(1.5)": "ValueError: the number of nanoseconds to sleep is 1.5: give a whole number",
    "await ctx.sleep(10 ** 30)": "ValueError: the number of nanoseconds to sleep is 1000000000000000",
    "await ctx.choose(0)": "ValueError: the number of choices is 0: give a whole number from 1 to",
    "await ctx.choose('a')": "ValueError: the number of choices is 'a': give a whole number from 1 to",
    "await run_in(ctx, stage.session, nap(ctx))": "TypeError: the body of run_in() is called already",
    "await run_in(ctx, stage.session, lambda: nap(ctx))": "TypeError: the body of run_in() is called with 1 argument",
    "await ctx.ask(nap(ctx))": "TypeError: ask() takes an operation and its arguments, as ask(lock.acquire) does, not",
}
"""Lines of a task's body, with the message."""

IN_A_CALL = {
    "stage.task('a', lambda ctx: None)": "the body of a returns a NoneType: declare it with 'async def'",
    "stage.set_up(lambda ctx: None)": "the body of stage returns a NoneType: declare it with 'async def'",
    "stage.task('a', nap); stage.always('p', lambda: nap(None))": "the property 'p' returns a coroutine, which",
    "stage.task('a', nap); stage.sometimes('p', lambda: m.root_cache)": "the property 'p' returns a method, which",
    "stage.task('a', nap); stage.eventually('p', lambda: (n for n in ()))": "the property 'p' returns a generator",
}
"""Lines of a scenario's function whose lambda is at fault, in the run."""


def told(slabrace: Command, *lines: str) -> str:
    """The error line of a run of the scenario with *lines* at its end."""
    Path("mine.py").write_text("\n".join([BEGINNING, *lines]))
    return check_usage_error(slabrace("run", "mine.py", "--no-log", "--json"))


@pytest.mark.parametrize(("line", "message"), IN_BUILD.items())
def test_what_the_scenarios_function_says_is_checked_at_once(slabrace: Command, line: str, message: str) -> None:
    assert told(slabrace, f"    {line}").startswith(f"slabrace: mine.py, line {FIRST}, in build: {message}")


@pytest.mark.parametrize(("line", "message"), IN_A_TASK.items())
def test_what_a_task_says_is_checked_where_it_says_it(slabrace: Command, line: str, message: str) -> None:
    lines = ("    async def body(ctx):", f"        {line}", "    stage.task('t', body)")

    assert told(slabrace, *lines).startswith(f"slabrace: mine.py, line {FIRST + 1}, in body: {message}")


@pytest.mark.parametrize(("line", "message"), IN_A_CALL.items())
def test_what_a_function_of_the_scenario_returns_is_checked(slabrace: Command, line: str, message: str) -> None:
    assert told(slabrace, f"    {line}").startswith(f"slabrace: mine.py, line {FIRST}, in <lambda>: {message}")


# -- waiting without end ----------------------------------------------------------------------------------------------

ENDLESS = ("ctx.sleep(1_000)", "ctx.choose(2)", "ctx.settle()", "ctx.ask(m.root_cgroup.read_populated)")


@pytest.fixture
def few_polls(monkeypatch: pytest.MonkeyPatch) -> int:
    """The bound of steps in a row outside of kernel functions, made small."""
    monkeypatch.setattr("actors.system.livelock.MOST_POLLS", 10_000)
    return 10_000


@pytest.mark.usefixtures("few_polls")
@pytest.mark.parametrize("phase", ["stage.set_up(body)", "stage.wind_up(body)", "stage.task('t', body)"])
@pytest.mark.parametrize("wait", ENDLESS)
def test_a_body_that_only_waits_for_ever_ends_the_run(slabrace: Command, phase: str, wait: str) -> None:
    lines = ("    async def body(ctx):", "        while True:", f"            await {wait}", f"    {phase}")

    assert told(slabrace, *lines) == (
        f"slabrace: mine.py, line {FIRST + 2}, in body: the last 10,000 steps were of tasks outside of "
        "kernel functions: does this one wait for ever?"
    )


FINITE = {
    "it ends below the bound": """
        for _ in range(polls - 2_000): await ctx.sleep(1_000)""",
    "kernel functions come in between": """
        for _ in range(5):
            for _ in range(polls - 5_000): await ctx.sleep(1_000)
            await fill(ctx, stage.session, m.root_cache("kmalloc-8"), 1)""",
    "another task wakes up at last": """
        while not done: await ctx.sleep(1_000)""",
}
"""Bodies that wait for long, and end."""


@pytest.mark.parametrize("body", FINITE.values(), ids=FINITE)
def test_a_body_may_wait_long_for_what_comes_at_last(slabrace: Command, few_polls: int, body: str) -> None:
    lines = (
        f"    done, polls = [], {few_polls}",
        "    async def late(ctx):",
        f"        await ctx.sleep({few_polls * 2_000})",
        "        done.append(True)",
        f"    async def body(ctx): {body}",
        "    stage.task('late', late)",
        "    stage.task('t', body)",
    )
    Path("mine.py").write_text("\n".join([BEGINNING, *lines]))
    answer = slabrace("run", "mine.py", "--no-log", "--json")

    assert (answer.code, answer.err) == (0, "")
    assert json.loads(answer.out)["steps"] > few_polls // 2


def test_what_works_is_not_refused(slabrace: Command) -> None:
    """Decorators that supply arguments, calls that are passed on, and properties that return objects."""
    lines = (
        "    def with_cache(function):",
        "        @wraps(function)",
        "        async def called(ctx): return await function(ctx, m.root_cache('kmalloc-8'))",
        "        return called",
        "    @with_cache",
        "    async def allocate(ctx, cache): done.append(await fill(ctx, stage.session, cache, 0))",
        "    @wraps(allocate)",
        "    def holds(): return 1",
        "    def passed_on(ctx): return (done and None) or allocate(ctx)",
        "    done, hook = [], {'function': None}",
        "    stage.task('wrapped', allocate)",
        "    stage.task('passed on', passed_on)",
        "    stage.task('lambda', lambda ctx: (not done and nap(ctx)) or nap(ctx))",
        "    stage.always('wrapped', holds)",
        "    stage.always('a count, or nothing', lambda: m.root_cgroup.nr_dying_descendants + 1)",
        "    stage.sometimes('a function', lambda: done and allocate)",
    )
    Path("mine.py").write_text("\n".join([BEGINNING, *lines]))
    answer = slabrace("run", "mine.py", "--no-log")

    assert (answer.code, answer.err) == (0, "")


def test_a_cache_that_the_capture_does_not_have_is_named(slabrace: Command) -> None:
    line = told(slabrace, "    m.root_cache('kmaloc-8')")

    assert "there is no row 'kmaloc-8', and this machine needs it" in line
    assert line.endswith("do you mean 'kmalloc-8'?")


def test_a_kernel_that_never_removes_an_empty_cgroup_ends_the_run(slabrace: Command) -> None:
    """A patch that forgets to return True."""
    Path("never.py").write_text(
        "from actors.api import kernel_fn\n\n"
        "@kernel_fn('cgroup_rmdir', 'kernel/cgroup/cgroup.c')\n"
        "async def cgroup_rmdir(ctx, cgroup): pass\n"
    )
    line = check_usage_error(slabrace("run", "rmdir-empty", "--patch", "never.py", "--no-log", "--json"))

    assert "failed 1000 times, though the cgroup was empty after each" in line
