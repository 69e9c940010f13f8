"""Tasks charge pages to two cgroups, one of them removed, so that the stocks of the CPUs alternate between the two.

A task that holds a reference to a memcg may charge to it at any time, even after the cgroup went offline and its stocks
were drained. Examples are a page fault that slept, and the owner of a socket. Such a charge leaves pages in the stock
of its CPU. The next charge to another memcg on this CPU gives them back, and may drop the last reference to the memcg.

A stock is read and written back with interrupts off (from 7.2 on with preemption off) by a task on the stock's own CPU.
A task that is moved just before this uses the stock of its new CPU. Other CPUs read which memcg a stock belongs to;
only RCU keeps that memcg alive until they hold a reference to it (KERNEL.md 9.3).
"""

from __future__ import annotations

from actors.api import Context, Memcg
from actors.linux.kernel.cgroup.cgroup import css_get, css_put, memcg_of
from actors.linux.kernel.sched.fair import RunQueues, load_balance
from actors.linux.mm.memcontrol import (
    NR_MEMCG_STOCK,
    drain_all_stock,
    mem_cgroup_try_charge,
    mem_cgroup_uncharge,
    refill_stock,
    try_charge_memcg,
)
from actors.machine.gfp import GFP_KERNEL
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, scenario, small_cache
from scenarios.stock_refill import keeps_dead_cgroup


@scenario(
    "charge-vs-charge",
    "tasks charge pages to two cgroups, one of which is gone, and one of them is moved from CPU to CPU",
    Knob("pages", "pages that each task charges", 4, least=1),
    Knob("moves", "how often each CPU pulls the task over", 12),
    *MACHINE,
)
def charge_vs_charge(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    queues = RunQueues.boot(stage.world)
    memcgs: list[Memcg] = []

    async def make_cgroups(ctx: Context) -> None:
        memcgs.extend(await make_gone_and_others(ctx, "stays"))

    async def charge_late(ctx: Context) -> None:
        await charge_pages(ctx, memcgs[0], stage.knobs["pages"])
        await css_put(ctx, memcgs[0].css)

    async def pull(ctx: Context) -> None:
        for _ in range(stage.knobs["moves"]):
            await load_balance(ctx, queues, late)

    stage.set_up(make_cgroups)
    late = stage.task("late", charge_late, migrates=True)
    for cpu in range(min(2, len(machine.cpus))):
        stage.task(f"charge{cpu}", lambda ctx: charge_pages(ctx, memcgs[1], stage.knobs["pages"]), cpu=cpu)
        stage.task(f"idle{cpu}", pull, cpu=cpu)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a stock keeps a dead cgroup", lambda: keeps_dead_cgroup(machine))
    stage.eventually("no cgroup is dying", lambda: machine.root_cgroup.nr_dying_descendants == 0)


@scenario(
    "charge-vs-drain",
    "the stock with the last pages of a cgroup changes to another cgroup, while all stocks are read for a drain",
    Knob("drains", "how often the stocks of a third cgroup are drained", 8, least=1),
    *MACHINE,
)
def charge_vs_drain(stage: Stage) -> None:
    """A writer of memory.max: memory_max_write() first drains the cgroup's stocks, and reads every CPU's for this."""
    machine = stage.boot(caches=[small_cache("alpha")])
    memcgs: list[Memcg] = []

    async def fill_stock(ctx: Context) -> None:
        """Where a stock has slots, the other ones are taken, too."""
        others = [f"other{number}" for number in range(NR_MEMCG_STOCK - 1)] if machine.memcg_stocks else []
        memcgs.extend(await make_gone_and_others(ctx, "stays", "full", *others))
        await ctx.settle()
        for memcg in (memcgs[0], *memcgs[3:]):
            await charge_pages(ctx, memcg, 1)
        await css_put(ctx, memcgs[0].css)

    async def drain(ctx: Context) -> None:
        for _ in range(stage.knobs["drains"]):
            await drain_all_stock(ctx, memcgs[2])

    stage.set_up(fill_stock)
    stage.task("charge", lambda ctx: charge_pages(ctx, memcgs[1], 1))
    drainer = stage.task("drain", drain, cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes(
        "the stock changes to another cgroup while all stocks are read",
        lambda: machine.percpu_charge_mutex.holder is drainer and not keeps_dead_cgroup(machine),
    )
    stage.eventually("no cgroup is dying", lambda: machine.root_cgroup.nr_dying_descendants == 0)


async def make_gone_and_others(ctx: Context, *others: str) -> list[Memcg]:
    """Return the memcg of a removed cgroup, with a reference for late charges, then the memcgs of *others*."""
    cgroups = [await mkdir(ctx, ctx.machine.root_cgroup, name) for name in ("gone", *others)]
    memcgs = [memcg_of(cgroup.css) for cgroup in cgroups]
    await css_get(ctx, memcgs[0].css)
    await rmdir(ctx, cgroups[0])
    return memcgs


async def charge_pages(ctx: Context, memcg: Memcg, pages: int) -> None:
    """Charge *pages* pages, then uncharge all of them.

    From 7.2 on a page of a task is charged to a living ancestor if its cgroup is gone. A socket's is not: it holds its
    memcg, and gives its pages back into the stock (mem_cgroup_sk_charge()).
    """
    if ctx.machine.memcg_stocks:
        charged = [await try_charge_memcg(ctx, memcg, GFP_KERNEL, 1) for _ in range(pages)]
        for _ in range(sum(charged)):
            await refill_stock(ctx, memcg, 1)
        return
    charged = [await mem_cgroup_try_charge(ctx, memcg) for _ in range(pages)]
    for _ in range(sum(charged)):
        await mem_cgroup_uncharge(ctx, memcg)
