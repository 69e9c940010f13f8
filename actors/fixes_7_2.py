"""Fixes between the first merged form of 7.1 and 7.2, and weaker forms of 7.2's code, for `--without` and `--patch`.

As in `fixes_today`; 7.2 has all these fixes. docs/kernel/known-flaws-today.md has the list.
"""

from __future__ import annotations

from actors.fixes_today import MEMCONTROL, variation
from actors.linux.include.memcontrol import obj_cgroup_put
from actors.linux.kernel.cgroup.cgroup import css_put
from actors.linux.kernel.locking.locks import LocalLockHeld
from actors.linux.kernel.workqueue import Work
from actors.linux.mm.memcontrol import (
    CHARGE_BATCH,
    NR_MEMCG_STOCK,
    Memcg,
    drain_stock_7_2,
    memcg_uncharge,
    take_memcg_slot,
    this_memcg_stock,
    try_charge_memcg,
)
from actors.linux.mm.obj_cgroup import (
    PAGE_SIZE,
    ObjCgroup,
    ObjStock,
    flush_slot_bytes,
    get_mem_cgroup_from_objcg,
    mod_kernel_pages_7_2,
    uncharge_counters,
)
from actors.machine.context import Context
from actors.machine.gfp import Gfp
from actors.versions.patching import NamedFix
from actors.versions.profiles import declared_range


def fix(slug: str, commit: str, summary: str) -> NamedFix:
    """Declare a fix that 7.2 has, and that the first merged form of its code has not."""
    return NamedFix(slug, commit, summary, declared_range("7.2.."))


# -- stocks -----------------------------------------------------------------------------------------------------------

charge_of_the_root = variation(
    "charge-of-the-root", "an obj_cgroup that was given to the root charges the root's counters (7.2.6; not 7.2.12)"
)


@charge_of_the_root.puts_in("obj_cgroup_charge_pages", MEMCONTROL, profiles="7.2..")
async def charge_any_memcg(ctx: Context, objcg: ObjCgroup, gfp: Gfp, nr_pages: int) -> bool:
    """The surplus of the charge goes into a slot, whose owner is the root then."""
    memcg = await get_mem_cgroup_from_objcg(ctx, objcg)
    charged = await try_charge_memcg(ctx, memcg, gfp, nr_pages)
    if charged:
        objcg.charged += nr_pages
        await mod_kernel_pages_7_2(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)
    return charged


slot_emptied_first = variation(
    "slot-emptied-first", "a drain puts the obj_cgroup of a slot before it gives the bytes of the slot back"
)


@slot_emptied_first.puts_in("drain_obj_stock_slot", MEMCONTROL, profiles="7.2..")
async def put_and_give_back(ctx: Context, stock: ObjStock, at: int) -> None:
    """The put may be the last."""
    old = stock.cached[at]
    if old is None:
        return
    if stock.index == at:
        await flush_slot_bytes(ctx, stock)
        stock.index = -1
    stock.cached[at] = None
    (nr_pages, rest), stock.nr_bytes[at] = divmod(stock.nr_bytes[at], PAGE_SIZE), 0
    old.book(-1)
    await obj_cgroup_put(ctx, old)
    if nr_pages:
        await uncharge_counters(ctx, old, nr_pages)
    if rest:
        await ctx.ask(old.add_charged_bytes, rest)


flushing_for_ever = variation("flushing-for-ever", "a drained stock of pages stays marked as one that is to be drained")


@flushing_for_ever.puts_in("drain_local_memcg_stock", MEMCONTROL, profiles="7.2..")
async def drain_and_stay_marked(ctx: Context, _work: Work | None = None) -> None:
    """No later drain of the CPU happens."""
    async with LocalLockHeld(ctx, ctx.machine.memcg_stock_locks):
        stock = await this_memcg_stock(ctx)
        for at in range(NR_MEMCG_STOCK):
            await drain_stock_7_2(ctx, stock, at)


refill_without_lock = variation("refill-without-lock", "refill_stock() uses its CPU's stock with preemption off only")


@refill_without_lock.puts_in("refill_stock", MEMCONTROL, profiles="7.2..")
async def refill_unlocked(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """A handler on the CPU may fill the slot that was found empty."""
    if nr_pages > CHARGE_BATCH:
        await memcg_uncharge(ctx, memcg, nr_pages)
        return
    with ctx.preempt_section:
        stock = await this_memcg_stock(ctx)
        at = stock.slot_of(memcg)
        if at is None:
            await take_memcg_slot(ctx, stock, memcg, nr_pages)
        else:
            stock.nr_pages[at] += nr_pages
            if stock.nr_pages[at] > CHARGE_BATCH:
                await drain_stock_7_2(ctx, stock, at)


FIXES_7_2 = tuple(value for value in list(globals().values()) if isinstance(value, NamedFix))
