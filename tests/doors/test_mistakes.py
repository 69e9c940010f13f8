"""Mistakes in the user's files: whatever they are, one line names the file, the line and the function."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import explorer
from explorer.experiment import DRIVERS
from explorer.search import own
from protocol.blame import UserCode
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
    stage.has_session = False
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


# -- errors of slabrace's kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["InternalError", "NoAnswerError"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_an_internal_error_that_a_file_raises_is_its_own(slabrace: Command, name: str, driver: str) -> None:
    Path("eye.py").write_text(f"{HEAD}@oracle('o', 'o')\ndef o(machine):\n    raise {name}('no')  # here\n    yield\n")
    line = line_of(write(f"raise {name}('no')  # here"))

    assert refused(slabrace, "x.py", "--driver", driver) == f"x.py, line {line}, in body: {name}: no"
    told = refused(slabrace, "canary", "--oracle", "eye.py", "--driver", driver)
    assert told == f"eye.py, line {line_of(Path('eye.py'))}, in o: {name}: no"


def test_an_internal_error_of_a_call_is_named_by_the_call(slabrace: Command) -> None:
    """The kernel has no such function."""
    before = "from actors.linux.mm.slab_common import memcg_destroy_kmem_caches\n"
    line = line_of(write("await memcg_destroy_kmem_caches(ctx, None)  # here", before=before))
    told = refused(slabrace, "x.py", "--kernel", "5.3")

    assert told.startswith(f"x.py, line {line}, in body: InternalError: memcg_destroy_kmem_caches() does not exist in ")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise UsageError('no')", "no"),
        ("raise UsageError", "UsageError"),
        ("raise UsageError('')", "UsageError"),
        ("ctx.machine.root_cache('kmaloc-8')", "there is no row 'kmaloc-8'"),
        ("await mkdir(ctx, ctx.machine.root_cgroup, 'a')", "mkdir a failed 100 times"),
    ],
)
def test_a_usage_error_has_the_place_that_it_comes_from(slabrace: Command, body: str, told: str) -> None:
    number = line_of(write(f"{body}  # here"))
    line = refused(slabrace, "x.py", "--fault", "percpu=1")

    assert line.startswith(f"x.py, line {number}, in body: ")
    assert told in line
    assert line.count(", line ") == 1


def test_a_usage_error_at_import_has_its_place_too(slabrace: Command) -> None:
    Path("x.py").write_text("from protocol.errors import UsageError\nraise UsageError\n")

    assert refused(slabrace, "x.py") == "x.py, line 2: UsageError"


# -- errors in other modules of the user's ----------------------------------------------------------------------------

HELPER = """\
def fail(*args):
    raise ValueError("in helper")


async def body(ctx):
    fail()


class Mixin:
    def choose(self, lanes):
        fail()
"""

WALKS = """\
from explorer.api import RandomWalk, strategy
from hlp import Mixin


@strategy("s", "s")
class S(Mixin, RandomWalk):
    def __init__(self, seed, argument, known):
        super().__init__(seed)
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's beside the files."""
    (tmp_path / "hlp.py").write_text(HELPER)
    (tmp_path / "walks.py").write_text(WALKS)
    monkeypatch.syspath_prepend(tmp_path)
    own._of_a_file.cache_clear()  # its Mixin is that of another test's folder
    yield
    sys.modules.pop("hlp", None)


@pytest.mark.usefixtures("helper")
@pytest.mark.parametrize("driver", DRIVERS)
def test_an_error_in_a_helper_module_is_named_there(slabrace: Command, driver: str) -> None:
    told = "hlp.py, line 2, in fail: ValueError: in helper"
    before = "import hlp\nimport functools\n"
    for body, task in (("hlp.fail()", "body"), ("pass", "hlp.body")):
        write(body, task, before)
        assert refused(slabrace, "x.py", "--driver", driver) == told
    write("pass", "body)\n    stage.always('it holds', hlp.fail", before)
    assert refused(slabrace, "x.py", "--driver", driver) == told
    assert refused(slabrace, "canary", "--strategy", "walks.py", "--driver", driver) == told


@pytest.mark.usefixtures("helper")
def test_an_error_in_a_helper_module_at_import_is_named_there(slabrace: Command) -> None:
    Path("hlp.py").write_text("1 / 0\n")
    Path("x.py").write_text("import hlp\n")

    assert refused(slabrace, "x.py") == "hlp.py, line 1: ZeroDivisionError: division by zero"


def test_code_of_the_user_is_neither_python_s_nor_a_library_s() -> None:
    lib = "/env/lib/python3.12/site-packages/"
    mine, installed = UserCode(["x.py"]), UserCode([f"{lib}far/stages.py"])

    assert ["x.py" in mine, "/home/hlp.py" in mine, f"{lib}far/other.py" in installed] == [True] * 3
    for library in (json.__file__, trio.__file__, explorer.__file__, "<string>", f"{lib}numpy/__init__.py"):
        assert library not in mine
        assert library not in installed
    assert "/home/hlp.py" not in UserCode([])


def test_a_machine_that_a_file_breaks_does_not_hear_of_the_rule_of_patches(slabrace: Command) -> None:
    write("ctx.machine.rcu = None")
    told = refused(slabrace, "x.py")

    assert told.startswith("x.py: the machine breaks with it at ")
    assert "ctx.ask" not in told
