"""The states between the patches of v4: which bodies each step has, and the facts of the table in KERNEL.md 7.7."""

from __future__ import annotations

import itertools
import json

import attrs
import pytest

from actors.fixes import FIXES
from actors.linux.include.slab import (
    kmem_cache_alloc,
    kmem_cache_destroy,
    kmem_cache_free,
    memcg_create_kmem_cache,
)
from actors.linux.init.machine import Machine
from actors.linux.kernel.cgroup.cgroup import memcg_of
from actors.linux.lib.percpu_refcount import PercpuRef
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.linux.mm.memcontrol import Memcg, memcg_kmem_get_cache, memcg_kmem_put_cache
from actors.linux.mm.slab_common import kmemcg_cache_deactivate, shutdown_cache
from actors.linux.mm.slab_h import SlabMutexHeld
from actors.machine.context import Context
from actors.system.stepper import run_stepper
from actors.system.world import World, running_stack
from actors.versions.kernel_fn import functions
from actors.versions.profiles import ALLOCATORS, declared_range, profile_range
from benchmarks.kernel_map import span
from explorer.search.registry import make_strategy
from protocol.vocabulary import KERNELS, PROFILES, STEPS, TODAY
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage, charge_elsewhere, mkdir, rmdir, run_in, small_cache
from tests.conftest import Command, check_usage_error
from tests.helpers import run_small

CHAIN = ("original", *STEPS)

each_step = pytest.mark.parametrize("step", STEPS)
each_allocator = pytest.mark.parametrize("allocator", ALLOCATORS)


# -- the names --------------------------------------------------------------------------------------------------------


def test_a_range_has_steps_only_if_it_names_one() -> None:
    assert profile_range("..") == (*PROFILES, *TODAY)
    assert profile_range("v4#2..v4#4") == ("v4#2", "v4#3", "v4#4")
    assert profile_range("original..v4#2,v1") == ("original", "v4#1", "v4#2", "v1")
    assert profile_range("v4#6..") == ("v4#6", "v4#7")
    for wrong in ("v4#5..v5", "v1..v4#2", "v4#8"):
        with pytest.raises(ValueError, match=wrong):
            profile_range(wrong)


def test_a_declaration_for_original_and_v4_is_one_for_the_steps_between() -> None:
    assert set(declared_range("..")) == set(KERNELS)
    assert set(declared_range("..v5")) - set(profile_range("..v5")) == set(STEPS)
    assert declared_range("v1..") == profile_range("v1..")
    assert declared_range("original..v4#4,v1..v5") == profile_range("original..v4#4,v1..v5")


@pytest.mark.parametrize("text", ["..", "..v5", "v1..v4,v4#5..", "original..v4#4,v1", "original,v1", "v4#5"])
def test_a_table_shows_the_range_that_was_declared(text: str) -> None:
    shown = span(declared_range(text))

    assert shown == "all" or set(declared_range(shown.replace(", ", ","))) == set(declared_range(text))


def test_list_has_the_steps_in_a_group_of_their_own(slabrace: Command) -> None:
    entries = json.loads(slabrace("list", "kernels", "--json").out)
    text = slabrace("list", "kernels").out

    assert [entry["name"] for entry in entries if entry["step_of"] == "v4"] == list(STEPS)
    assert [entry["name"] for entry in entries if entry["step_of"] is None] == [*PROFILES, *TODAY]
    assert text.index("5.4-fixed  ") < text.index("the steps of v4, a patch each") < text.index("v4#1  ")


def test_an_unknown_step_is_answered_with_the_known_ones(slabrace: Command) -> None:
    line = check_usage_error(slabrace("run", "rmdir-empty", "--kernel", "v4#8"))

    assert "--kernel v4#8: there is no such choice" in line
    assert "v4#7" in line


# -- the bodies -------------------------------------------------------------------------------------------------------

CHANGED = {
    "v4#1": "",
    "v4#2": "__kmemcg_cache_deactivate __kmemcg_cache_deactivate_after_rcu kmemcg_cache_deactivate "
    "kmemcg_cache_deactivate_after_rcu slab_deactivate_memcg_cache_rcu_sched kmemcg_rcufn kmemcg_workfn "
    "flush_memcg_workqueue",
    "v4#3": "",
    "v4#4": "charge_slab_page uncharge_slab_page memcg_charge_slab memcg_uncharge_slab",
    "v4#5": "init_memcg_params destroy_memcg_params kmemcg_cache_deactivate kmemcg_workfn "
    "kmemcg_cache_deactivate_after_rcu kmemcg_cache_shutdown kmemcg_cache_shutdown_fn flush_memcg_workqueue "
    "__kmemcg_cache_deactivate_after_rcu memcg_kmem_get_cache memcg_kmem_put_cache memcg_schedule_kmem_cache_create "
    "charge_slab_page uncharge_slab_page memcg_charge_slab memcg_uncharge_slab memcg_link_cache memcg_unlink_cache "
    "memcg_free_kmem memcg_destroy_kmem_caches",
    "v4#6": "memcg_deactivate_kmem_caches memcg_offline_kmem memcg_free_kmem memcg_charge_slab memcg_uncharge_slab",
    "v4#7": "page_cgroup_ino memcg_from_slab_page memcg_unlink_cache",
}
"""The functions that each patch changes, by the names of the model; KERNEL.md 7.7 has them by the names of the time.

In the model, patches 1 and 3 change nothing: they move one store, and one function out of another.
"""


@pytest.mark.parametrize(("before", "step"), list(itertools.pairwise(CHAIN)))
def test_a_patch_changes_the_functions_that_its_mail_changes(before: str, step: str) -> None:
    changed = {
        name
        for name, function in functions().items()
        for allocator in ALLOCATORS
        if function.body(before, allocator) is not function.body(step, allocator)
    }

    assert changed == set(CHANGED[step].split())


@each_allocator
def test_the_last_step_is_v4(allocator: str) -> None:
    for name, function in functions().items():
        assert function.body("v4#7", allocator) is function.body("v4", allocator), name


@each_allocator
def test_one_body_of_a_function_is_for_a_kernel(allocator: str) -> None:
    """Two declarations for one kernel would hide each other."""
    for name, function in functions().items():
        claimed = [kernel for body in function.bodies if body.is_built(allocator) for kernel in body.profiles]
        assert len(claimed) == len(set(claimed)), name


@pytest.mark.parametrize(("step", "kernel"), [("v4#1", "original"), ("v4#3", "v4#2"), ("v4#7", "v4")])
@pytest.mark.parametrize("name", ["rmdir-under-load", "destroy-typesafe"])
@each_allocator
def test_a_step_without_a_change_of_its_own_runs_as_the_kernel_before(
    name: str, step: str, kernel: str, allocator: str
) -> None:
    runs = [run_small(name, each, seed=1, allocator=allocator) for each in (step, kernel)]

    assert runs[0].digest == runs[1].digest
    assert [f.signature for f in runs[0].findings] == [f.signature for f in runs[1].findings]


@each_allocator
@each_step
def test_both_drivers_agree_on_a_step(step: str, allocator: str) -> None:
    runs = [run_small("nested", step, seed=1, allocator=allocator, driver=driver) for driver in ("stepper", "trio")]

    assert runs[0].digest == runs[1].digest
    assert [f.signature for f in runs[0].findings] == [f.signature for f in runs[1].findings]


# -- the facts --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Pins:
    """The references that something has taken: to the css of the memcg, and to the cache."""

    css: int = 0
    cache: int = 0


@attrs.define
class Life:
    """The life of one child cache.

    `pins` are the references that each thing has taken. `owner` is the cache's memcg after the removal of the cgroup,
    while an object is in use, and `outlives` whether the cache has outlived its first memcg. `destroyers` have shut it
    down.
    """

    pins: dict[str, Pins] = attrs.field(factory=dict)
    owner: str | None = None
    outlives: bool = False
    destroyers: set[str] = attrs.field(factory=set)
    is_over: bool = False


DESTROYERS = ("memcg_destroy_kmem_caches", "kmemcg_cache_shutdown_after_rcu", "shutdown_memcg_caches")
"""The functions that shut child caches down."""

KNOWN = ("rcu-lock-for-unlock", "work-fn-store-after-free", "wq-lock-not-irq-safe", "vmstat-lost-at-release")
"""The fixes of the flaws (a), (b) and (h) of 7.7, which every life of a cache would show."""


def live(step: str, allocator: str, *, destroys_root: bool = False) -> Life:
    """Make a child cache, allocate from it, deactivate it, remove its memcg, and free its last object.

    With *destroys_root* the cgroup stays, and the root cache goes instead.
    """
    life = Life()
    world = World(make_strategy("random", 0))
    knobs = {knob.name: default_value(knob) for knob in MACHINE} | {"allocator": allocator}
    fixes = KNOWN if step in profile_range("v4#5..") else ()
    stage = Stage(world, step, knobs, patches=tuple(FIXES[fix].added_to(step) for fix in fixes))
    machine = stage.boot(caches=[small_cache("alpha")])
    root = machine.root_cache("alpha")

    def shut_down(flow: Context) -> None:
        life.destroyers.update(code.co_name for code in running_stack(flow) if code.co_name in DESTROYERS)

    machine.functions = machine.functions.watched({shutdown_cache: shut_down})

    async def set_up(ctx: Context) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        memcg = memcg_of(cgroup.css)
        before = references(machine, memcg)
        await memcg_create_kmem_cache(ctx, memcg, root)
        life.pins["cache"] = more(references(machine, memcg), before)
        (child,) = memcg.kmem_caches
        kept: list[SlabObject] = []

        async def allocate(ctx: Context) -> None:
            before = references(machine, memcg, child)
            assert await memcg_kmem_get_cache(ctx, root) is child
            life.pins["allocation"] = more(references(machine, memcg, child), before)
            await memcg_kmem_put_cache(ctx, child)
            kept.extend(filter(None, [await kmem_cache_alloc(ctx, root)]))
            life.pins["page"] = more(references(machine, memcg, child), before)

        await run_in(ctx, cgroup, allocate)
        if destroys_root:
            await kmem_cache_free(ctx, root, kept.pop())
            await kmem_cache_destroy(ctx, root)
        else:
            before = references(machine, memcg, child)
            await deactivate(ctx, child)
            life.pins["item"] = more(references(machine, memcg, child), before)
            await ctx.settle()
            await rmdir(ctx, cgroup)
            await charge_elsewhere(ctx, stage.session)
            await ctx.settle()
            life.owner = child.memcg.name if child.memcg is not None else None
            life.outlives = memcg.freed is not None
            await kmem_cache_free(ctx, root, kept.pop())
        world.endings.append(lambda: end(child))

    def end(child: KmemCache) -> None:
        life.is_over = child.freed is not None

    stage.set_up(set_up)
    stage.start()
    run_stepper(world)
    assert not world.findings
    return life


async def deactivate(ctx: Context, child: KmemCache) -> None:
    """Deactivate a cache and take it out of the array, as memcg_deactivate_kmem_caches() does for a whole memcg."""
    assert child.memcg is not None
    async with SlabMutexHeld(ctx):
        await kmemcg_cache_deactivate(ctx, child)
        array = await ctx.ask(child.root.read_memcg_caches)
        await ctx.ask(array.set_entry, child.memcg.kmemcg_id, None)


def references(machine: Machine, memcg: Memcg, child: KmemCache | None = None) -> Pins:
    """The present counts, without the css references of stocks."""
    stocked = sum(stock.nr_pages for stock in machine.stocks if stock.cached is memcg)
    css, ref = memcg.css.refcnt, child.refcnt if child is not None else None
    assert css is not None
    return Pins(css.value - stocked, ref.value if isinstance(ref, PercpuRef) else 0)


def more(now: Pins, before: Pins) -> Pins:
    """What was taken between two counts."""
    return Pins(now.css - before.css, now.cache - before.cache)


MEMCG, CACHE, NOTHING = Pins(css=1), Pins(cache=1), Pins()


@each_allocator
@each_step
def test_each_thing_pins_what_the_table_says(step: str, allocator: str) -> None:
    """KERNEL.md 7.7. The slab has one page. The deferred item of [O] is SLUB's alone."""
    by_cache = step in profile_range("v4#5..")
    has_item = step in profile_range("v4#2..v4#4") or (step == "v4#1" and allocator == "slub")

    assert live(step, allocator).pins == {
        "cache": MEMCG if by_cache else NOTHING,
        "allocation": CACHE if by_cache else MEMCG,
        "page": CACHE if by_cache else MEMCG,
        "item": MEMCG if has_item else NOTHING,
    }


@each_allocator
@each_step
def test_a_cache_belongs_to_whom_the_table_says_and_ends_by_it(step: str, allocator: str) -> None:
    life = live(step, allocator)
    is_moved = step in profile_range("v4#6..")
    destroyer = "memcg_destroy_kmem_caches" if step in profile_range("..v4#4") else "kmemcg_cache_shutdown_after_rcu"

    assert life.owner == ("/" if is_moved else "job")
    assert life.outlives == is_moved
    assert life.destroyers == {destroyer}
    assert life.is_over


@each_allocator
@each_step
def test_a_root_cache_takes_its_children_with_it(step: str, allocator: str) -> None:
    life = live(step, allocator, destroys_root=True)

    assert life.destroyers == {"shutdown_memcg_caches"}
    assert life.is_over
