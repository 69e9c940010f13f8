"""Any error at any place of a patch gives one line that names the file and a line, the same in every command."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Command, check_usage_error
from tests.patches.conftest import MakePatch, indented

RAISED = (
    "SystemExit(0)",
    "KeyboardInterrupt",
    "GeneratorExit",
    "StopIteration(1)",
    "StopAsyncIteration",
    "trio.Cancelled._create()",
    "asyncio.CancelledError",
    "BaseException('it\\n\\x1b[31m')",
    "ExceptionGroup('two', [ValueError(1), KeyError(2)])",
    "AssertionError",
    "MemoryError",
    "RecursionError('mine')",
    "BrokenPipeError",
    "TimeoutError",
    "UnicodeDecodeError('utf-8', b'x', 0, 1, 'y')",
    "Own('[/nope]')",
)
DONE = (
    "sys.exit('bye')",
    "await trio.sleep(0)",
    "await trio.sleep(1)",
    "await asyncio.sleep(0)",
    "await asyncio.sleep(1)",
    "await asyncio.Future()",
    "await Nothing()",
    "await 7",
    "await recur(ctx)",
    "recur(ctx)",
    "1 / 0",
    "ctx.machine.nothing",
    "no_such_name",
    "assert False",
    "[][1]",
    "ctx.world.steps = 7",
    "ctx.world.flows.clear()",
    "ctx.request.info = None",
    "del ctx.cpu",
    "setattr(ctx.machine.world, 'now', 1)",
    "ctx.machine.slab_mutex.actor.mailbox.append(7)",
    "Shared.freed = 1",
    "slab_common.kmem_cache_destroy = None",
    "os._exit(0)",
)
BEFORE = """
class Own(BaseException):
    pass

class Nothing:
    def __await__(self):
        yield

async def recur(ctx):
    await recur(ctx)

async def helper(ctx):
{}
"""
ROUND = (
    "{}",
    "await ctx.sleep(5)\n{}",
    "for n in range(3):\n    await ctx.choose(2)\n{}",
    "try:\n{}\nfinally:\n    await ctx.sleep(5)",
    "try:\n{}\nfinally:\n    raise ValueError",
    "try:\n{}\nexcept (ValueError, OSError):\n    raise",
    "with ctx.rcu_read_section:\n{}",
    "async with trio.CancelScope():\n{}",
    "if True:\n{}\nelse:\n    await ctx.sleep(1)",
    "while True:\n{}",
    "async def inner():\n{}\nawait inner()",
)

wrong = st.sampled_from([*(f"raise {what}" for what in RAISED), *DONE])
rounds = st.lists(st.sampled_from(ROUND), max_size=3)


def put_into(rounds: list[str], statement: str) -> str:
    """The statement inside all *rounds*, the last one innermost."""
    for text in reversed(rounds):
        statement = text.format(indented(statement).rstrip("\n") if "\n{}" in text and ":\n{}" in text else statement)
    return statement


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # flows that are left await in `finally`
@settings(max_examples=150)
@given(wrong, rounds, st.sampled_from(["kmemcg_workfn", "helper"]))
def test_an_error_of_a_patch_is_told_in_one_line(
    slabrace: Command, make_patch: MakePatch, statement: str, rounds: list[str], function: str
) -> None:
    body = put_into(rounds, statement)
    before = BEFORE.format(indented(body if function == "helper" else "pass"))
    patch = make_patch("await helper(ctx)" if function == "helper" else body, before)
    machine = ("rmdir-empty", "--kernel", "5.3", "--patch", patch, "--json")
    said = {
        check_usage_error(slabrace(*command, *machine))
        for command in (
            ("run", "--no-log", "--driver", "trio"),
            ("run", "--no-log", "--driver", "stepper"),
            ("explore", "--budget", "1"),
        )
    }

    (line,) = said
    assert re.match(rf"slabrace: --patch {re.escape(str(patch))}, line \d+, in \w+: ", line), line
    assert "the machine breaks" not in line
