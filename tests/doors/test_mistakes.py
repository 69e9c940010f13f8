"""Mistakes in the user's files: whatever they are, one line names the file, the line and the function."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doors.conftest import Command
from tests.patches.conftest import indented, line_of

HEAD = """\
from actors.api import Context, kmem_cache_alloc, oracle
from protocol.errors import InternalError, NoAnswerError, UsageError
from scenarios.api import MACHINE, mkdir, scenario


async def nop(ctx):
    await ctx.sleep(1)


async def job(ctx, cache):
    await ctx.sleep(1)
"""

SCENARIO = """

@scenario("x", "y", *MACHINE)
def x(stage):
    machine = stage.boot("kmalloc-8")
    cache = machine.root_cache("kmalloc-8")

    async def body(ctx):
{body}
    stage.task("a", {task})
"""


def write(body: str, task: str = "body", before: str = "") -> Path:
    """A scenario file whose task has *body*; the text *before* precedes it."""
    path = Path("x.py")
    path.write_text(HEAD + before + SCENARIO.format(body=indented(body, 2), task=task))
    return path


def refused(slabrace: Command, *words: object) -> str:
    """The one line of a run that is refused."""
    code, out, err = slabrace("run", *words, "--no-log", "--json")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err.strip().removeprefix("slabrace: ")


# -- a forgotten await ------------------------------------------------------------------------------------------------

FORGOTTEN = {
    "kmem_cache_alloc": "kmem_cache_alloc(ctx, cache)  # here",
    "nop": "nop(ctx)  # here",
    "sleep": "ctx.sleep(5)  # here",
    "settle": "ctx.settle()  # here",
    "ask": "ctx.ask(cache.read_dying)  # here",
    "choose": "if ctx.choose(2):  # here\n    pass",
}

WITH_NOP = ["return nop(ctx)", "if nop(ctx): pass", "x = not nop(ctx)", "1 < nop(ctx)"]


@pytest.mark.parametrize(
    ("name", "body"), [*FORGOTTEN.items(), *(("nop", f"{line}  # here") for line in WITH_NOP)], ids=str
)
def test_a_forgotten_await_is_told(slabrace: Command, name: str, body: str) -> None:
    line = line_of(write(body))
    told = refused(slabrace, "x.py")

    assert told == f"x.py, line {line}, in body: it calls {name}() without await, so nothing is done"


def test_a_forgotten_await_in_the_condition_of_a_list_is_told(slabrace: Command) -> None:
    write("x = [1 for x in 'x' if nop(ctx)]")  # the function is called <listcomp> until Python 3.12

    assert refused(slabrace, "x.py").endswith(": it calls nop() without await, so nothing is done")


@pytest.mark.parametrize(
    ("body", "task"),
    [
        ("await helper(ctx)", "body"),
        ("await (lambda: nop(ctx))()", "lambda ctx: job(ctx, cache)"),
        ("pass", "lambda ctx: helper(ctx)"),
        ("pass", "helper"),
    ],
)
def test_a_coroutine_that_is_passed_on_is_none(slabrace: Command, body: str, task: str) -> None:
    write(body, task, "\n\ndef helper(ctx):\n    return nop(ctx)\n")
    code, _, err = slabrace("run", "x.py", "--no-log")

    assert (code, err) == (0, "")
