"""Fixes of the kernels after the series, and weaker forms of their code, for `--without` and `--patch`.

As in `fixes`, each is the set of functions that it changes. 6.12 has all these fixes; `--without` gives the code that
history found wrong. A variation breaks one rule that the code relies on. docs/kernel/known-flaws-today.md has the list.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.linux.include.memcontrol import (
    alloc_slab_obj_exts,
    free_slab_obj_exts,
    mem_cgroup_from_slab_obj,
    memcg_slab_free_hook,
    obj_cgroup_alloc,
    obj_cgroup_put,
)
from actors.linux.include.rcupdate import kvfree_rcu_barrier, kvfree_rcu_barrier_on_cache
from actors.linux.include.rstat import __mod_memcg_lruvec_state
from actors.linux.include.slab import SlabFlags, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import css_get, css_put
from actors.linux.kernel.locking.locks import LocalLockIrqHeld, MutexHeld
from actors.linux.kernel.workqueue import Work, flush_rcu_work, queue_work
from actors.linux.lib.percpu_refcount import PercpuRef
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.kvfree_rcu import queue_all_batches
from actors.linux.mm.list_lru import ListLru, LruItem, list_lru_add_memcg, list_lru_del_memcg, memcg_reparent_list_lru
from actors.linux.mm.memcontrol import (
    NR_OBJ_STOCK,
    STOCK,
    STOCK_LOCK,
    Memcg,
    Stock,
    memcg_uncharge,
    refill_stock,
    this_cpu_stock,
    try_charge_memcg,
)
from actors.linux.mm.obj_cgroup import (
    OBJ_EXT_SIZE,
    PAGE_SIZE,
    KmemPages,
    ObjCgroup,
    ObjStock,
    TaskObjcg,
    exts_of,
    get_objcg_of_task,
    mod_kernel_pages,
    mod_kernel_pages_7_2,
    obj_cgroup_uncharge_pages,
    release_objcg,
    reparent_objcgs,
    take_obj_stock,
)
from actors.linux.mm.sheaves import put_into_sheaves
from actors.linux.mm.slab_common import (
    CachesLocked,
    release,
    release_if_empty,
    shut_down,
    take_caches_to_destroy,
    warn_of_objects,
)
from actors.linux.mm.slab_h import __kmem_cache_shutdown, mark_freed, sysfs_slab_release, sysfs_slab_unlink
from actors.machine.context import Context, deref
from actors.machine.gfp import Gfp
from actors.versions.patching import NamedFix, unpatched
from actors.versions.profiles import declared_range

COMMON, MEMCONTROL, SLUB, LIST_LRU = "mm/slab_common.c", "mm/memcontrol.c", "mm/slub.c", "mm/list_lru.c"


def fix(slug: str, commit: str, summary: str) -> NamedFix:
    """Declare a fix that 6.12 has."""
    return NamedFix(slug, commit, summary, declared_range("6.12.."))


def variation(slug: str, summary: str) -> NamedFix:
    """Declare a weaker form of the code, which no kernel has."""
    return NamedFix(slug, "", summary, ())


# -- LRU lists --------------------------------------------------------------------------------------------------------

list_lru_add_without_rcu = fix(
    "list-lru-add-without-rcu",
    "5161b48712dc",
    "an LRU list is found under RCU, which alone keeps the memcg of an object from being freed (CVE-2024-43888)",
)


@list_lru_add_without_rcu.takes_out("list_lru_add", LIST_LRU, profiles="6.12..", known_as="list_lru_add_obj")
async def add_without_rcu(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """The memcg may be freed between the two calls."""
    memcg = await mem_cgroup_from_slab_obj(ctx, item.obj)
    return await list_lru_add_memcg(ctx, lru, item, item.obj.slab.nid, memcg)


@list_lru_add_without_rcu.takes_out("list_lru_del", LIST_LRU, profiles="6.12..", known_as="list_lru_del_obj")
async def del_without_rcu(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """The memcg may be freed between the two calls."""
    memcg = await mem_cgroup_from_slab_obj(ctx, item.obj)
    return await list_lru_del_memcg(ctx, lru, item, item.obj.slab.nid, memcg)


kmemcg_id_late = variation("kmemcg-id-late", "the ids of a removed memcg change after its LRU lists have moved")


@kmemcg_id_late.puts_in("memcg_reparent_list_lrus", LIST_LRU, profiles="6.12")
async def lists_first(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """An object that is added between the two goes to a list that is freed."""
    src_idx = await ctx.ask(memcg.read_kmemcg_id)
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            await memcg_reparent_list_lru(ctx, lru, src_idx, parent)
    with ctx.rcu_read_section:
        for child in await ctx.ask(memcg.list_subtree):
            await ctx.ask(child.set_kmemcg_id, await ctx.ask(parent.read_kmemcg_id))


# -- from an obj_cgroup to its memcg ----------------------------------------------------------------------------------

css_get_from_zero_in_charge = fix(
    "css-get-from-zero-in-charge",
    "eefbfa7fd678",
    "a charge takes a css reference only while there is one, and looks again if there is none",
)


async def get_mem_cgroup_once(ctx: Context, objcg: ObjCgroup) -> Memcg:
    """css_get() after one look: the last reference may be gone by then."""
    with ctx.rcu_read_section:
        memcg = await ctx.ask(objcg.read_memcg)
        await css_get(ctx, memcg.css)
    return memcg


@css_get_from_zero_in_charge.takes_out("obj_cgroup_charge_pages", MEMCONTROL, profiles="6.12")
async def charge_after_one_look(ctx: Context, objcg: ObjCgroup, gfp: Gfp, nr_pages: int) -> bool:
    """As in 5.9: the memcg may be removed between the look and the css_get()."""
    memcg = await get_mem_cgroup_once(ctx, objcg)
    charged = await try_charge_memcg(ctx, memcg, gfp, nr_pages)
    if charged:
        objcg.charged += nr_pages
        await mod_kernel_pages(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)
    return charged


@css_get_from_zero_in_charge.takes_out("obj_cgroup_charge_pages", MEMCONTROL, profiles="7.2..")
async def charge_after_one_look_7_2(ctx: Context, objcg: ObjCgroup, gfp: Gfp, nr_pages: int) -> bool:
    """The same, where the root's counters are not charged."""
    memcg = await get_mem_cgroup_once(ctx, objcg)
    charged = memcg.is_root or await try_charge_memcg(ctx, memcg, gfp, nr_pages)
    if charged:
        objcg.charged += nr_pages
        await mod_kernel_pages_7_2(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)
    return charged


css_get_from_zero = fix(
    "css-get-from-zero",
    "9f38f03ae8d5",
    "an uncharge takes a css reference only while there is one, and looks again if there is none (CVE-2021-47011)",
)


@css_get_from_zero.takes_out("obj_cgroup_uncharge_pages", MEMCONTROL, profiles="6.12")
async def uncharge_after_one_look(ctx: Context, objcg: ObjCgroup, nr_pages: int) -> None:
    """As in 5.9: the memcg may be removed between the look and the css_get()."""
    memcg = await get_mem_cgroup_once(ctx, objcg)
    objcg.charged -= nr_pages
    await mod_kernel_pages(ctx, memcg, -nr_pages)
    await refill_stock(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)


@css_get_from_zero.takes_out("obj_cgroup_uncharge_pages", MEMCONTROL, profiles="7.2..")
async def uncharge_after_one_look_7_2(ctx: Context, objcg: ObjCgroup, nr_pages: int) -> None:
    """The same, where nothing is given back to the root's counters."""
    memcg = await get_mem_cgroup_once(ctx, objcg)
    objcg.charged -= nr_pages
    await mod_kernel_pages_7_2(ctx, memcg, -nr_pages)
    if not memcg.is_root:
        await refill_stock(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)


obj_stock_flush_required_once = fix(
    "obj-stock-flush-required",
    "3b8abb323953",
    "drain_all_stock() reads the obj_cgroup of another CPU's stock once (CVE-2023-53401)",
)


@obj_stock_flush_required_once.takes_out("obj_stock_flush_required", MEMCONTROL, profiles="6.12")
async def flush_required_read_twice(ctx: Context, stock: Stock, root_memcg: Memcg) -> bool:
    """The stock may be empty at the second look."""
    if await ctx.ask(stock.read_cached_objcg) is None:
        return False
    objcg = deref(await ctx.ask(stock.read_cached_objcg), "obj_stock_flush_required(): stock->cached_objcg")
    memcg = await ctx.ask(objcg.read_memcg)
    return memcg.is_descendant_of(root_memcg)


@obj_stock_flush_required_once.takes_out("obj_stock_flush_required", MEMCONTROL, profiles="7.2..")
async def slots_read_twice(ctx: Context, stock: ObjStock, root_memcg: Memcg) -> bool:
    """The slot may be empty at the second look."""
    with ctx.rcu_read_section:
        for at in range(NR_OBJ_STOCK):
            if await ctx.ask(stock.read_cached, at) is None:
                continue
            objcg = deref(await ctx.ask(stock.read_cached, at), "obj_stock_flush_required(): stock->cached[i]")
            if (await ctx.ask(objcg.read_memcg)).is_descendant_of(root_memcg):
                return True
    return False


# -- the obj_cgroup of a task, and of a memcg -------------------------------------------------------------------------

update_without_loop = variation(
    "update-without-loop", "a task stores the obj_cgroup that it has looked up, even if it was moved meanwhile"
)


@update_without_loop.puts_in("current_objcg_update", MEMCONTROL, profiles="6.12..")
async def update_once(ctx: Context, current: TaskObjcg) -> ObjCgroup | None:
    """A plain store of the pointer loses the bit that an attach has set."""
    await obj_cgroup_put(ctx, await ctx.ask(current.xchg_null))
    if not ctx.has_mm:
        return None
    with ctx.rcu_read_section:
        objcg = await get_objcg_of_task(ctx)
    await ctx.ask(current.store, objcg)
    return objcg


no_orig_objcg = variation("no-orig-objcg", "a memcg holds no second reference to its obj_cgroup (before 6.7)")


@no_orig_objcg.puts_in("memcg_online_kmem", MEMCONTROL, profiles="6.12")
async def online_with_one_reference(ctx: Context, memcg: Memcg) -> bool:
    """The obj_cgroup may be released while a task charges the memcg that it belonged to."""
    objcg = await obj_cgroup_alloc(ctx, memcg, 0)
    if objcg is None:
        return False
    await ctx.ask(memcg.set_objcg, objcg)
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await ctx.ask(ctx.machine.kmem_enabled.add, 1)
    await ctx.ask(memcg.set_kmemcg_id, memcg.id)
    return True


put_under_stock_lock = variation(
    "put-under-stock-lock", "the obj_cgroup that had a stock is put before the lock of the stock is dropped"
)


@put_under_stock_lock.puts_in("refill_obj_stock", MEMCONTROL, profiles="6.12")
async def put_inside(ctx: Context, objcg: ObjCgroup, nr_bytes: int, *, allow_uncharge: bool) -> None:
    """The release of an obj_cgroup uncharges what is left of it, which takes the lock."""
    nr_pages = 0
    with LocalLockIrqHeld(ctx, STOCK_LOCK):
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        if stock.cached_objcg is not objcg:
            old = await take_obj_stock(ctx, stock, objcg)
            allow_uncharge = True
            await obj_cgroup_put(ctx, old)
        stock.nr_bytes += nr_bytes
        if allow_uncharge and stock.nr_bytes > PAGE_SIZE:
            nr_pages, stock.nr_bytes = divmod(stock.nr_bytes, PAGE_SIZE)
    if nr_pages:
        await obj_cgroup_uncharge_pages(ctx, objcg, nr_pages)


# -- objects and pages ------------------------------------------------------------------------------------------------

bulk_free_uncharges_one = fix(
    "bulk-free-uncharges-one", "d1b2cf6cb84a", "kmem_cache_free_bulk() uncharges each object, not only the first"
)


@bulk_free_uncharges_one.takes_out("memcg_slab_free_hook", SLUB, profiles="6.12")
async def uncharge_the_first(ctx: Context, s: KmemCache, objects: Sequence[SlabObject]) -> None:
    """The other objects stay charged, and keep their obj_cgroup."""
    await unpatched(ctx, memcg_slab_free_hook, s, objects[:1])


@bulk_free_uncharges_one.takes_out("free_to_pcs_bulk", SLUB, profiles="7.2..")
async def uncharge_the_first_in_sheaves(ctx: Context, s: KmemCache, p: list[SlabObject]) -> None:
    """The same for a cache with sheaves, whose bulk free calls the hook for each object."""
    for obj in p:
        mark_freed(ctx, obj)
    await memcg_slab_free_hook(ctx, s, p[:1])
    await put_into_sheaves(ctx, s, p)


objcg_lock_apart = fix(
    "objcg-lists-under-css-set-lock", "0764db9b49c9", "the lists of obj_cgroups have a lock of their own (5.17)"
)


@objcg_lock_apart.takes_out("obj_cgroup_release", MEMCONTROL, profiles="6.12")
async def release_under_css_set_lock(ctx: Context, ref: PercpuRef) -> None:
    """As up to 5.16: whoever drops the last reference takes css_set_lock, whatever locks he has already."""
    await release_objcg(ctx, ref, ctx.machine.css_set_lock)


@objcg_lock_apart.takes_out("memcg_reparent_objcgs", MEMCONTROL, profiles="6.12")
async def reparent_under_css_set_lock(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """The same lists, from the other side."""
    await reparent_objcgs(ctx, memcg, parent, ctx.machine.css_set_lock)


vectors_apart = fix(
    "objcg-vector-cycle",
    "494c1dfe855e",
    "accounted kmalloc() has caches of its own, without the vectors of slabs (5.14)",
)


@vectors_apart.takes_out("alloc_slab_obj_exts", SLUB, profiles="6.12")
async def alloc_vector_among_buffers(ctx: Context, slab: Slab, *, new_slab: bool) -> bool:
    """As up to 5.13: the vector is an object of the cache that accounted buffers of its size come from.

    Two slabs that have each other's vectors never get empty. If the machine has no such cache, a vector is only memory.
    """
    cache = cache_of_buffers(ctx, slab.objects * OBJ_EXT_SIZE)
    if cache is None:
        return await unpatched(ctx, alloc_slab_obj_exts, slab, new_slab=new_slab)
    memory = await kmem_cache_alloc(ctx, cache)
    if memory is None:
        return False
    await unpatched(ctx, alloc_slab_obj_exts, slab, new_slab=new_slab)
    exts = exts_of(slab)
    if exts.memory is None:
        exts.memory = memory
    else:  # another CPU was first
        await kmem_cache_free(ctx, cache, memory)
    return True


def cache_of_buffers(ctx: Context, size: int) -> KmemCache | None:
    """The cache of kmalloc() for buffers of *size* bytes."""
    return next((cache for cache in ctx.machine.all_caches if cache.name == f"kmalloc-{size}"), None)


@vectors_apart.takes_out("free_slab_obj_exts", SLUB, profiles="6.12")
async def free_vector_among_buffers(ctx: Context, slab: Slab) -> None:
    """kfree() of the vector, which may empty its slab in turn."""
    memory = None if slab.obj_exts is None else slab.obj_exts.memory
    await unpatched(ctx, free_slab_obj_exts, slab)
    if memory is not None:
        await kmem_cache_free(ctx, memory.slab.slab_cache, memory)


root_vmstat_after_reparent = fix(
    "root-vmstat-after-reparent",
    "8faeb1ffd795",
    "an object that was given to the root is counted in the root's statistics when it is freed",
)


@root_vmstat_after_reparent.takes_out("mod_objcg_mlstate", MEMCONTROL, profiles="6.12..")
async def count_without_root(ctx: Context, objcg: ObjCgroup, nid: int, item: str, nr: int) -> None:
    """Nothing is counted for the root, where the statistics of the removed memcg have ended up."""
    with ctx.rcu_read_section:
        memcg = await ctx.ask(objcg.read_memcg)
        if not memcg.is_root:
            await __mod_memcg_lruvec_state(ctx, memcg, nid, item, nr)


kmem_pages_by_objcg = fix(
    "kmem-pages-by-css", "b4e0b68fbd9d", "a kernel page holds an obj_cgroup, not its memcg (5.14)"
)


@kmem_pages_by_objcg.takes_out("__memcg_kmem_charge_page", MEMCONTROL, profiles="6.12")
async def charge_page_to_memcg(ctx: Context, page: KmemPages, gfp: Gfp) -> bool:
    """The stack of a task that was moved keeps the memcg where the task was made."""
    memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx)
    if memcg is None:
        return True
    if not await try_charge_memcg(ctx, memcg, gfp, page.nr_pages):
        return False
    await css_get(ctx, memcg.css)
    page.memcg = memcg
    memcg.book_folio(1, page.nr_pages)
    return True


@kmem_pages_by_objcg.takes_out("__memcg_kmem_uncharge_page", MEMCONTROL, profiles="6.12")
async def uncharge_page_of_memcg(ctx: Context, page: KmemPages) -> None:
    """The css reference goes with the page."""
    memcg = page.memcg
    if memcg is None:
        return
    page.memcg = None
    memcg.book_folio(-1, page.nr_pages)
    await memcg_uncharge(ctx, memcg, page.nr_pages)
    await css_put(ctx, memcg.css)


# -- the end of caches ------------------------------------------------------------------------------------------------

no_kvfree_barrier = fix(
    "no-kvfree-barrier", "6c6c47b063b5", "kmem_cache_destroy() waits for objects that were given to kfree_rcu()"
)


@no_kvfree_barrier.takes_out("kmem_cache_destroy", COMMON, profiles="6.12..")
async def destroy_at_once(ctx: Context, s: KmemCache | None) -> None:
    """As up to 6.11: no kvfree_rcu_barrier()."""
    if s is not None:
        await release_if_empty(ctx, s)


kobject_under_slab_mutex = fix(
    "kobject-under-slab-mutex", "0495e337b703", "the directory of a cache in sysfs is removed without slab_mutex"
)


@kobject_under_slab_mutex.takes_out("kmem_cache_destroy", COMMON, profiles="6.12")
async def destroy_under_mutex(ctx: Context, s: KmemCache | None) -> None:
    """As up to 6.0-rc4: wait for the readers of the cache's files with cpu_hotplug_lock and slab_mutex held."""
    if s is not None:
        await kvfree_rcu_barrier(ctx)
        await unlink_under_mutex(ctx, s)


@kobject_under_slab_mutex.takes_out("kmem_cache_destroy", COMMON, profiles="7.2..")
async def destroy_under_mutex_7_2(ctx: Context, s: KmemCache | None) -> None:
    """The same after 7.2's barrier, which is for this cache."""
    if s is not None:
        await kvfree_rcu_barrier_on_cache(ctx, s)
        await unlink_under_mutex(ctx, s)


async def unlink_under_mutex(ctx: Context, s: KmemCache) -> None:
    """kmem_cache_destroy() after the barrier."""
    async with CachesLocked(ctx):
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        failed = await shut_down(ctx, s)
        await sysfs_slab_unlink(ctx, s)
    if not failed:
        await release(ctx, s)


double_release = fix(
    "double-release-typesafe",
    "d71608a877",
    "kmem_cache_destroy() reads the flags of a cache before its work may release it (6.1-rc1)",
)

destruction_by_work = variation(
    "destruction-by-work", "a work releases type-safe caches, as in 6.1; the flags are read under slab_mutex"
)


@double_release.takes_out("kmem_cache_destroy", COMMON, profiles="6.12")
async def destroy_and_read_flags(ctx: Context, s: KmemCache | None) -> None:
    """As in 6.0-rc5: who has dropped slab_mutex may look at a cache that the work has released."""
    if s is None:
        return
    async with CachesLocked(ctx):
        is_empty = await shut_down_for_work(ctx, s)
    if is_empty and SlabFlags.TYPESAFE_BY_RCU not in await ctx.ask(s.read_flags):
        await kmem_cache_release(ctx, s)


@destruction_by_work.puts_in("kmem_cache_destroy", COMMON, profiles="6.12")
async def destroy_by_work(ctx: Context, s: KmemCache | None) -> None:
    """KERNEL-today 17.3: 6.1's form."""
    if s is None:
        return
    async with CachesLocked(ctx):
        flags = await ctx.ask(s.read_flags)
        is_empty = await shut_down_for_work(ctx, s)
    if is_empty and SlabFlags.TYPESAFE_BY_RCU not in flags:
        await kmem_cache_release(ctx, s)


async def shut_down_for_work(ctx: Context, s: KmemCache) -> bool:
    """Drop an alias; True if it was the last one, and the cache is empty and off its list.

    A type-safe cache is left to the work. One with objects stays on the list.
    """
    if await ctx.ask(s.add_refcount, -1) != 0:
        return False
    if warn_of_objects(ctx, s, failed=await __kmem_cache_shutdown(ctx, s)):
        return False
    await ctx.ask(ctx.machine.slab_caches.delete, s)
    if SlabFlags.TYPESAFE_BY_RCU in await ctx.ask(s.read_flags):
        await ctx.ask(ctx.machine.slab_caches_to_rcu_destroy.add, s)
        await queue_work(ctx, ctx.machine.system_wq, ctx.machine.slab_caches_to_rcu_destroy_work)
    return True


@double_release.takes_out("slab_caches_to_rcu_destroy_workfn", COMMON, profiles="6.12")
@destruction_by_work.puts_in("slab_caches_to_rcu_destroy_workfn", COMMON, profiles="6.12")
async def release_type_safe_caches(ctx: Context, work: Work) -> None:
    """As in 6.1: their slabs are gone, and their directories in sysfs go now."""
    for s in await take_caches_to_destroy(ctx):
        await kmem_cache_release(ctx, s)


async def kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """As in 6.1: remove the directory in sysfs, and drop the kobject's reference."""
    await sysfs_slab_unlink(ctx, s)
    await sysfs_slab_release(ctx, s)


barrier_without_monitor = variation(
    "barrier-without-monitor", "kvfree_rcu_barrier() does not wait for a monitor that has taken blocks off already"
)


@barrier_without_monitor.puts_in("kvfree_rcu_barrier", "kernel/rcu/tree.c", profiles="6.12")
async def flush_batches_only(ctx: Context) -> None:
    """No cancel_delayed_work_sync()."""
    await flush_batches(ctx)


@barrier_without_monitor.puts_in("__kvfree_rcu_barrier", COMMON, profiles="7.2")
async def flush_batches_only_7_2(ctx: Context) -> None:
    """The same in the part of 7.2's barriers that is about the blocks."""
    await flush_batches(ctx)


async def flush_batches(ctx: Context) -> None:
    """Wait for the works of the batches."""
    await queue_all_batches(ctx)
    for krcp in ctx.machine.krc.per_cpu:
        for krwp in krcp.krw_arr:
            await flush_rcu_work(ctx, krwp.rcu_work)


FIXES_TODAY = tuple(value for value in list(globals().values()) if isinstance(value, NamedFix))
