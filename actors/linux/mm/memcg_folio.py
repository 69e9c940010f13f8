"""Folios and their memcg: charge, uncharge, migration, and the lock of a lruvec. mm/memcontrol.c, 6.12 and 7.2.

KERNEL-today 10, 11, KERNEL-7.2 N6. On 6.12 a folio holds a css reference to its memcg, on 7.2 a reference to an
obj_cgroup, whose memcg changes when it is reparented. The pages of 2019 are charged in memcontrol.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.include.memcontrol import obj_cgroup_get, obj_cgroup_put, obj_cgroup_tryget
from actors.linux.include.rstat import __mod_memcg_lruvec_state, __mod_memcg_state
from actors.linux.kernel.cgroup.cgroup import css_get, css_put, css_tryget
from actors.linux.kernel.locking.locks import spin_lock_irqsave, spin_unlock_irqrestore
from actors.linux.mm.memcontrol import Memcg, get_mem_cgroup_from_mm, memcg_uncharge, try_charge, try_charge_memcg
from actors.linux.mm.mmzone import Lruvec
from actors.machine.context import WARN_ON, Context, deref
from actors.machine.gfp import Gfp
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.mm.filemap import Page
    from actors.linux.mm.obj_cgroup import ObjCgroup


# -- charge, uncharge and migration -----------------------------------------------------------------------------------


@kernel_fn("mem_cgroup_charge", "mm/memcontrol.c", profiles="6.12..", known_as="__mem_cgroup_charge")
async def mem_cgroup_charge(ctx: Context, page: Page, gfp: Gfp) -> bool:
    """KERNEL-today 10.1: charge a new page to the memcg of the running task; False is -ENOMEM."""
    memcg = await get_mem_cgroup_from_mm(ctx)
    is_charged = await charge_memcg(ctx, memcg, gfp, page)
    await css_put(ctx, memcg.css)
    return is_charged


@kernel_fn("charge_memcg", "mm/memcontrol.c", profiles="6.12")
async def charge_memcg(ctx: Context, memcg: Memcg, gfp: Gfp, page: Page) -> bool:
    """KERNEL-today 10.1: charge a folio, and let it hold one css reference, however long it is."""
    if not await try_charge(ctx, memcg, gfp, page.nr_pages):
        return False
    await css_get(ctx, memcg.css)
    page.memcg = page.charged_by = memcg
    memcg.book_folio(1, page.nr_pages)
    return True


@kernel_fn("charge_memcg", "mm/memcontrol.c", profiles="7.2..")
async def charge_memcg_7_2(ctx: Context, memcg: Memcg, gfp: Gfp, page: Page) -> bool:
    """KERNEL-7.2, row 11.2: the folio holds the obj_cgroup of its own node, of *memcg* or of the first above it."""
    objcg = await get_obj_cgroup_from_memcg(ctx, memcg, page.nid)
    if not objcg.is_root and not await try_charge_memcg(ctx, memcg, gfp, page.nr_pages):
        await obj_cgroup_put(ctx, objcg)
        return False
    page.objcg, page.charged_by = objcg, memcg
    objcg.book_folio(1, page.nr_pages)
    return True


@kernel_fn("get_obj_cgroup_from_memcg", "mm/memcontrol.c", profiles="7.2..", known_as="__get_obj_cgroup_from_memcg")
async def get_obj_cgroup_from_memcg(ctx: Context, memcg: Memcg, nid: int) -> ObjCgroup:
    """KERNEL-7.2 N6.3: the first obj_cgroup of that node from *memcg* upwards that can be taken; the root's can be."""
    with ctx.rcu_read_section:
        for level in (memcg, *memcg.ancestors()):
            objcg = await ctx.ask(level.objcg_owner(nid).read_objcg)
            if objcg is not None and await obj_cgroup_tryget(ctx, objcg):
                return objcg
    return deref(None, "__get_obj_cgroup_from_memcg(): the root's obj_cgroup")


@kernel_fn("mem_cgroup_uncharge_folio", "mm/memcontrol.c", profiles="6.12", known_as="__mem_cgroup_uncharge")
async def mem_cgroup_uncharge_folio(ctx: Context, page: Page) -> None:
    """KERNEL-today 10.3: a folio that nobody refers to is uncharged; its memcg may be released with that.

    The charge of a migrated one has gone to its new place.
    """
    WARN_ON(ctx, page.on_lists, "Bad page state: PAGE_FLAGS_CHECK_AT_FREE flag(s) set (lru)")
    memcg = page.memcg
    if memcg is None:
        return
    await css_get(ctx, memcg.css)
    await uncharge_folio(ctx, page)
    await uncharge_batch(ctx, memcg, page.nr_pages)


@kernel_fn("uncharge_folio", "mm/memcontrol.c", profiles="6.12")
async def uncharge_folio(ctx: Context, page: Page) -> None:
    """The css reference of the folio goes."""
    memcg, page.memcg = page.charged_to, None
    memcg.book_folio(-1, page.nr_pages)
    await css_put(ctx, memcg.css)


@kernel_fn("uncharge_batch", "mm/memcontrol.c", profiles="6.12")
async def uncharge_batch(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """KERNEL-today 10.3: subtract from the counters, past the stock, and drop the reference that was taken for this."""
    if not memcg.is_root:
        await memcg_uncharge(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)


@kernel_fn("mem_cgroup_uncharge_folio", "mm/memcontrol.c", profiles="7.2..", known_as="__mem_cgroup_uncharge")
async def mem_cgroup_uncharge_folio_7_2(ctx: Context, page: Page) -> None:
    """KERNEL-today 11.3: the reference that is taken for the batch keeps the obj_cgroup until the counters are done."""
    WARN_ON(ctx, page.on_lists, "Bad page state: PAGE_FLAGS_CHECK_AT_FREE flag(s) set (lru)")
    objcg = page.objcg
    if objcg is None:
        return
    await obj_cgroup_get(ctx, objcg)
    await uncharge_folio_7_2(ctx, page)
    await uncharge_batch_7_2(ctx, objcg, page.nr_pages)


@kernel_fn("uncharge_folio", "mm/memcontrol.c", profiles="7.2..")
async def uncharge_folio_7_2(ctx: Context, page: Page) -> None:
    """The obj_cgroup reference of the folio goes."""
    objcg, page.objcg = deref(page.objcg, "uncharge_folio(): folio_objcg(folio)"), None
    objcg.book_folio(-1, page.nr_pages)
    await obj_cgroup_put(ctx, objcg)


@kernel_fn("uncharge_batch", "mm/memcontrol.c", profiles="7.2..")
async def uncharge_batch_7_2(ctx: Context, objcg: ObjCgroup, nr_pages: int) -> None:
    """KERNEL-today 11.3: the counters of the memcg that the obj_cgroup has now, under RCU; the root's own has none."""
    if not objcg.is_root:
        with ctx.rcu_read_section:
            await memcg_uncharge(ctx, await ctx.ask(objcg.read_memcg), nr_pages)
    await obj_cgroup_put(ctx, objcg)


@kernel_fn("mem_cgroup_migrate", "mm/memcontrol.c", profiles="6.12")
async def mem_cgroup_migrate(_ctx: Context, old: Page, new: Page) -> None:
    """KERNEL-today 10.2: the charge and the css reference go to the new folio."""
    new.memcg, new.charged_by, old.memcg = old.memcg, old.charged_by, None


@kernel_fn("mem_cgroup_migrate", "mm/memcontrol.c", profiles="7.2..")
async def mem_cgroup_migrate_7_2(ctx: Context, old: Page, new: Page) -> None:
    """KERNEL-7.2 N6.6: the new folio holds the obj_cgroup of its own node, for its node may have been reparented.

    If that is the root's, the charge ends here: all that is left of the old one's memcgs was given to the root.
    """
    objcg = deref(old.objcg, "mem_cgroup_migrate(): folio_objcg(old)")
    target = await get_migration_objcg(ctx, objcg, old.nid, new.nid)
    if target.is_root and not objcg.is_root:
        with ctx.rcu_read_section:
            await memcg_uncharge(ctx, await ctx.ask(objcg.read_memcg), old.nr_pages)
    new.objcg, new.charged_by, old.objcg = target, old.charged_by, None
    target.book_folio(1, new.nr_pages)
    objcg.book_folio(-1, old.nr_pages)
    await obj_cgroup_put(ctx, objcg)


@kernel_fn("get_migration_objcg", "mm/memcontrol.c", profiles="7.2..")
async def get_migration_objcg(ctx: Context, objcg: ObjCgroup, old_nid: int, nid: int) -> ObjCgroup:
    """With a reference: the same obj_cgroup on the same node; else that of node *nid* from its memcg upwards."""
    await obj_cgroup_get(ctx, objcg)
    if nid == old_nid:
        return objcg
    with ctx.rcu_read_section:
        found = await get_obj_cgroup_from_memcg(ctx, await ctx.ask(objcg.read_memcg), nid)
    await obj_cgroup_put(ctx, objcg)
    return found


# -- the memcg and the lruvec of a folio (KERNEL-today 10, 11) --------------------------------------------------------


async def folio_memcg(ctx: Context, page: Page) -> Memcg:
    """The memcg of a folio; on 7.2 the caller holds RCU, or what keeps the obj_cgroup where it is."""
    return page.charged_to if page.objcg is None else await ctx.ask(page.objcg.read_memcg)


@kernel_fn("get_mem_cgroup_from_folio", "mm/memcontrol.c", profiles="6.12")
async def get_mem_cgroup_from_folio(ctx: Context, page: Page) -> Memcg:
    """The memcg of a folio with a css reference; the folio has one, too."""
    memcg = page.charged_to
    await css_get(ctx, memcg.css)
    return memcg


@kernel_fn("get_mem_cgroup_from_folio", "mm/memcontrol.c", profiles="7.2..")
async def get_mem_cgroup_from_folio_7_2(ctx: Context, page: Page) -> Memcg:
    """KERNEL-today 11.8: if there is no css reference left, the folio has another memcg by then."""
    with ctx.rcu_read_section:
        while True:
            memcg = await folio_memcg(ctx, page)
            if await css_tryget(ctx, memcg.css):
                return memcg


@kernel_fn("count_memcg_folio_events", "include/linux/memcontrol.h", profiles="6.12")
async def count_memcg_folio_events(ctx: Context, page: Page, item: str, nr: int) -> None:
    """Count an event of a folio for its memcg, which the folio pins."""
    memcg = await folio_memcg(ctx, page)
    with ctx.irq_section:
        await __mod_memcg_state(ctx, memcg, item, nr)


@kernel_fn("count_memcg_folio_events", "include/linux/memcontrol.h", profiles="7.2..")
async def count_memcg_folio_events_7_2(ctx: Context, page: Page, item: str, nr: int) -> None:
    """f995da5341c1: nothing but RCU keeps the memcg of a folio from being freed."""
    with ctx.rcu_read_section:
        memcg = await folio_memcg(ctx, page)
        with ctx.irq_section:
            await __mod_memcg_state(ctx, memcg, item, nr)


@kernel_fn("lruvec_stat_mod_folio", "mm/memcontrol.c", profiles="6.12..")
async def lruvec_stat_mod_folio(ctx: Context, page: Page, nid: int, item: str, nr_pages: int) -> None:
    """Count pages of a folio for the memcg that it is charged to now, on node *nid*. IRQs are off."""
    with ctx.rcu_read_section:
        await __mod_memcg_lruvec_state(ctx, await folio_memcg(ctx, page), nid, item, nr_pages)


@attrs.frozen
class LruvecLocked:
    """A lruvec whose lock is held with IRQs off, and the flags from before."""

    lruvec: Lruvec
    flags: bool


async def folio_lruvec(ctx: Context, page: Page) -> Lruvec:
    """The lruvec of the memcg that the page is charged to, on the page's node."""
    return (await folio_memcg(ctx, page)).nodeinfo[page.nid].lruvec


@kernel_fn("folio_lruvec_lock_irqsave", "mm/memcontrol.c", profiles="6.12")
async def folio_lruvec_lock_irqsave(ctx: Context, page: Page) -> LruvecLocked:
    """KERNEL-today 10.2: the memcg of an isolated page, or of one without users, does not change."""
    lruvec = await folio_lruvec(ctx, page)
    return LruvecLocked(lruvec, await spin_lock_irqsave(ctx, lruvec.lru_lock))


@kernel_fn("folio_lruvec_lock_irqsave", "mm/memcontrol.c", profiles="7.2..")
async def folio_lruvec_lock_irqsave_7_2(ctx: Context, page: Page) -> LruvecLocked:
    """KERNEL-today 11.6: the page may have gone to the parent before the lock was held; then it is taken anew.

    It returns under RCU, which the unlock ends.
    """
    ctx.rcu_read_lock()
    while True:
        lruvec = await folio_lruvec(ctx, page)
        flags = await spin_lock_irqsave(ctx, lruvec.lru_lock)
        if await folio_memcg(ctx, page) is lruvec.memcg:
            return LruvecLocked(lruvec, flags)
        await spin_unlock_irqrestore(ctx, lruvec.lru_lock, flags)


@kernel_fn("lruvec_lock_irq", "mm/memcontrol.c", profiles="6.12")
async def lruvec_lock_irq(ctx: Context, lruvec: Lruvec) -> LruvecLocked:
    """Reclaim locks the lruvec of a memcg that it holds a reference to."""
    return LruvecLocked(lruvec, await spin_lock_irqsave(ctx, lruvec.lru_lock))


@kernel_fn("lruvec_lock_irq", "include/linux/memcontrol.h", profiles="7.2..")
async def lruvec_lock_irq_7_2(ctx: Context, lruvec: Lruvec) -> LruvecLocked:
    """KERNEL-today 11.6: without a second look: the lruvec may be that of a removed memcg, which is empty."""
    ctx.rcu_read_lock()
    return LruvecLocked(lruvec, await spin_lock_irqsave(ctx, lruvec.lru_lock))


@kernel_fn("lruvec_unlock_irqrestore", "include/linux/memcontrol.h", profiles="6.12")
async def lruvec_unlock_irqrestore(ctx: Context, locked: LruvecLocked) -> None:
    await spin_unlock_irqrestore(ctx, locked.lruvec.lru_lock, locked.flags)


@kernel_fn("lruvec_unlock_irqrestore", "include/linux/memcontrol.h", profiles="7.2..")
async def lruvec_unlock_irqrestore_7_2(ctx: Context, locked: LruvecLocked) -> None:
    """First the lock, then RCU."""
    await spin_unlock_irqrestore(ctx, locked.lruvec.lru_lock, locked.flags)
    ctx.rcu_read_unlock()


@kernel_fn("folio_lruvec_relock_irqsave", "include/linux/memcontrol.h", profiles="6.12..")
async def folio_lruvec_relock_irqsave(ctx: Context, page: Page, locked: LruvecLocked | None) -> LruvecLocked:
    """Keep the lock that is held if the page belongs to the same lruvec; else take the other one."""
    if locked is not None:
        if page.nid == locked.lruvec.nid and await folio_memcg(ctx, page) is locked.lruvec.memcg:
            return locked
        await lruvec_unlock_irqrestore(ctx, locked)
    return await folio_lruvec_lock_irqsave(ctx, page)


@kernel_fn("mem_cgroup_update_lru_size", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_update_lru_size(ctx: Context, lruvec: Lruvec, lru: str, nr_pages: int) -> None:
    """KERNEL-today 10.5: what is taken off is subtracted before the test, what comes is added after it."""
    if nr_pages < 0:
        await ctx.ask(lruvec.add_size, lru, nr_pages)
    size = lruvec.lru_size[lru]
    WARN_ON(ctx, size < 0, "mem_cgroup_update_lru_size: lru_size")
    if size < 0:
        await ctx.ask(lruvec.clear_size, lru)
    if nr_pages > 0:
        await ctx.ask(lruvec.add_size, lru, nr_pages)
