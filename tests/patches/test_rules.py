"""A patch may do everything that the model's own kernel functions do; some errors are not the patch's own."""

from __future__ import annotations

import ast
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import actors.linux
from actors.versions.kernel_fn import functions
from explorer.experiment import Experiment, RunOptions
from explorer.session import run
from protocol.blame import is_interrupt
from tests.conftest import Command
from tests.helpers import each_driver_name, run_small, small_settings
from tests.patches.conftest import MakePatch

LINUX = Path(actors.linux.__file__).parent


def modules_of_functions(kernel: str, allocator: str) -> list[str]:
    """The modules with functions of this kernel and without classes, which a second import would define anew."""
    bodies = [body for function in functions().values() for body in function.bodies]
    files = {body.code.__code__.co_filename for body in bodies if kernel in body.profiles and body.is_built(allocator)}
    trees = {file: ast.parse(Path(file).read_text()) for file in files if LINUX in Path(file).parents}
    return sorted(file for file, tree in trees.items() if not any(isinstance(at, ast.ClassDef) for at in tree.body))


@pytest.mark.parametrize(
    ("name", "kernel", "allocator"),
    [
        ("rmdir-empty", "5.3", "slub"),
        pytest.param("rmdir-under-load", "v1", "slub", marks=pytest.mark.slow),
        pytest.param("dentries-vs-rmdir", "5.4-fixed", "slab", marks=pytest.mark.slow),
        pytest.param("kmem-limit", "original", "slab", marks=pytest.mark.slow),
    ],
)
def test_the_kernel_s_own_code_is_a_valid_patch(name: str, kernel: str, allocator: str) -> None:
    """As a patch over itself the code changes nothing and causes no message."""
    plain = run_small(name, kernel, allocator=allocator)
    patches = tuple(modules_of_functions(kernel, allocator))
    settings = {**small_settings(name), "allocator": allocator}
    options = RunOptions(scenario=name, kernel=kernel, driver="stepper", settings=settings, patches=patches)

    assert len(patches) > 5
    patched = run(options)
    assert (patched.steps, patched.trace_class, patched.findings) == (plain.steps, plain.trace_class, plain.findings)


@each_driver_name
def test_an_error_that_the_kernel_notices_stays_a_finding(
    slabrace: Command, make_patch: MakePatch, driver: str
) -> None:
    patch = make_patch("BUG_ON(ctx, True, 'mine')")
    answer = slabrace("run", "rmdir-empty", "--patch", patch, "--driver", driver, "--no-log", "--json")

    assert answer.code == 1
    assert json.loads(answer.out)["findings"][0]["signature"] == "bug:mine:kmemcg_workfn"


@pytest.mark.parametrize("body", ["work.mine = 1", "slots = types.SimpleNamespace()\nslots.a = {}\nslots.a[0] = 1"])
def test_a_patch_may_change_objects_of_its_own(slabrace: Command, make_patch: MakePatch, body: str) -> None:
    mine = "class Work(Shared):\n    pass\n\n\nasync def use(ctx, work):\n"
    before = mine + "".join(f"    {line}\n" for line in body.splitlines())
    patch = make_patch(
        "await use(ctx, Work(Actor(ctx.world, 'mine')))\nawait unpatched(ctx, kmemcg_workfn, work)", before
    )
    answer = slabrace("run", "rmdir-empty", "--patch", patch, "--no-log", "--json")

    assert (answer.code, answer.err) == (0, "")


@each_driver_name
def test_a_run_of_a_patch_that_draws_random_numbers_is_no_answer(
    slabrace: Command, make_patch: MakePatch, driver: str
) -> None:
    patch = make_patch("for _ in range(9):\n    await ctx.sleep(random.randrange(10**6))")
    answer = slabrace("run", "rmdir-empty", "--patch", patch, "--driver", driver, "--log", "x.log", "--json")

    assert (answer.code, answer.out) == (4, "")
    assert answer.err.startswith("slabrace: not deterministic: a schedule that was run again diverges at step ")
    assert not Path("x.log").exists()


def raised_by(action: Callable[[], object]) -> BaseException:
    """The exception that *action* raises."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001 -- the caller checks it
        return error
    pytest.fail("it raises nothing")


def press_ctrl_c() -> None:
    """Send SIGINT, as the terminal does."""
    signal.raise_signal(signal.SIGINT)


def pretend() -> None:
    """Raise KeyboardInterrupt, as a patch might."""
    raise KeyboardInterrupt


def test_only_a_signal_is_an_interrupt() -> None:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert is_interrupt(raised_by(press_ctrl_c))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert not is_interrupt(raised_by(pretend))
    assert not is_interrupt(SystemExit())


def test_ctrl_c_in_a_patch_is_no_error_of_the_patch() -> None:
    experiment = Experiment.of(RunOptions(scenario="rmdir-empty"))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), experiment.blaming(None):
            press_ctrl_c()
    finally:
        signal.signal(signal.SIGINT, previous)
