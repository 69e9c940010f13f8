"""Page counters and statistics of memcgs, of the root and by node: a kernel with a wrong value is found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actors.linux.kernel.cgroup.cgroup import memcg_of
from actors.linux.kernel.locking.locks import mutex_trylock, mutex_unlock
from actors.linux.mm.memcontrol import mem_cgroup_try_charge, mem_cgroup_uncharge
from actors.machine.context import Context
from actors.oracles.memcg import Expected, MemcgBooks
from actors.versions.profiles import ALLOCATORS
from explorer.experiment import Experiment, RunOptions
from explorer.search.strategies.simple import RandomWalk
from scenarios.registry import MACHINE, Scenario, scenario
from scenarios.stage import Stage, charge_elsewhere, fill, mkdir, rmdir, small_cache, warm_up
from tests.oracles.mutants import signatures

BATCHED = '''
"""mm/memcontrol.c: mod_lruvec_state() goes wrong on the way up."""

from actors.api import kernel_fn
from actors.linux.mm.vmstat import MEMCG_CHARGE_BATCH, NODE_STAT_THRESHOLD, THIS_CPU_STAT


@kernel_fn("mod_lruvec_state", "mm/memcontrol.c")
async def mod(ctx, memcg, nid, item, nr_pages):
    stats = ctx.machine.node_stats[nid]
    with ctx.irq_section:
        await ctx.this_cpu(memcg.vmstats, THIS_CPU_STAT)
        of_node = stats.batch(ctx, item, nr_pages, NODE_STAT_THRESHOLD)
        of_memcg = memcg.vmstats.batch(ctx, item, nr_pages, MEMCG_CHARGE_BATCH)
        of_lruvec = memcg.lruvec_stats[nid].batch(ctx, item, nr_pages, MEMCG_CHARGE_BATCH)
        if of_node:
            await ctx.ask(stats.add, item, of_node)
        if of_memcg:
            for level in (memcg, *memcg.ancestors()):
                await ctx.ask(level.vmstats.add, item, of_memcg)
        if of_lruvec:
            for level in (memcg, *memcg.ancestors()):
                await ctx.ask(level.lruvec_stats[nid].add, item, of_lruvec)
'''
LRUVEC_NOT_UP = BATCHED.replace(
    """            for level in (memcg, *memcg.ancestors()):
                await ctx.ask(level.lruvec_stats[nid].add""",
    """            for level in (memcg,):
                await ctx.ask(level.lruvec_stats[nid].add""",
)
ROOT_LEFT_OUT = BATCHED.replace("*memcg.ancestors()", "*memcg.ancestors()[:-1]")
LRUVEC_OF_FIRST_NODE = BATCHED.replace("memcg.lruvec_stats[nid].batch", "memcg.lruvec_stats[0].batch").replace(
    "level.lruvec_stats[nid]", "level.lruvec_stats[0]"
)

UNCHARGE = '''
"""mm/page_counter.c: page_counter_uncharge() stops below the root."""

from actors.linux.mm.page_counter import page_counter_cancel
from actors.api import kernel_fn


@kernel_fn("page_counter_uncharge", "mm/page_counter.c")
async def uncharge(ctx, counter, nr_pages):
    level = counter
    while level.parent is not None:
        await page_counter_cancel(ctx, level, nr_pages)
        level = level.parent
'''

NO_MEMSW = '''
"""mm/memcontrol.c: cancel_charge() forgets memsw."""

from actors.linux.kernel.cgroup.cgroup import css_put_many
from actors.linux.mm.page_counter import page_counter_uncharge
from actors.api import kernel_fn


@kernel_fn("cancel_charge", "mm/memcontrol.c")
async def cancel(ctx, memcg, nr_pages):
    if not memcg.is_root:
        await page_counter_uncharge(ctx, memcg.memory, nr_pages)
        await css_put_many(ctx, memcg.css, nr_pages)
'''

NOT_MOVED = '''
"""mm/slab_common.c: caches are deactivated at offline, and stay where they are."""

from actors.api import kernel_fn
from actors.linux.mm.slab_common import deactivate_entries
from actors.linux.mm.slab_h import SlabMutexHeld


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c")
async def deactivate(ctx, memcg, parent):
    async with SlabMutexHeld(ctx):
        await deactivate_entries(ctx, memcg)
'''

MANY = {"objects": "160"}
"""Four objects to a page: more pages than a CPU caches."""


def fill_and_keep(stage: Stage) -> None:
    """Keep one cgroup and remove another, each with objects that stay, allocated on the last CPU and node."""
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")

    async def fill_both(ctx: Context) -> None:
        await ctx.migrate(machine.cpus[-1])
        for name in ("stays", "goes"):
            cgroup = await mkdir(ctx, machine.root_cgroup, name)
            await warm_up(ctx, cgroup, cache)
            await fill(ctx, cgroup, cache, 160)
        await rmdir(ctx, cgroup)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(fill_both)
    stage.task("nothing", quiet_task)


async def quiet_task(_ctx: Context) -> None:
    """Nothing races."""


KEEP = scenario("fill-and-keep", "objects that stay", *MACHINE)(fill_and_keep)

MUTANTS = {
    "lruvecs above are left out": (LRUVEC_NOT_UP, "free-storm", MANY, "accounting:slab_unreclaimable of a lruvec:"),
    "all nodes count as the first": (
        LRUVEC_OF_FIRST_NODE,
        KEEP,
        {"nodes": "2"},
        "accounting:slab_unreclaimable of a lruvec:",
    ),
    "the root's statistics are left out": (
        ROOT_LEFT_OUT,
        KEEP,
        {},
        "accounting:slab_unreclaimable of the root too low:",
    ),
    "the root's counter is left out": (UNCHARGE, "stock-refill", {}, "accounting:memory usage of the root:"),
    "memsw is left out": (NO_MEMSW, "stock-refill", {"cgroup": "v1"}, "accounting:memsw usage of the root:"),
    "caches are not moved up": (NOT_MOVED, KEEP, {}, "leak:mem_cgroup held by a cache that was not moved up:"),
}


@pytest.mark.parametrize(("source", "stage", "settings", "signature"), MUTANTS.values(), ids=MUTANTS)
def test_a_kernel_that_counts_wrong_is_found(
    tmp_path: Path, source: str, stage: str | Scenario, settings: dict[str, str], signature: str
) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text(source)

    assert signature in signatures(stage, patch, settings=settings)
    assert signature not in signatures(stage, None, settings=settings)


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("nodes", ["1", "2"])
@pytest.mark.parametrize("kernel", ["original", "5.3", "5.4-fixed"])
def test_a_kernel_that_was_released_counts_the_objects_that_stay(kernel: str, nodes: str, allocator: str) -> None:
    assert not signatures(KEEP, None, kernel=kernel, allocator=allocator, settings={"nodes": nodes}, schedules=1)


# -- a stock that keeps a dead memcg (9.3) ----------------------------------------------------------------------------


def make_drain_give_up(stage: Stage, *, heals: bool) -> None:
    """A cgroup goes offline during another drain, so a stock keeps its pages; with *heals* that CPU charges another."""
    machine = stage.boot(caches=[small_cache("alpha")])

    async def remove_with_stock(ctx: Context) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        memcg = memcg_of(cgroup.css)
        assert await mem_cgroup_try_charge(ctx, memcg)
        await mem_cgroup_uncharge(ctx, memcg)
        assert await mutex_trylock(ctx, machine.percpu_charge_mutex)
        await rmdir(ctx, cgroup)
        await ctx.settle()
        await mutex_unlock(ctx, machine.percpu_charge_mutex)
        if heals:
            await charge_elsewhere(ctx, stage.session)

    stage.set_up(remove_with_stock)
    stage.task("nothing", quiet_task)


@pytest.mark.parametrize("kernel", ["original", "5.3", "5.4-fixed"])
@pytest.mark.parametrize("heals", [False, True])
def test_a_dead_memcg_that_a_stock_alone_holds_is_a_leak_of_the_stock(kernel: str, heals: bool) -> None:  # noqa: FBT001 -- a case
    stage = scenario("drain-gives-up", "a stock is not drained", *MACHINE)(
        lambda stage: make_drain_give_up(stage, heals=heals)
    )

    found = signatures(stage, None, kernel=kernel, schedules=1)

    assert found == (set() if heals else {"leak:mem_cgroup held by a stock:"})


# -- what the root may count (7.5) ------------------------------------------------------------------------------------


def test_what_is_expected_is_a_number_or_a_range() -> None:
    exact, range_ = Expected(5), Expected(5, more=3)

    assert [exact.error(counted) for counted in (4, 5, 6)] == ["low", "", "high"]
    assert [range_.error(counted) for counted in (4, 5, 8, 9)] == ["low", "", "", "high"]
    assert (str(exact), str(range_)) == ("5", "5, and up to 3 of caches that were moved to it")


@pytest.mark.parametrize(
    ("kernel", "patch", "is_exact"), [("v7", "", True), ("v7", "root-uncharge-underflow", False), ("5.3", "", False)]
)
def test_pages_of_the_root_are_spared_from_the_fix_on(kernel: str, patch: str, is_exact: bool) -> None:  # noqa: FBT001 -- a case
    """v7 counts all uncharges at the root; with the fix, as in 5.3, reparented pages stay counted there."""
    options = RunOptions(scenario="nested", kernel=kernel, patches=(patch,) if patch else ())
    stage = Experiment.of(options).set_stage(RandomWalk(0))

    assert MemcgBooks(stage.machine, Counter(), None).spares_root is not is_exact
