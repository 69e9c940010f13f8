"""Mistakes in the user's files: whatever they are, one line names the file, the line and the function."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import explorer
import protocol.blame
from explorer.experiment import DRIVERS
from explorer.search import own
from protocol.blame import UserCode
from tests.doors.conftest import Command
from tests.helpers import run_process
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

WITH_NOP = [
    "return nop(ctx)",
    "return nop(ctx) if cache else None",
    "nop(ctx) if cache else None",
    "if nop(ctx): pass",
    "if not cache or nop(ctx): pass",
    "x = (nop(ctx) or None) and 1",
    "x = not nop(ctx)",
    "1 < nop(ctx)",
    "match cache:\n    case _ if nop(ctx): pass",
]


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


def test_an_async_generator_that_nothing_iterates_is_told(slabrace: Command) -> None:
    line = line_of(write("each(ctx)  # here", before="\n\nasync def each(ctx):\n    yield await nop(ctx)\n"))

    assert refused(slabrace, "x.py") == (
        f"x.py, line {line}, in body: it calls each() without 'async for', so nothing is done"
    )


@pytest.mark.parametrize(
    ("body", "task"),
    [
        ("await helper(ctx)", "body"),
        ("await (cache and helper(ctx))", "lambda ctx: (not cache and nop(ctx)) or nop(ctx)"),
        ("await (helper(ctx) if cache else nop(ctx))", "lambda ctx: nop(ctx) if cache else job(ctx, cache)"),
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


def test_a_usage_error_of_a_class_of_the_user_s_cannot_end_the_process(slabrace: Command) -> None:
    before = "class Own(UsageError):\n    def __str__(self):\n        raise SystemExit(9)\n"
    line = line_of(write("raise Own('x.py, line 1: no')  # here", before=before))

    assert refused(slabrace, "x.py") == f"x.py, line {line}, in body: x.py, line 1: no"


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


# -- strategies -------------------------------------------------------------------------------------------------------

WALK = """\
from explorer.api import RandomWalk, strategy


@strategy("s", "s")
class S(RandomWalk):
    def __init__(self, seed, argument, known):
        super().__init__(seed)

{body}
"""


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("@property\ndef controls_clock(self):\n    1 / 0  # here", "in controls_clock: ZeroDivisionError: "),
        ("def controls_clock(self):\n    return True", "--strategy s.py:s: controls_clock is a method; it has to be "),
        ("controls_clock = 'yes'", "--strategy s.py:s: controls_clock is a str; it has to be True or False"),
        ("def choose(self, lanes):  # here\n    pass", "choose() returned None, where 0 to "),
        ("async def choose(self, lanes):  # here\n    return 0", "choose() is declared with 'async def'; it has to be"),
        ("def draw_latency(self, low, high):  # here\n    return low - 1", "draw_latency() returned "),
        ("def draw_latency(self, low, high):  # here\n    return high + 1", "draw_latency() returned "),
        ("def choose(self, lanes):\n    lanes[0].name = 5  # here", "in choose: it changes name of "),
        ("def choose(self, lanes):\n    del lanes[0].name  # here", "in choose: it changes name of "),
        ("def choose(self, lanes):\n    lanes[0].world.checks.clear()  # here", "in choose: it changes checks of "),
        (
            "def choose(self, lanes):\n    setattr(lanes[0], 'name', 5)\n    return 0",
            "s.py: the machine breaks",
        ),
        (
            "def choose(self, lanes):\n    delattr(lanes[0], 'name')\n    return 0",
            "s.py: the machine breaks with it at",
        ),
    ],
)
def test_a_mistake_of_a_strategy_is_told(slabrace: Command, body: str, told: str) -> None:
    path = Path("s.py")
    path.write_text(WALK.format(body=indented(body)))
    line = refused(slabrace, "canary", "--strategy", "s.py")

    assert line.startswith(f"s.py, line {line_of(path)}" if "# here" in body else told)
    assert told in line


def test_a_strategy_may_set_the_clock_and_its_own_fields(slabrace: Command) -> None:
    body = (
        "controls_clock = True\ndef advance(self, world):\n    self.at = world.now + 1\n    world.now = self.at\n"
        "    world.fire_timers()\ndef choose(self, lanes):\n    lanes[0].ready_at = self.at\n    return 0\n"
        "def draw_latency(self, low, high):\n    return low if high % 2 else 0"
    )
    Path("s.py").write_text(WALK.format(body=indented(body)))
    code, _, err = slabrace("run", "canary", "--strategy", "s.py", "--no-log")

    assert (code, err) == (0, "")


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_begins_with_a_byte_order_mark_is_read(slabrace: Command) -> None:
    path = write("pass")
    plain = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + plain.encode())
    assert slabrace("run", "x.py", "--log", "x.log")[0] == 0
    path.write_text(plain)

    assert slabrace("replay", "x.log", "--scenario", "x.py")[0] == 0, "its text is the same"
    assert slabrace("replay", "x.log", "--trust")[0] == 0


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "nonsense"])
def test_a_file_in_another_encoding_is_refused_in_a_line(slabrace: Command, encoding: str) -> None:
    Path("x.py").write_text(f"# a comment\n# -*- coding: {encoding} -*-\nx = '\u00e4'\n", encoding="latin-1")

    assert refused(slabrace, "x.py") == f"x.py, line 2: it is encoded in {encoding}: save it as UTF-8"


def test_a_mark_of_utf_8_and_another_encoding_are_refused(slabrace: Command) -> None:
    Path("x.py").write_text("\ufeff# coding: latin-1\n", encoding="utf-8")

    assert refused(slabrace, "x.py") == "x.py, line 1: it is encoded in latin-1: save it as UTF-8"


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "ascii", "utf-8-unix", "u8"])
def test_a_file_may_say_that_it_is_utf_8(slabrace: Command, encoding: str) -> None:
    Path("x.py").write_text(f"# coding: {encoding}\nraise ValueError\n")
    assert refused(slabrace, "x.py") == "x.py, line 2: ValueError"
    Path("x.py").write_text("1 / 0\n# coding: latin-1 is said in the first lines only\n")
    assert refused(slabrace, "x.py") == "x.py, line 1: ZeroDivisionError: division by zero"


LEFT_BEHIND = [
    "nop(machine)",
    "lambda ctx: [nop(ctx), nop(ctx)]",
    "body)\n    left = [nop(machine)]\n    left = (1 / 0",
]


@pytest.mark.parametrize("task", LEFT_BEHIND)
def test_after_a_refusal_nothing_is_said_about_coroutines(slabrace: Command, tmp_path: Path, task: str) -> None:
    assert slabrace is not None
    write("pass", task)
    for words in (("run", "x.py"), ("explore", "x.py", "--workers", "2", "--budget", "4")):
        answer = run_process(sys.executable, "-m", "slabrace", *words, "--no-log", cwd=tmp_path)

        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1), answer.stderr
        assert answer.stderr.startswith("slabrace: x.py")


def test_a_forgotten_await_that_nothing_sees_is_told_by_python(slabrace: Command, tmp_path: Path) -> None:
    assert slabrace is not None
    write("left = nop(ctx)")
    answer = run_process(sys.executable, "-m", "slabrace", "run", "x.py", "--no-log", cwd=tmp_path)

    assert (answer.returncode, answer.stdout.count("ok: nothing found")) == (0, 1)
    assert "RuntimeWarning: coroutine 'nop' was never awaited" in answer.stderr


@pytest.mark.parametrize("has_file", [True, False])
def test_an_internal_error_names_the_files_that_ran(
    slabrace: Command, monkeypatch: pytest.MonkeyPatch, *, has_file: bool
) -> None:
    write("pass")
    monkeypatch.setattr("protocol.blame.RAN", {})
    monkeypatch.setattr("actors.versions.user_code.RAN", protocol.blame.RAN)
    monkeypatch.setattr("explorer.watch.Watch.__init__", lambda *_: 1 / 0)
    code, _, err = slabrace("run", "x.py" if has_file else "canary", "--no-log")

    assert (code, err.splitlines()[0]) == (3, "Traceback (most recent call last):")
    told = "internal error: this is a bug of slabrace, please report it"
    more = "; or it comes of code of yours that ran here (x.py): try without it" if has_file else ""
    assert err.splitlines()[-1] == f"slabrace: {told}{more}"


# -- where modules are ------------------------------------------------------------------------------------------------


def test_a_module_of_the_files_folder_is_found_from_everywhere(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    (folder / "beside.py").write_text("async def nop(ctx):\n    await ctx.sleep(1)\n")
    (folder / "x.py").write_text(
        "from beside import nop\nfrom scenarios.api import MACHINE, scenario\n\n\n"
        "@scenario('x', 'y', *MACHINE)\ndef x(stage):\n    stage.boot()\n    stage.task('a', nop)\n"
    )
    answer = run_process(sys.executable, "-m", "slabrace", "run", "../mine/x.py", "--log", "x.log", cwd=elsewhere)
    again = run_process(sys.executable, "-m", "slabrace", "replay", "x.log", "--trust", cwd=elsewhere)

    assert (answer.returncode, answer.stderr) == (0, "")
    assert again.returncode == 0, again.stderr


def test_a_strategy_that_lacks_a_method_is_refused(slabrace: Command) -> None:
    Path("s.py").write_text(
        "from explorer.api import Strategy, strategy\n\n\n@strategy('s', 's')\nclass S(Strategy):\n"
        "    def __init__(self, seed, argument, known): ...\n    def choose(self, lanes): return 0\n"
    )

    assert refused(slabrace, "canary", "--strategy", "s.py") == (
        "--strategy s.py, line 4: TypeError: the strategy s lacks choose_value"
    )
