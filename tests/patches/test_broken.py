"""Patches with ordinary Python errors: each error is reported in one line, with the line of the patch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from explorer.experiment import DRIVERS
from tests.conftest import Command, check_usage_error
from tests.patches.conftest import MakePatch, line_of

FOREIGN = "it awaits something outside the machine; a flow awaits kernel functions, ctx.ask, ctx.sleep, ..."
RULE = "state of another owner is changed only through ctx.ask"
WORK = "work of kmem_cache alpha(3:job)"
STUCK = "it has not come back for 0.2 s: a step has to end; does it loop for ever?"


@attrs.frozen
class Broken:
    """A function's body, the text before it in the module, and the expected message for its line `# here`."""

    said: str
    body: str
    before: str = ""
    function: str = "kmemcg_workfn"


OWN = """
class Own(BaseException):
    def __str__(self):
        raise SystemExit

class Nothing:
    def __await__(self):
        {}  # here
"""

LIST = """
class Loops(Shared):
    @operation(UPDATE)
    def look(self):
        while True:  # here
            pass
"""

BROKEN = {
    "sys.exit": Broken("SystemExit: 0", "sys.exit(0)  # here"),
    "sys.exit with words": Broken("SystemExit: bye", "sys.exit('bye')  # here"),
    "KeyboardInterrupt": Broken("KeyboardInterrupt", "raise KeyboardInterrupt  # here"),
    "GeneratorExit": Broken("GeneratorExit", "raise GeneratorExit  # here"),
    "Cancelled": Broken("Cancelled: cancelled due to unknown", "raise trio.Cancelled._create()  # here"),
    "StopIteration": Broken("StopIteration", "raise StopIteration  # here"),
    "StopAsyncIteration": Broken("StopAsyncIteration", "raise StopAsyncIteration  # here"),
    "a group": Broken(
        "BaseExceptionGroup: two (1 sub-exception)", "raise BaseExceptionGroup('two', [SystemExit()])  # here"
    ),
    "one of its own": Broken("Own", "raise Own  # here", OWN.format("yield").replace("# here", "")),
    "lines": Broken("ValueError: one\\ntwo", "raise ValueError('one\\ntwo')  # here"),
    "a cause of itself": Broken("ValueError", "error = ValueError()\nerror.__cause__ = error\nraise error  # here"),
    "from a helper": Broken(
        "ZeroDivisionError: division by zero", "helper(0)", "def helper(n):\n    1 / n  # here\n", "helper"
    ),
    "in finally": Broken("SystemExit", "try:\n    await ctx.sleep(9)\nfinally:\n    raise SystemExit  # here"),
    "after the first": Broken("SystemExit", "await unpatched(ctx, kmemcg_workfn, work)\nraise SystemExit  # here"),
    "trio.sleep(0)": Broken(FOREIGN, "await trio.sleep(0)  # here"),
    "trio.sleep(1)": Broken(FOREIGN, "await trio.sleep(1)  # here"),
    "one of slabrace's": Broken("mine", "raise UsageError('mine')  # here"),
    "one of slabrace's, without words": Broken("UsageError", "raise UsageError  # here"),
    "from trio": Broken(FOREIGN, "async with open_nursery():  # here\n    pass", "from trio import open_nursery\n"),
    "a trio.Event": Broken(FOREIGN, "await trio.Event().wait()  # here"),
    "asyncio.sleep(0)": Broken(FOREIGN, "await asyncio.sleep(0)  # here"),
    "asyncio.sleep(1)": Broken(FOREIGN, "await asyncio.sleep(1)  # here"),
    "what yields 5": Broken(FOREIGN, "await Nothing()", OWN.format("yield 5"), "__await__"),
    "what yields None": Broken(FOREIGN, "await Nothing()", OWN.format("yield"), "__await__"),
    "what yields, after a step": Broken(
        FOREIGN, "await ctx.sleep(9)\nawait Nothing()", OWN.format("yield"), "__await__"
    ),
    "None": Broken("TypeError: object NoneType can't be used in 'await' expression", "await None  # here"),
    "no await": Broken(
        "it calls unpatched() without await, so nothing is done", "unpatched(ctx, kmemcg_workfn, work)  # here"
    ),
    "no await in a condition": Broken(
        "it calls ask() without await, so nothing is done",
        "if ctx.ask(cache_of(work.container).read_dying):  # here\n    return",
        "from actors.linux.mm.kmem_cache import cache_of",
    ),
    "no await behind not": Broken(
        "it calls unpatched() without await, so nothing is done",
        "x = not unpatched(ctx, kmemcg_workfn, work)  # here",
    ),
    "no await of what is returned": Broken(
        "it calls unpatched() without await, so nothing is done",
        "return unpatched(ctx, kmemcg_workfn, work)  # here",
    ),
    "unpatched of another": Broken(
        "unpatched() works only inside a patch's rcu_barrier(), which is not running here",
        "await unpatched(ctx, rcu_barrier)  # here",
        "from actors.linux.kernel.rcu.tree import rcu_barrier",
    ),
    "no await of ask": Broken("it calls ask() without await, so nothing is done", "ctx.ask(ctx.memcg)  # here"),
    "a recursion": Broken("RecursionError: it calls itself for ever", "await kmemcg_workfn(ctx, work)  # here"),
    "a recursion by way of another": Broken(
        "RecursionError: it calls itself for ever",
        "await other(ctx, work)  # here",
        "async def other(ctx, work):\n    return await kmemcg_workfn(ctx, work)\n",
    ),
    "os._exit": Broken("it calls os._exit(), which affects the whole process; a patch must not", "os._exit(0)  # here"),
    "a signal": Broken(
        "it calls signal.raise_signal(), which affects the whole process; a patch must not",
        "signal.raise_signal(2)  # here",
    ),
    "a thread": Broken(
        "it starts a thread, which is outside the machine", "threading.Thread(target=print).start()  # here"
    ),
}

TOUCHING = {
    "the world's steps": Broken(
        f"it changes steps of the World without asking; {RULE}", "ctx.machine.world.steps = 10**9  # here"
    ),
    "a field": Broken(f"it changes actor of {WORK} without asking; {RULE}", "work.actor = None  # here"),
    "a field, by a sum": Broken(f"it changes number of {WORK} without asking; {RULE}", "work.number += 1  # here"),
    "a field, by setattr": Broken(
        f"it changes actor of {WORK} without asking; {RULE}",
        "try:\n    setattr(work, 'actor', None)  # here\nexcept Exception:\n    pass",
    ),
    "a field, and takes no notice": Broken(
        f"it changes actor of {WORK} without asking; {RULE}",
        "try:\n    object.__setattr__(work, 'actor', None)  # here\nexcept:\n    pass\nawait ctx.sleep(9)",
    ),
    "a field, by del": Broken(f"it changes actor of {WORK} without asking; {RULE}", "del work.actor  # here"),
    "a container": Broken(f"it changes waiters of {WORK} without asking; {RULE}", "work.waiters.append(ctx)  # here"),
    "an entry": Broken(f"it changes flows of the World without asking; {RULE}", "del ctx.world.flows[ctx]  # here"),
    "an operation": Broken(
        f"it calls test_and_set_pending() of {WORK} by itself; {RULE}",
        "work.test_and_set_pending()  # here",
    ),
    "the world": Broken(f"it calls stop() of the World by itself; {RULE}", "ctx.world.stop('quiescent')  # here"),
    "another flow": Broken(
        "it calls sleep() of rcu_gp, which is another flow",
        "other = next(flow for flow in ctx.world.flows if flow.name == 'rcu_gp')\nawait other.sleep(9)  # here",
    ),
    "a module": Broken(
        "it changes kmemcg_workfn of the module actors.linux.mm.slab_common, which is not the patch's",
        "slab_common.kmemcg_workfn = None  # here",
    ),
    "a class": Broken(f"it changes label of the class Shared without asking; {RULE}", "Shared.label = 'mine'  # here"),
}

LOOPING = {
    "a loop": Broken(STUCK, "while True: pass  # here"),
    "a loop of some lines": Broken(STUCK, "n = 0\nwhile True:  # here\n    n += 1\n    n *= 2\n    n %= 7"),
    "a loop that calls": Broken(
        STUCK,
        "for n in iter(int, 1):  # here\n    helper(n)",
        "def helper(n):\n    for i in range(9):\n        n += i\n",
    ),
    "a loop of another": Broken(
        STUCK, "helper(0)", "def helper(n):\n    while n == 0:  # here\n        n = n\n", "helper"
    ),
    "no end of a sleep": Broken(STUCK, "time.sleep(1e6)  # here"),
    "a loop that catches": Broken(
        STUCK, "while True:  # here\n    try:\n        time.sleep(1)\n    except Exception:\n        pass"
    ),
    "a loop in an operation": Broken(STUCK, "await ctx.ask(Loops(Actor(ctx.world, 'a')).look)", LIST, "look"),
}


MACHINE = ("rmdir-empty", "--kernel", "5.3", "--json")
RUNS = [("run", *MACHINE, "--log", "x.log", "--driver", driver) for driver in DRIVERS]
SEARCHES = [("explore", *MACHINE, "--budget", "1", "--strategy", strategy) for strategy in ("random", "dpor")]


def check_said(slabrace: Command, make_patch: MakePatch, broken: Broken, commands: Sequence[tuple[str, ...]]) -> None:
    """Check that all commands print the same single message, about this line."""
    patch = make_patch(broken.body, broken.before)
    said = {check_usage_error(slabrace(*command, "--patch", patch)) for command in commands}

    assert said == {f"slabrace: --patch {patch}, line {line_of(patch)}, in {broken.function}: {broken.said}"}
    assert not Path("x.log").exists()


ALL = {**BROKEN, **TOUCHING, **LOOPING}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("broken", ALL.values(), ids=ALL)
def test_a_broken_patch_is_named_with_its_line(slabrace: Command, make_patch: MakePatch, broken: Broken) -> None:
    check_said(slabrace, make_patch, broken, RUNS)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["sys.exit", "KeyboardInterrupt", "a field, and takes no notice", "a loop"])
def test_a_search_says_the_same(slabrace: Command, make_patch: MakePatch, kind: str) -> None:
    check_said(slabrace, make_patch, ALL[kind], SEARCHES)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("broken", ALL.values(), ids=ALL)
def test_a_search_always_says_the_same(slabrace: Command, make_patch: MakePatch, broken: Broken) -> None:
    check_said(slabrace, make_patch, broken, SEARCHES)
