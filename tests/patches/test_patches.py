"""Runs with patches, without fixes, and with faults: the log records them, and a replay applies them again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from actors.fixes import ALL_FIXES, FIXES
from actors.linux.include.slab import memcg_create_kmem_cache
from actors.linux.kernel.cgroup.cgroup import memcg_of
from actors.linux.mm.memcontrol import KmemState, memcg_free_kmem
from actors.machine.context import Context
from actors.system.stepper import run_stepper
from actors.system.world import World
from actors.versions.kernel_fn import functions
from actors.versions.patching import NamedFix
from actors.versions.profiles import ALLOCATORS
from explorer.search.registry import make_strategy
from protocol.log import LogReader
from protocol.vocabulary import FAULTS
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage, mkdir, small_cache
from tests.conftest import Answer, Command
from tests.helpers import each_driver_name

FIX, COMMIT = "memcg-pointer-before-rcu-free", "b749ecfaf6c5"
BUILT_IN = "work-fn-store-after-free"

IDEA = """
from actors.linux.mm.memcontrol import memcg_offline_kmem
from actors.api import kernel_fn, unpatched

@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c")
async def offline(ctx, memcg):
    {}
    await unpatched(ctx, memcg_offline_kmem, memcg)
"""
HARMLESS = IDEA.format("await ctx.ask(memcg.read_kmem_state)")
OTHER = IDEA.format("await ctx.sleep(1_000)")
WRONG = IDEA.format("memcg.css.memcg = 7")
NULL = IDEA.format("memcg.css.cgroup.self_css = None")


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    """A user's patch whose name has special characters of terminals and shells."""
    path = tmp_path / "my [red]idea.py"
    path.write_text(HARMLESS)
    return path


def told(answer: Answer) -> tuple[str, str, list[str]]:
    result = json.loads(answer.out)
    return result["outcome"], result["digest"], result["patches"]


def replay_line(answer: Answer) -> list[str]:
    """The arguments of the replay command in the last line."""
    line = answer.out.splitlines()[-1]
    return shlex.split(line.removeprefix("replay: slabrace "))


# -- named fixes ------------------------------------------------------------------------------------------------------


@each_driver_name
@pytest.mark.parametrize(
    ("option", "name", "patches"),
    [("--patch", FIX, [FIX]), ("--patch", COMMIT, [FIX]), ("--without", BUILT_IN, [f"without {BUILT_IN}"])],
)
def test_a_replay_has_the_patches_of_its_log(
    slabrace: Command, driver: str, option: str, name: str, patches: list[str]
) -> None:
    live = slabrace("run", "nested", option, name, "--log", "x.log", "--json")
    replayed = slabrace("replay", "x.log", "--driver", driver, "--json")

    assert told(replayed) == told(live)
    assert told(live)[2] == patches


def test_a_patch_changes_the_run_and_is_told_before_it(slabrace: Command) -> None:
    plain = slabrace("run", "nested", "--no-log", "--json")
    patched = slabrace("run", "nested", "--patch", FIX, "--no-log", "--json")
    answer = slabrace("run", "nested", "--patch", FIX, "--without", BUILT_IN, "--fault", "page=0.1", "--no-log")

    assert told(plain)[1] != told(patched)[1]
    lines = answer.out.splitlines()
    assert lines[2:5] == [f"  patch {FIX}", f"  without {BUILT_IN}", "  faults page=0.1"]


@pytest.mark.parametrize("fix", ALL_FIXES, ids=lambda fix: fix.slug)
def test_every_fix_says_where_it_goes_in_and_where_it_comes_out(slabrace: Command, fix: NamedFix) -> None:
    entries = json.loads(slabrace("list", "patches", "--json").out)
    (entry,) = (entry for entry in entries if entry["name"] == fix.slug)
    for option, kernels in (("--patch", entry["goes_into"]), ("--without", entry["comes_out_of"])):
        for kernel in kernels:
            answer = slabrace("run", "canary", "--kernel", kernel, option, entry["name"], "--no-log", "--json")

            assert answer.code in (0, 1), answer.err
            assert told(answer)[2] == [entry["name"] if option == "--patch" else f"without {entry['name']}"]


@pytest.mark.parametrize("fix", ALL_FIXES, ids=lambda fix: fix.slug)
def test_a_fix_leaves_a_function_its_name(fix: NamedFix) -> None:
    """A flaw that a fix leaves has the signature that it has without the fix."""
    for kernel in (*fix.goes_into, *fix.comes_out_of):
        patch = fix.added_to(kernel) if kernel in fix.goes_into else fix.removed_from(kernel)
        for name, body in patch.bodies.items():
            known = {known.name for one in ALLOCATORS if (known := functions()[name].body(kernel, one)) is not None}

            assert body.name in (known or {name}), f"{name}() on {kernel}"


@pytest.mark.parametrize("kernel", ["v1", "5.3", "v4#5"])
@pytest.mark.parametrize("fixes", [(), ("kmem-key-toggles",)])
def test_a_fix_keeps_the_warnings_of_the_function_that_it_changes(kernel: str, fixes: tuple[str, ...]) -> None:
    """A memcg is about to be freed with a cache of its own, which no kernel does; each of them would warn of it."""
    world = World(make_strategy("random", 0))
    knobs = {knob.name: default_value(knob) for knob in MACHINE}
    stage = Stage(world, kernel, knobs, patches=tuple(FIXES[fix].added_to(kernel) for fix in fixes))
    machine = stage.boot(caches=[small_cache("alpha")])

    async def set_up(ctx: Context) -> None:
        memcg = memcg_of((await mkdir(ctx, machine.root_cgroup, "job")).css)
        await memcg_create_kmem_cache(ctx, memcg, machine.root_cache("alpha"))
        await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
        await memcg_free_kmem(ctx, memcg)

    stage.set_up(set_up)
    stage.start()
    run_stepper(world)

    warning = "memcg_free_kmem: !list_empty(&memcg->kmem_caches)"
    assert f"warn:{warning}:memcg_free_kmem" in world.findings


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--patch", FIX], ["--patch", FIX, "--without", BUILT_IN]])
def test_the_line_that_replays_a_patched_run_has_all_its_patches(
    slabrace: Command, idea: Path, more: list[str]
) -> None:
    live = slabrace("run", "nested", *more, "--patch", idea, "--log", "x.log")
    line = replay_line(live)

    assert f"patch {idea.name} (" in live.out
    assert line[:2] == ["replay", "x.log"]
    assert slabrace("replay", "x.log", "--trust").code == live.code
    assert slabrace(*line).code == live.code


def test_the_header_holds_the_hash_of_a_patch_file(slabrace: Command, idea: Path) -> None:
    slabrace("run", "nested", "--patch", idea, "--log", "x.log")
    log = LogReader(Path("x.log"))
    log.close()

    (patch,) = log.header.patches
    assert (patch.name, patch.path) == (idea.name, str(idea))
    assert len(patch.sha256) == 64


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_log_carries_the_text_of_its_patch_whatever_becomes_of_the_file(
    slabrace: Command, idea: Path, change: str
) -> None:
    text = idea.read_text()
    live = slabrace("run", "nested", "--patch", idea, "--log", "x.log")
    if change == "changed":
        idea.write_text(OTHER)
    else:
        idea.unlink()

    assert slabrace("replay", "x.log", "--trust").code == live.code
    assert text in slabrace("log", "x.log", "--patches").out


@each_driver_name
def test_another_patch_over_a_log_is_replayed_to_where_it_differs(slabrace: Command, idea: Path, driver: str) -> None:
    """The replay shows whether the patch would have changed the run."""
    slabrace("run", "nested", "--log", "x.log")
    answer = slabrace("replay", "x.log", "--patch", idea, "--driver", driver, "--json")
    result = json.loads(answer.out)

    assert answer.code == 4
    assert result["divergence"]["step"] > 0
    assert "enabled now: " in result["divergence"]["now"]


@each_driver_name
def test_an_error_that_a_patch_causes_elsewhere_is_no_finding(slabrace: Command, idea: Path, driver: str) -> None:
    """A Python exception is reported in one line as an error of the patch that led to it, wherever it is raised."""
    idea.write_text(WRONG)
    answer = slabrace("run", "nested", "--patch", idea, "--driver", driver, "--log", "x.log", "--json")

    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith(f"slabrace: --patch {idea}")
    assert answer.err.count("\n") == 1


@each_driver_name
def test_a_pointer_that_a_patch_clears_is_a_null_pointer_to_the_kernel(
    slabrace: Command, idea: Path, driver: str
) -> None:
    """None is NULL: a flow that dereferences it oopses as in C, and the run has a normal log."""
    idea.write_text(NULL)
    answer = slabrace("run", "nested", "--patch", idea, "--driver", driver, "--log", "x.log", "--json")
    (finding,) = json.loads(answer.out)["findings"]

    assert answer.code == 1
    assert (finding["kind"], finding["name"]) == ("null-deref", "->refcnt")
    assert slabrace("replay", "x.log", "--driver", driver, "--patch", idea).code == 1


@each_driver_name
@pytest.mark.parametrize(
    ("code", "is_the_kernel_s"),
    [
        ("None.offline", True),
        ("memcg.offlin", False),
        ("ctx.machine.root_cgroup.no_such_thing", False),
        ("helper(None)", False),
    ],
)
def test_only_kernel_code_that_follows_none_is_the_kernel_s_mistake(
    slabrace: Command, tmp_path: Path, driver: str, code: str, *, is_the_kernel_s: bool
) -> None:
    """An undefined name is the patch's mistake, and so is an error in its other functions."""
    patch = tmp_path / "patch.py"
    patch.write_text(
        "from actors.api import kernel_fn\n\n\ndef helper(thing):\n    return thing.name\n\n\n"
        '@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c")\n'
        f"async def memcg_offline_kmem(ctx, memcg):\n    {code}\n"
    )
    answer = slabrace("run", "rmdir-empty", "--patch", patch, "--driver", driver, "--no-log")

    assert answer.code == (1 if is_the_kernel_s else 2)
    assert ("signature: null-deref:->offline:memcg_offline_kmem" in answer.out) == is_the_kernel_s


@each_driver_name
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise StopIteration", "StopIteration"),
        ("await trio.sleep(0)", "it awaits something outside the machine"),
        ("await kmemcg_workfn(ctx, work)", "RecursionError: "),
    ],
    ids=["StopIteration", "a foreign await", "a recursion"],
)
def test_an_exception_of_a_patch_names_its_line(
    slabrace: Command, tmp_path: Path, driver: str, body: str, said: str
) -> None:
    patch = tmp_path / "patch.py"
    patch.write_text(
        "import trio\nfrom actors.api import kernel_fn\n\n"
        '@kernel_fn("kmemcg_workfn", "mm/slab_common.c")\n'
        f"async def kmemcg_workfn(ctx, work):\n    {body}\n"
    )
    answer = slabrace("run", "rmdir-empty", "--patch", patch, "--driver", driver, "--no-log")

    assert answer.code == 2
    assert f"slabrace: --patch {patch}, line 6, in kmemcg_workfn: {said}" in answer.err
    assert "Traceback" not in answer.err


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_with_a_fault_is_replayed_with_it(slabrace: Command, fault: str) -> None:
    live = slabrace("run", "nested", "--fault", f"{fault}=0.5", "--log", "x.log", "--json")
    replayed = slabrace("replay", "x.log", "--json")

    assert live.code in (0, 1)
    assert json.loads(live.out)["faults"] == {fault: 0.5}
    assert json.loads(replayed.out)["faults"] == {fault: 0.5}
    assert told(replayed) == told(live)


def test_faults_of_all_kinds_change_the_run(slabrace: Command) -> None:
    plain = slabrace("run", "nested", "--no-log", "--json")
    options = [f"--fault={fault}=0.5" for fault in FAULTS]

    assert told(slabrace("run", "nested", *options, "--no-log", "--json"))[1] != told(plain)[1]
