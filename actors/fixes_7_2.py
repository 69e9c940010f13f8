"""Fixes between the first merged form of 7.1 and 7.2, and weaker forms of 7.2's code, for `--without` and `--patch`.

As in `fixes_today`; 7.2 has all these fixes. docs/kernel/known-flaws-today.md has the list.
"""

from __future__ import annotations

from actors.fixes_today import LIST_LRU, MEMCONTROL, variation
from actors.linux.include.kernfs import kernfs_remove
from actors.linux.include.memcontrol import obj_cgroup_alloc, obj_cgroup_get, obj_cgroup_put
from actors.linux.include.rcupdate import __kvfree_rcu_barrier, kfree_rcu
from actors.linux.include.rstat import __mod_memcg_lruvec_state, __mod_memcg_state
from actors.linux.include.shrinker import set_shrinker_bit
from actors.linux.include.swap import lru_reparent_memcg
from actors.linux.kernel.cgroup.cgroup import (
    Cgroup,
    Css,
    CssFlags,
    css_get,
    css_killed_ref_fn,
    css_put,
    kill_css_finish,
    kill_css_sync,
)
from actors.linux.kernel.cgroup.rstat import Key, css_rstat_of
from actors.linux.kernel.locking.locks import (
    LocalLockHeld,
    MutexHeld,
    SpinLockIrqHeld,
    spin_lock_irqsave,
    spin_lock_nested,
    spin_unlock,
)
from actors.linux.kernel.workqueue import Work, flush_work
from actors.linux.lib.percpu_refcount import percpu_ref_kill, percpu_ref_kill_and_confirm
from actors.linux.mm.filemap import Page
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.list_lru import (
    ListLru,
    ListLruMemcgNodes,
    LockedListLruOne,
    LruItem,
    Stored,
    list_lru_from_memcg_idx_7_2,
    lock_list,
    memcg_reparent_list_lru_one,
)
from actors.linux.mm.memcg_folio import (
    LruvecLocked,
    folio_lruvec,
    folio_memcg,
    lruvec_lock_irq,
    lruvec_unlock_irqrestore,
    mem_cgroup_update_lru_size,
)
from actors.linux.mm.memcontrol import (
    CHARGE_BATCH,
    NR_MEMCG_STOCK,
    Memcg,
    MemcgPerNode,
    drain_stock_7_2,
    memcg_cache_id,
    memcg_uncharge,
    publish_objcg,
    put_orig_objcg,
    take_memcg_slot,
    this_memcg_stock,
    try_charge_memcg,
)
from actors.linux.mm.mmzone import LISTS, Lruvec
from actors.linux.mm.obj_cgroup import (
    PAGE_SIZE,
    ObjCgroup,
    ObjStock,
    flush_slot_bytes,
    get_mem_cgroup_from_objcg,
    mod_kernel_pages_7_2,
    move_objcgs,
    uncharge_counters,
)
from actors.linux.mm.sheaves import (
    flush_all_cpus_locked_7_2,
    flush_rcu_sheaf,
    flush_rcu_sheaves_on_cache,
    free_nodes,
    queue_flush,
)
from actors.linux.mm.slab_h import get_online_cpus, put_online_cpus
from actors.linux.mm.vmscan import free_folios, move_folio_to_lru
from actors.linux.mm.vmstat import THIS_CPU_STAT, memcg_rstat_updated, stats_of
from actors.linux.mm.workingset import ITEM as REFAULT
from actors.machine.context import Context, deref
from actors.machine.gfp import Gfp
from actors.versions.patching import NamedFix
from actors.versions.profiles import declared_range

MEMCONTROL_H, SWAP, VMSCAN = "include/linux/memcontrol.h", "mm/swap.c", "mm/vmscan.c"


def fix(slug: str, commit: str, summary: str) -> NamedFix:
    """Declare a fix that 7.2 has, and that the first merged form of its code has not."""
    return NamedFix(slug, commit, summary, declared_range("7.2.."))


# -- pages and LRU lists ----------------------------------------------------------------------------------------------

lruvec_no_recheck = fix(
    "lruvec-no-recheck", "31b54a5e8916", "whoever has locked the lruvec of a page looks once more whether it still is"
)


@lruvec_no_recheck.takes_out("folio_lruvec_lock_irqsave", MEMCONTROL, profiles="7.2..")
async def lock_without_recheck(ctx: Context, page: Page) -> LruvecLocked:
    """The page may have gone to the parent before the lock was held."""
    ctx.rcu_read_lock()
    lruvec = await folio_lruvec(ctx, page)
    return LruvecLocked(lruvec, await spin_lock_irqsave(ctx, lruvec.lru_lock))


putback_to_scanned_lruvec = fix(
    "putback-to-scanned-lruvec", "a760b64ee088", "reclaim puts each page back to the lruvec that it belongs to by then"
)


@putback_to_scanned_lruvec.takes_out("move_folios_to_lru", VMSCAN, profiles="7.2..")
async def put_back_where_it_was(ctx: Context, scanned: Lruvec, pages: list[Page]) -> None:
    """All pages go back to where they were taken from."""
    gone: list[Page] = []
    locked = await lruvec_lock_irq(ctx, scanned)
    for page in pages:
        await move_folio_to_lru(ctx, scanned, page, gone)
    await lruvec_unlock_irqrestore(ctx, locked)
    await free_folios(ctx, gone)


events_without_rcu = fix(
    "events-without-rcu", "f995da5341c1", "an event of a page is counted for its memcg under RCU, which keeps the memcg"
)


@events_without_rcu.takes_out("count_memcg_folio_events", MEMCONTROL_H, profiles="7.2..")
async def count_without_rcu(ctx: Context, page: Page, item: str, nr: int) -> None:
    """The memcg may be freed before the event is counted."""
    memcg = await folio_memcg(ctx, page)
    with ctx.irq_section:
        await __mod_memcg_state(ctx, memcg, item, nr)


refault_without_rcu = fix(
    "refault-without-rcu", "fe132152c885", "a refault is counted for the memcg of the page under RCU"
)


@refault_without_rcu.takes_out("workingset_refault", "mm/workingset.c", profiles="7.2..")
async def refault_outside_rcu(ctx: Context, page: Page) -> None:
    """The memcg may be freed before the refault is counted."""
    memcg = await folio_memcg(ctx, page)
    with ctx.irq_section:
        await __mod_memcg_lruvec_state(ctx, memcg, page.nid, REFAULT, page.nr_pages)


folio_get_without_loop = fix(
    "folio-get-without-loop",
    "af86590786d7",
    "the memcg of a page is taken only while it has references, and looked up again if it has none",
)


@folio_get_without_loop.takes_out("get_mem_cgroup_from_folio", MEMCONTROL, profiles="7.2..")
async def get_after_one_look(ctx: Context, page: Page) -> Memcg:
    """css_get(): the last reference may be gone by then."""
    with ctx.rcu_read_section:
        memcg = await folio_memcg(ctx, page)
        await css_get(ctx, memcg.css)
    return memcg


lru_size_copied = fix(
    "lru-size-copied", "0e0ac326c511", "removal subtracts the sizes of the LRU lists as it adds them to the parent's"
)


@lru_size_copied.takes_out("lru_reparent_memcg", SWAP, profiles="7.2..")
async def copy_sizes(ctx: Context, node: MemcgPerNode, above: MemcgPerNode) -> None:
    """A removed memcg without pages keeps their number."""
    for lru in LISTS:
        await ctx.ask(above.lruvec.splice_oldest, lru, await ctx.ask(node.lruvec.take_list, lru))
        nr_pages = await ctx.ask(node.lruvec.read_size, lru)
        if nr_pages:
            await mem_cgroup_update_lru_size(ctx, above.lruvec, lru, nr_pages)


migrate_foreign_node_objcg = fix(
    "migrate-foreign-node-objcg", "", "a page that is moved to another node holds the obj_cgroup of its new node"
)


@migrate_foreign_node_objcg.takes_out("get_migration_objcg", MEMCONTROL, profiles="7.2..")
async def keep_objcg(ctx: Context, objcg: ObjCgroup, _old_nid: int, _nid: int) -> ObjCgroup:
    """One node is reparented before the other, so the page is on the list of one memcg and charged to another."""
    await obj_cgroup_get(ctx, objcg)
    return objcg


lists_after_objcgs = variation(
    "lists-after-objcgs", "removal gives the obj_cgroups to the parent before it has the lists"
)


@lists_after_objcgs.puts_in("memcg_reparent_objcgs", MEMCONTROL, profiles="7.2..")
async def objcgs_first(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """In between, the LRU lock that belongs to a page is not that of the list that it is on."""
    for node, above in zip(memcg.nodeinfo, parent.nodeinfo, strict=True):
        async with SpinLockIrqHeld(ctx, ctx.machine.objcg_lock):
            objcg = deref(await ctx.ask(node.take_objcg), "memcg_reparent_objcgs(): pn->objcg")
            await move_objcgs(ctx, objcg, memcg, parent)
            await spin_lock_nested(ctx, node.lruvec.lru_lock)
            await spin_lock_nested(ctx, above.lruvec.lru_lock)
            await lru_reparent_memcg(ctx, node, above)
            await spin_unlock(ctx, above.lruvec.lru_lock)
            await spin_unlock(ctx, node.lruvec.lru_lock)
        await percpu_ref_kill(ctx, objcg.refcnt)


parent_lru_unlocked = variation("parent-lru-unlocked", "removal takes the LRU lock of the child alone")


@parent_lru_unlocked.puts_in("memcg_reparent_objcgs", MEMCONTROL, profiles="7.2..")
async def lock_child_only(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """The parent's list changes under two locks."""
    for node, above in zip(memcg.nodeinfo, parent.nodeinfo, strict=True):
        async with SpinLockIrqHeld(ctx, ctx.machine.objcg_lock):
            await spin_lock_nested(ctx, node.lruvec.lru_lock)
            await lru_reparent_memcg(ctx, node, above)
            objcg = deref(await ctx.ask(node.take_objcg), "memcg_reparent_objcgs(): pn->objcg")
            await move_objcgs(ctx, objcg, memcg, parent)
            await spin_unlock(ctx, node.lruvec.lru_lock)
        await percpu_ref_kill(ctx, objcg.refcnt)


# -- rcu sheaves and the end of caches --------------------------------------------------------------------------------

destroy_without_rcu_barrier = variation(
    "destroy-without-rcu-barrier",
    "kmem_cache_destroy() does not wait for the callbacks of the rcu sheaves that it has given to RCU",
)


@destroy_without_rcu_barrier.puts_in("kvfree_rcu_barrier_on_cache", "mm/slab_common.c", profiles="7.2")
async def flush_sheaves_only(ctx: Context, s: KmemCache) -> None:
    """No rcu_barrier() after the flush."""
    get_online_cpus(ctx)
    await flush_rcu_sheaves_on_cache(ctx, s)
    put_online_cpus(ctx)
    await __kvfree_rcu_barrier(ctx)


@destroy_without_rcu_barrier.puts_in("__kmem_cache_shutdown", "mm/slub.c", profiles="7.2")
async def shutdown_at_once(ctx: Context, s: KmemCache) -> bool:
    """Nor here: this one alone would make up for the other."""
    await flush_all_cpus_locked_7_2(ctx, s)
    return await free_nodes(ctx, s)


barrier_skips_cpus = variation(
    "barrier-skips-cpus", "the flush of the rcu sheaves leaves out a CPU that seems to have none (KERNEL-7.2 N2.4)"
)


@barrier_skips_cpus.puts_in("flush_rcu_sheaves_on_cache", "mm/slub.c", profiles="7.2")
async def flush_where_needed(ctx: Context, s: KmemCache) -> None:
    """A kfree_rcu() that has just taken a full sheaf away has not called call_rcu() yet."""
    async with MutexHeld(ctx, ctx.machine.flush_lock):
        works = [
            await queue_flush(ctx, s, pcs.cpu, flush_rcu_sheaf)
            for pcs in s.cpu_sheaves
            if await ctx.ask(pcs.has_rcu_free)
        ]
        for work in works:
            await flush_work(ctx, work)


# -- a css that dies after its last task (KERNEL-7.2 N3) ---------------------------------------------------------------

CGROUP, RSTAT = "kernel/cgroup/cgroup.c", "kernel/cgroup/rstat.c"

exit_without_dying_look = variation(
    "exit-without-dying-look", "the last task of a css does not look whether the css is dying"
)


@exit_without_dying_look.puts_in("css_update_populated", CGROUP, profiles="7.2..")
async def update_without_look(ctx: Context, css: Css) -> None:
    """Nobody kills a css whose rmdir has left that to its last task."""
    level, by_child = css, False
    while level.parent is not None and await ctx.ask(level.populate, -1, by_child=by_child):
        level, by_child = level.parent, True


populated_before_dying = variation(
    "populated-before-dying", "rmdir looks whether a css is populated before it marks the css as dying, not after"
)


@populated_before_dying.puts_in("cgroup_destroy_locked", CGROUP, profiles="7.2..")
async def destroy_without_recheck(ctx: Context, cgroup: Cgroup) -> bool:
    """A task that leaves in between sees no dying css, and rmdir has seen the task."""
    tree = ctx.machine.cgroup_tree
    if await ctx.ask(tree.has_visible_task, cgroup) or await ctx.ask(tree.has_online_child, cgroup):
        return False
    await ctx.ask(cgroup.self_css.clear_flags, CssFlags.ONLINE)
    is_populated = cgroup.has_css and await ctx.ask(cgroup.css.read_populated)
    if cgroup.has_css:
        await kill_css_sync(ctx, cgroup.css)
    await kernfs_remove(ctx, cgroup.self_css.files)
    await ctx.ask(tree.mark_dying, cgroup)
    await percpu_ref_kill(ctx, deref(cgroup.self_css.refcnt, "cgroup_destroy_locked(): cgrp->self.refcnt"))
    if cgroup.has_css and not is_populated:
        await kill_css_finish(ctx, cgroup.css)
    return True


kill_finish_twice = variation(
    "kill-finish-twice", "kill_css_finish() does not look whether the reference count has been killed already"
)


@kill_finish_twice.puts_in("kill_css_finish", CGROUP, profiles="7.2..")
async def finish_without_look(ctx: Context, css: Css) -> None:
    """Both rmdir and the last task may find that nothing keeps the css from being killed."""
    await css_get(ctx, css)
    refcnt = deref(css.refcnt, "kill_css_finish(): css->refcnt")
    await percpu_ref_kill_and_confirm(ctx, refcnt, css_killed_ref_fn)


# -- statistics by css (KERNEL-7.2 N4) ---------------------------------------------------------------------------------

rstat_exit_without_flush = variation(
    "rstat-exit-without-flush", "css_rstat_exit() does not flush what was counted after the release"
)


@rstat_exit_without_flush.puts_in("css_rstat_exit", RSTAT, profiles="7.2..")
async def free_rstat(ctx: Context, css: Css) -> None:
    """The css may still be on the list of a CPU."""
    if css.rstat is not None:
        ctx.kfree(css.rstat)


look_before_count = variation(
    "look-before-count", "a CPU's counter is visible to others after its look at lnode, as a store buffer allows"
)


async def count_late(ctx: Context, memcg: Memcg, keys: tuple[Key, ...], nr: int) -> None:
    """A flush in between frees the lnode and misses the count, which then waits for the next update of this CPU."""
    rstat, stats = css_rstat_of(memcg.css), stats_of(memcg)
    with ctx.preempt_section:
        cpu = ctx.smp_processor_id
        is_queued = await ctx.ask(rstat.is_queued, cpu)
        await ctx.this_cpu(stats, THIS_CPU_STAT)
        pages = stats.count_here(ctx, keys, nr)
        if not is_queued and await ctx.ask(rstat.claim, cpu):
            await ctx.ask(ctx.machine.memory_rstat.llist_add, rstat, cpu)
        await memcg_rstat_updated(ctx, stats, cpu, pages)


@look_before_count.puts_in("__mod_memcg_lruvec_state", MEMCONTROL, profiles="7.2..", known_as="mod_memcg_lruvec_state")
async def count_late_for_node(ctx: Context, memcg: Memcg, nid: int, item: str, nr: int) -> None:
    """The counters of the memcg and of its node."""
    await count_late(ctx, memcg, ((None, item), (nid, item)), nr)


@look_before_count.puts_in("__mod_memcg_state", MEMCONTROL, profiles="7.2..", known_as="mod_memcg_state")
async def count_late_for_memcg(ctx: Context, memcg: Memcg, item: str, nr: int) -> None:
    """The counter of the memcg alone."""
    await count_late(ctx, memcg, ((None, item),), nr)


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


# -- LRU lists --------------------------------------------------------------------------------------------------------

slot_after_lists = fix(
    "list-lru-slot-first",
    "",
    "the LRU lists of a removed memcg are found until each of them is empty and marked dead",
)


@slot_after_lists.takes_out("memcg_reparent_list_lrus", LIST_LRU, profiles="7.2..")
async def slot_first(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """As from 6.13 on (KERNEL-today 12.6): a delete may find the parent's list, whose lock does not guard the item."""
    idx = await memcg_cache_id(ctx, memcg)
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
                mlru = await ctx.ask(lru.xa.erase, idx)
            if mlru is not None:
                for nid in range(len(lru.nodes)):
                    await memcg_reparent_list_lru_one(ctx, lru, nid, mlru.locked[nid], parent)
                await kfree_rcu(ctx, *mlru.parts())


bit_of_owner = fix(
    "shrinker-bit-of-dying",
    "",
    "an item that goes to the list of an ancestor sets the bit of that one, not of the memcg that is going",
)


@bit_of_owner.takes_out("list_lru_add_memcg", LIST_LRU, profiles="7.2..", known_as="list_lru_add")
async def add_with_bit_of_call(ctx: Context, lru: ListLru, item: LruItem, nid: int, memcg: Memcg | None) -> bool:
    """As from 6.13 on (KERNEL-today 12.6): no shrinker looks for the item, until another one is added to no items."""
    node = lru.nodes[nid]
    locked, _ = await lock_list(ctx, node, memcg)
    is_new = not await ctx.ask(locked.is_linked, item)
    if is_new:
        if await ctx.ask(locked.add, item):
            await set_shrinker_bit(ctx, memcg, nid, lru.shrinker_id)
        await ctx.ask(node.add_nr_items, 1)
    await spin_unlock(ctx, locked.lock)
    return is_new


child_list_not_dead = variation(
    "child-list-not-dead", "a list whose items were given to the parent is not marked, so it may get new ones"
)


@child_list_not_dead.puts_in("memcg_reparent_list_lru_one", LIST_LRU, profiles="7.2..")
async def reparent_without_mark(
    ctx: Context, lru: ListLru, nid: int, child: LockedListLruOne, dst_memcg: Memcg
) -> None:
    """Whoever has found the list before it was emptied, adds an item to memory that will be freed."""
    async with SpinLockIrqHeld(ctx, child.lock):
        dst_idx = await memcg_cache_id(ctx, dst_memcg)
        found = await list_lru_from_memcg_idx_7_2(ctx, lru.nodes[nid], dst_idx)
        dst = deref(found, "memcg_reparent_list_lru_one(): dst->lock")
        await spin_lock_nested(ctx, dst.lock)
        await ctx.ask(child.splice, child.one, dst.one)
        if await ctx.ask(child.read_count, child.one):
            await ctx.ask(child.move_count, child.one, dst.one)
            await set_shrinker_bit(ctx, dst_memcg, nid, lru.shrinker_id)
        await spin_unlock(ctx, dst.lock)


lists_for_dying = variation("lists-for-dying", "a memcg gets LRU lists though it is being removed")


@lists_for_dying.puts_in("store_if_empty", LIST_LRU, profiles="7.2..", known_as="__memcg_list_lru_alloc")
async def store_for_dying(ctx: Context, lru: ListLru, pos: Memcg, mlru: ListLruMemcgNodes, *, has_node: bool) -> Stored:
    """If its lists were given to the parent already, nobody will take these from it."""
    idx = await memcg_cache_id(ctx, pos)
    async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
        if await ctx.ask(lru.xa.load, idx) is not None:
            return Stored.NO
        await ctx.ask(lru.xa.store, idx, mlru)
        return Stored.YES


# -- a memcg that cannot go online ------------------------------------------------------------------------------------

online_error_puts_objcg = fix(
    "online-error-leaks-objcg",
    "098fad3e1621",
    "a memcg that cannot go online gives up the obj_cgroups that it has made",
)


@online_error_puts_objcg.takes_out("online_objcgs", MEMCONTROL, profiles="7.2..", known_as="mem_cgroup_css_online")
async def online_and_leak(ctx: Context, memcg: Memcg) -> bool:
    """The first form (KERNEL-today 4.6): only the second references are put, and the pointers stay."""
    for node in memcg.nodeinfo:
        objcg = await obj_cgroup_alloc(ctx, memcg, node.nid)
        if objcg is None:
            for made in memcg.nodeinfo:
                await put_orig_objcg(ctx, made)
            return False
        await publish_objcg(ctx, node, objcg)
    return True


FIXES_7_2 = tuple(value for value in list(globals().values()) if isinstance(value, NamedFix))
