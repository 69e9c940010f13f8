"""The life of kmem_caches: creation, deactivation, shutdown, destruction, merging. mm/slab_common.c.

Version by version; KERNEL.md 5 to 8, KERNEL-v1-v3.md. A worker creates a child cache and publishes it in its root's
array. The cache is deactivated when its memcg goes offline. Its end depends on the version:

    original  deactivated -> (grace period) -> shrunk -> waits, with all its pages, for the memcg to be freed
    v1        deactivated -> (grace period) -> shrunk and moved to the parent -> (count 0, grace period) -> gone
    v2 ..     deactivated and moved to the parent memcg -> (grace period) -> shrunk, its refcnt killed
              -> (grace period; then the last page goes) -> shut down and freed

All of this runs under slab_mutex; only allocation and free do without it. The destruction of a root cache also shuts
down its children. Merging comes last: a new root cache may share an existing one.

From 6.12 on there are no child caches; KERNEL-today 17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from actors.linux.include.rcupdate import kvfree_rcu_barrier, kvfree_rcu_barrier_on_cache
from actors.linux.include.slab import SlabFlags, kmalloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import css_get, css_get_many, css_put
from actors.linux.kernel.locking.lockdep import lockdep_assert_held
from actors.linux.kernel.locking.locks import MutexHeld, SpinLockHeld, SpinLockIrqHeld, mutex_lock, mutex_unlock
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, rcu_barrier
from actors.linux.kernel.workqueue import Work, flush_workqueue, queue_work
from actors.linux.lib.percpu_refcount import PercpuRef, percpu_ref_exit, percpu_ref_kill
from actors.linux.mm.kmem_cache import AtomicRef, KmemCache, MemcgCacheArray, SlabObject, cache_of
from actors.linux.mm.memcontrol import KmemState, Memcg, memcg_get_cache_ids, memcg_put_cache_ids
from actors.linux.mm.new_cache import new_child_cache, new_root_cache
from actors.linux.mm.slab_h import (
    SlabMutexHeld,
    __kmem_cache_alias,
    __kmem_cache_create,
    __kmem_cache_release,
    __kmem_cache_shrink,
    __kmem_cache_shutdown,
    __kmemcg_cache_deactivate,
    __kmemcg_cache_deactivate_after_rcu,
    get_online_cpus,
    get_online_mems,
    kmemcg_cache_put_many,
    put_online_cpus,
    put_online_mems,
    slab_post_alloc_hook,
    sysfs_slab_release,
    sysfs_slab_unlink,
)
from actors.machine.context import BUG_ON, WARN_ON, Context, bug, deref
from actors.machine.errno import ENOMEM
from actors.machine.gfp import GFP_KERNEL
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.slabinfo import SlabinfoRow

WORD = 8

SLAB_MERGE_SAME = SlabFlags.RECLAIM_ACCOUNT | SlabFlags.CACHE_DMA | SlabFlags.ACCOUNT
SLAB_NEVER_MERGE = SlabFlags.TYPESAFE_BY_RCU

# -- creation (KERNEL.md 5.3, 8.3) ------------------------------------------------------------------------------------
# Creation fails if an allocation fails. With SLUB it also fails if the name of the cache's directory in sysfs is taken.
# A failure undoes all that was made before it. The failed creation of a root cache returns None and prints a warning.
# The failed creation of a child cache is silent: allocations stay with the root cache.


# -- creation of root caches (8.1, 8.3) -------------------------------------------------------------------------------


@kernel_fn("kmem_cache_create", "mm/slab_common.c")
async def kmem_cache_create(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags = SlabFlags.NONE, *, has_ctor: bool = False
) -> KmemCache | None:
    """Create a root cache, or share an existing one that fits; *row* gives name, object size and geometry."""
    return await kmem_cache_create_usercopy(ctx, row, flags, has_ctor=has_ctor, has_usercopy=False)


@kernel_fn("kmem_cache_create_usercopy", "mm/slab_common.c", profiles="6.12..", known_as="__kmem_cache_create_args")
async def kmem_cache_create_usercopy(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool, has_usercopy: bool
) -> KmemCache | None:
    """KERNEL-today 17.1: create a cache or share one, under slab_mutex alone. None, and a warning, on failure."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        s = await share_or_create(ctx, row, flags, has_ctor=has_ctor, has_usercopy=has_usercopy)
    return created(ctx, s, row, flags)


@kernel_fn("kmem_cache_create_usercopy", "mm/slab_common.c", profiles="..5.4-fixed")
async def kmem_cache_create_usercopy_until_5_4(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool, has_usercopy: bool
) -> KmemCache | None:
    """Create a root cache, part of whose objects may be copied to user space. None, and a warning, on failure."""
    get_online_cpus(ctx)
    await get_online_mems(ctx)
    await memcg_get_cache_ids(ctx)
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        s = await share_or_create(ctx, row, flags, has_ctor=has_ctor, has_usercopy=has_usercopy)
    await memcg_put_cache_ids(ctx)
    await put_online_mems(ctx)
    put_online_cpus(ctx)
    return created(ctx, s, row, flags)


async def share_or_create(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool, has_usercopy: bool
) -> KmemCache | int:
    """An existing cache that fits, else a new one, else -errno. The caller holds slab_mutex."""
    s = None if has_usercopy else await __kmem_cache_alias(ctx, row, flags, has_ctor=has_ctor)
    if s is not None:
        return s
    return await create_root_cache(ctx, row, flags, has_ctor=has_ctor, has_usercopy=has_usercopy)


def created(ctx: Context, s: KmemCache | int, row: SlabinfoRow, flags: SlabFlags) -> KmemCache | None:
    """The result of a creation: the cache, or None with a warning; a cache that must be had (PANIC) is a BUG."""
    if isinstance(s, KmemCache):
        return s
    if SlabFlags.PANIC in flags:
        bug(ctx, f"kmem_cache_create: Failed to create slab '{row.name}'. Error {s}")
    WARN_ON(ctx, True, f"kmem_cache_create({row.name}) failed with error {s}")
    return None


async def create_root_cache(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool, has_usercopy: bool
) -> KmemCache | int:
    """Copy the name (kstrdup_const()), then create the cache."""

    def zalloc() -> KmemCache:
        s = new_root_cache(ctx.machine, row, flags, has_ctor=has_ctor)
        s.has_usercopy = has_usercopy
        return s

    if not kmalloc(ctx, GFP_KERNEL, "cache_name"):
        return -ENOMEM
    return await create_cache(ctx, zalloc, None)


# -- creation of child caches (5.3) -----------------------------------------------------------------------------------


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c", profiles="v7..5.4-fixed")
async def memcg_create_kmem_cache(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """Create and publish the child cache of *memcg*, unless the memcg is offline or the cache exists already."""
    async with SlabMutexHeld(ctx):
        if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:
            await create_child(ctx, memcg, root_cache)


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c", profiles="v6")
async def memcg_create_kmem_cache_v6(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """[v6]: no child for a root that is being destroyed; `dying` is read under memcg_kmem_wq_lock."""
    async with SlabMutexHeld(ctx):
        if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:
            async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
                dying = await ctx.ask(root_cache.read_dying)
            if not dying:
                await create_child(ctx, memcg, root_cache)


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c", profiles="..v5")
async def memcg_create_kmem_cache_until_v5(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """[O] to [v5]: no child for a root that is being destroyed; slab_mutex protects `dying`."""
    async with SlabMutexHeld(ctx):
        if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE and not await ctx.ask(root_cache.read_dying):
            await create_child(ctx, memcg, root_cache)


async def create_child(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """Create the child cache and publish it, unless it exists already. Failure is silent (KERNEL.md 5.3b to e)."""
    idx = await ctx.ask(memcg.read_kmemcg_id)
    array = await ctx.ask(root_cache.read_memcg_caches)
    if await ctx.ask(array.read_entry, idx) is not None or not kmalloc(ctx, GFP_KERNEL, "cache_name"):
        return
    cgroup = memcg.css.cgroup
    name = f"{root_cache.name}({cgroup.serial_nr}:{cgroup.name})"
    s = await create_cache(ctx, lambda: new_child_cache(ctx.machine, root_cache, name), memcg)
    if isinstance(s, KmemCache):
        await ctx.ask(array.set_entry, idx, s)


# -- creation, root and child caches ----------------------------------------------------------------------------------


@kernel_fn("create_cache", "mm/slab_common.c", profiles="6.12..")
async def create_cache(ctx: Context, zalloc: Callable[[], KmemCache], _memcg: Memcg | None) -> KmemCache | int:
    """KERNEL-today 17.1: create a cache by *zalloc* (kmem_cache_zalloc()) and link it; or -errno."""
    if not kmalloc(ctx, GFP_KERNEL, "kmem_cache"):
        return -ENOMEM
    s = zalloc()
    err = await __kmem_cache_create(ctx, s)
    if err:
        free_cache_struct(ctx, s)
        return err
    await ctx.ask(ctx.machine.slab_caches.add, s)
    return s


@kernel_fn("create_cache", "mm/slab_common.c", profiles="..5.4-fixed")
async def create_cache_until_5_4(ctx: Context, zalloc: Callable[[], KmemCache], memcg: Memcg | None) -> KmemCache | int:
    """Create a cache by *zalloc* (kmem_cache_zalloc()) and link it: a child of *memcg*, or a root; or -errno."""
    if not kmalloc(ctx, GFP_KERNEL, "kmem_cache"):
        return -ENOMEM
    s = zalloc()
    err = init_memcg_params(ctx, s)
    if err:  # there is nothing yet for destroy_memcg_params() to undo
        free_cache_struct(ctx, s)
        return err
    err = await __kmem_cache_create(ctx, s)
    if err:
        await destroy_memcg_params(ctx, s)
        free_cache_struct(ctx, s)
        return err
    await ctx.ask(ctx.machine.slab_caches.add, s)
    await memcg_link_cache(ctx, s, memcg)
    return s


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="v2..5.4-fixed,v4#5..")
def init_memcg_params(ctx: Context, s: KmemCache) -> int:
    """Start a child's reference count at 1, the initial reference, which its deactivation drops; 0 or -ENOMEM."""
    if s.is_root_cache:
        return init_root_params(ctx)
    if not kmalloc(ctx, GFP_KERNEL, "percpu"):
        return -ENOMEM
    s.refcnt = PercpuRef.init(s.actor, s, kmemcg_cache_shutdown, len(ctx.machine.cpus))
    return 0


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="v1")
def init_memcg_params_v1(ctx: Context, s: KmemCache) -> int:
    """[v1]: the reference count is a plain atomic counter."""
    if s.is_root_cache:
        return init_root_params(ctx)
    s.refcnt = AtomicRef(s.actor, s, kmemcg_queue_cache_shutdown_v1)
    return 0


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="original..v4#4")
def init_memcg_params_original(ctx: Context, s: KmemCache) -> int:
    """[O]: caches have no reference count."""
    return init_root_params(ctx) if s.is_root_cache else 0


def init_root_params(ctx: Context) -> int:
    """kvzalloc() of a root's array, if any memcg has had a kmemcg_id so far."""
    if ctx.machine.memcg_nr_cache_ids and not kmalloc(ctx, GFP_KERNEL, "memcg_caches"):
        return -ENOMEM
    return 0


@kernel_fn("memcg_link_cache", "mm/slab_common.c", profiles="v1..5.4-fixed,v4#5..")
async def memcg_link_cache(ctx: Context, s: KmemCache, memcg: Memcg | None) -> None:
    """Put a cache on its lists. A child pins its memcg."""
    if memcg is None:
        await ctx.ask(ctx.machine.slab_root_caches.add, s)
        return
    await css_get(ctx, memcg.css)
    await ctx.ask(s.set_memcg, memcg)
    await ctx.ask(s.root.add_child, s)
    await ctx.ask(memcg.add_kmem_cache, s)


@kernel_fn("memcg_link_cache", "mm/slab_common.c", profiles="original..v4#4")
async def memcg_link_cache_original(ctx: Context, s: KmemCache, memcg: Memcg | None) -> None:
    """[O]: a child does not pin its memcg; the memcg owns its caches."""
    if memcg is None:
        await ctx.ask(ctx.machine.slab_root_caches.add, s)
        return
    await ctx.ask(s.set_memcg, memcg)
    await ctx.ask(s.root.add_child, s)
    await ctx.ask(memcg.add_kmem_cache, s)


# -- the memcg_caches arrays of root caches ---------------------------------------------------------------------------


@kernel_fn("memcg_update_all_caches", "mm/slab_common.c", profiles="..5.4-fixed")
async def memcg_update_all_caches(ctx: Context, num_memcgs: int) -> None:
    """Replace the array of every root cache by a longer one. The old array is freed after a grace period."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        for root in await ctx.ask(machine.slab_root_caches.list):
            old = await ctx.ask(root.read_memcg_caches)
            await ctx.ask(root.set_memcg_caches, old.grown(num_memcgs, machine.memcg_nr_cache_ids))
            await call_rcu(ctx, RcuHead(old), free_memcg_params)


@kernel_fn("free_memcg_params", "mm/slab_common.c", profiles="..5.4-fixed")
async def free_memcg_params(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free an array that was replaced; it has no readers any more."""
    assert isinstance(head.container, MemcgCacheArray)
    ctx.kfree(head.container)


# -- shrink and bulk free ---------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_shrink", "mm/slab_common.c", profiles="6.12..")
async def kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool:
    """Free the empty slabs of a cache; True if any slab remains. The flush of the CPUs takes cpu_hotplug_lock."""
    return await __kmem_cache_shrink(ctx, s)


@kernel_fn("kmem_cache_shrink", "mm/slab_common.c", profiles="..5.4-fixed")
async def kmem_cache_shrink_until_5_4(ctx: Context, s: KmemCache) -> bool:
    """Free the empty slabs of a cache; True if any slab remains."""
    get_online_cpus(ctx)
    await get_online_mems(ctx)
    remain = await __kmem_cache_shrink(ctx, s)
    await put_online_mems(ctx)
    put_online_cpus(ctx)
    return remain


@kernel_fn("__kmem_cache_free_bulk", "mm/slab_common.c", profiles="..6.12")
async def __kmem_cache_free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free *objects* one after the other."""
    for obj in objects:
        await kmem_cache_free(ctx, s, obj)


async def all_or_none(ctx: Context, s: KmemCache, objects: list[SlabObject], size: int) -> list[SlabObject]:
    """End of a bulk allocation, in both allocators: the post hook; then free *objects* unless there are *size*."""
    await slab_post_alloc_hook(ctx, s)
    if len(objects) == size:
        return objects
    await __kmem_cache_free_bulk(ctx, s, objects)
    return []


# -- deactivation and reparenting (6.1, 7.1) --------------------------------------------------------------------------


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c", profiles="v4..5.4-fixed,v4#6..")
async def memcg_deactivate_kmem_caches(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None:
    """Deactivate the memcg's caches, then move all its caches, inherited ones included, to *parent*."""
    async with SlabMutexHeld(ctx):
        await deactivate_entries(ctx, memcg)
        await reparent_caches(ctx, memcg, deref(parent, "memcg_deactivate_kmem_caches(): parent"))


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c", profiles="v2..v3")
async def memcg_deactivate_kmem_caches_v2(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None:
    """[v2], [v3]: a memcg that is its own parent keeps its caches."""
    async with SlabMutexHeld(ctx):
        await deactivate_entries(ctx, memcg)
        if memcg is not parent:
            await reparent_caches(ctx, memcg, deref(parent, "memcg_deactivate_kmem_caches(): parent"))


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c", profiles="original..v4#5,v1")
async def memcg_deactivate_kmem_caches_original(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None:
    """[O] to [v4#5], [v1]: deactivate the memcg's caches; they stay with the memcg."""
    async with SlabMutexHeld(ctx):
        await deactivate_entries(ctx, memcg)


async def deactivate_entries(ctx: Context, memcg: Memcg) -> None:
    """For each root cache: deactivate the memcg's child cache, if there is one, and take it out of the array."""
    lockdep_assert_held(ctx, "slab_mutex")
    idx = await ctx.ask(memcg.read_kmemcg_id)
    for root in await ctx.ask(ctx.machine.slab_root_caches.list):
        array = await ctx.ask(root.read_memcg_caches)
        s = await ctx.ask(array.read_entry, idx)
        if s is not None:
            await kmemcg_cache_deactivate(ctx, s)
            await ctx.ask(array.set_entry, idx, None)


async def reparent_caches(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """Point each cache to *parent* and drop its reference to *memcg*; then splice the list to *parent*.

    KERNEL.md 7.1.3 and 4.
    """
    caches = await ctx.ask(memcg.list_kmem_caches)
    for s in caches:
        await ctx.ask(s.set_memcg, parent)
        await css_put(ctx, memcg.css)
    if caches:
        await ctx.ask(parent.splice_kmem_caches, await ctx.ask(memcg.take_kmem_caches))
        await css_get_many(ctx, parent.css, len(caches))


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="5.3..5.4-fixed")
async def kmemcg_cache_deactivate(ctx: Context, s: KmemCache) -> None:
    """Stop caching empty slabs; the rest follows after a grace period, when every CPU sees these stores."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: is_root_cache(s)"):
        return
    await __kmemcg_cache_deactivate(ctx, s)
    await ctx.ask(s.set_flag, SlabFlags.DEACTIVATED)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
            await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="v6..v7")
async def kmemcg_cache_deactivate_v6(ctx: Context, s: KmemCache) -> None:
    """[v6], [v7]: `dying` is read under memcg_kmem_wq_lock; warn if deferred work is pending (work_fn is set)."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: is_root_cache(s)"):
        return
    await __kmemcg_cache_deactivate(ctx, s)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await defer_deactivation(ctx, s)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="v5")
async def kmemcg_cache_deactivate_v5(ctx: Context, s: KmemCache) -> None:
    """[v5]: `dying` is read without memcg_kmem_wq_lock; only slab_mutex protects it here."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: is_root_cache(s)"):
        return
    await __kmemcg_cache_deactivate(ctx, s)
    if not await ctx.ask(s.root.read_dying):
        await defer_deactivation(ctx, s)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="v1..v4,v4#5..")
async def kmemcg_cache_deactivate_v1(ctx: Context, s: KmemCache) -> None:
    """[v1] to [v4]: `dying` is read under slab_mutex alone; there is no check for a root cache."""
    await __kmemcg_cache_deactivate(ctx, s)
    root = deref(s.root_cache, "kmemcg_cache_deactivate(): s->memcg_params.root_cache")
    if not await ctx.ask(root.read_dying):
        await defer_deactivation(ctx, s)


async def defer_deactivation(ctx: Context, s: KmemCache) -> None:
    """KERNEL.md 7.1.1d: set work_fn and register kmemcg_rcufn() with RCU; warn if work_fn is set already."""
    WARN_ON(ctx, await ctx.ask(s.read_work_fn), "kmemcg_cache_deactivate: s->memcg_params.work_fn")
    await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
    await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="v4#2..v4#4")
async def kmemcg_cache_deactivate_v4_2(ctx: Context, s: KmemCache) -> None:
    """[v4#2] to [v4#4]: common to both allocators; the deferred part pins the memcg, which owns the cache."""
    await __kmemcg_cache_deactivate(ctx, s)
    root = deref(s.root_cache, "kmemcg_cache_deactivate(): s->memcg_params.root_cache")
    if not await ctx.ask(root.read_dying):
        memcg = deref(await ctx.ask(s.read_memcg), "kmemcg_cache_deactivate(): s->memcg_params.memcg")
        await css_get(ctx, memcg.css)
        await defer_deactivation(ctx, s)


@kernel_fn(
    "kmemcg_cache_deactivate",
    "mm/slab_common.c",
    profiles="original..v4#1",
    known_as="memcg_deactivate_kmem_caches",
)
async def kmemcg_cache_deactivate_original(ctx: Context, s: KmemCache) -> None:
    """[O]: only the allocator's part of the deactivation."""
    await __kmemcg_cache_deactivate(ctx, s)


@kernel_fn("slab_deactivate_memcg_cache_rcu_sched", "mm/slab_common.c", profiles="original..v4#1")
async def slab_deactivate_memcg_cache_rcu_sched(ctx: Context, s: KmemCache) -> None:
    """KERNEL.md 6.1: SLUB's deactivation continues after a grace period; until then it pins the memcg."""
    if WARN_ON(ctx, s.is_root_cache, "slab_deactivate_memcg_cache_rcu_sched: is_root_cache(s)"):
        return
    text = "slab_deactivate_memcg_cache_rcu_sched: s->memcg_params.deact_fn"
    if WARN_ON(ctx, await ctx.ask(s.read_work_fn), text) or await ctx.ask(s.root.read_dying):
        return
    memcg = deref(await ctx.ask(s.read_memcg), "slab_deactivate_memcg_cache_rcu_sched(): s->memcg_params.memcg")
    await css_get(ctx, memcg.css)
    await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
    await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


# -- the deferred part (6.2, 7.2) -------------------------------------------------------------------------------------


@kernel_fn("kmemcg_rcufn", "mm/slab_common.c", profiles="v6..5.4-fixed")
async def kmemcg_rcufn(ctx: Context, head: RcuHead) -> None:
    """KERNEL.md 7.2.5: after the grace period, continue in a worker. The work uses the same storage as the rcu_head."""
    await queue_cache_work(ctx, cache_of(head.container))


@kernel_fn("kmemcg_rcufn", "mm/slab_common.c", profiles="v1..v5,v4#2..", known_as="kmemcg_schedule_work_after_rcu")
async def kmemcg_schedule_work_after_rcu(ctx: Context, head: RcuHead) -> None:
    """[v1] to [v5]: serves both the deactivation and the shutdown."""
    await queue_cache_work(ctx, cache_of(head.container))


@kernel_fn("kmemcg_rcufn", "mm/slab_common.c", profiles="original..v4#1", known_as="kmemcg_deactivate_rcufn")
async def kmemcg_deactivate_rcufn(ctx: Context, head: RcuHead) -> None:
    """KERNEL.md 6.2: after the grace period, shrink the cache in a worker."""
    await queue_cache_work(ctx, cache_of(head.container))


async def queue_cache_work(ctx: Context, s: KmemCache) -> None:
    """INIT_WORK() and queue_work(): run the cache's work_fn in a worker of this CPU."""
    s.work.init_work(kmemcg_workfn)
    await queue_work(ctx, ctx.machine.memcg_kmem_cache_wq, s.work)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="5.3..5.4-fixed")
async def kmemcg_workfn(ctx: Context, work: Work) -> None:
    """KERNEL.md 7.2.6 and 9: run the cache's work_fn under slab_mutex. work_fn may free the cache."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v6..v7")
async def kmemcg_workfn_v6(ctx: Context, work: Work) -> None:
    """[v6], [v7]: clears work_fn afterwards, though work_fn may have freed the cache."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await ctx.ask(s.set_work_fn, None)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v2..v5,v4#5..", known_as="kmemcg_after_rcu_workfn")
async def kmemcg_after_rcu_workfn(ctx: Context, work: Work) -> None:
    """[v2] to [v5]: clears work_fn afterwards, though work_fn may have freed the cache; drops no reference."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await ctx.ask(s.set_work_fn, None)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v1", known_as="kmemcg_after_rcu_workfn")
async def kmemcg_after_rcu_workfn_v1(ctx: Context, work: Work) -> None:
    """[v1]: drops a reference to the cache after every work_fn."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await ctx.ask(s.set_work_fn, None)
        await kmemcg_cache_put_many(ctx, s, 1)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v4#2..v4#4", known_as="kmemcg_after_rcu_workfn")
async def kmemcg_after_rcu_workfn_v4_2(ctx: Context, work: Work) -> None:
    """[v4#2] to [v4#4]: also clears work_fn, before it drops the css reference that the deactivation took."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await ctx.ask(s.set_work_fn, None)
    memcg = deref(await ctx.ask(s.read_memcg), "kmemcg_after_rcu_workfn(): s->memcg_params.memcg")
    await css_put(ctx, memcg.css)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="original..v4#1", known_as="kmemcg_deactivate_workfn")
async def kmemcg_deactivate_workfn(ctx: Context, work: Work) -> None:
    """KERNEL.md 6.3: run the cache's work_fn, then drop the css reference that the deactivation took."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
    memcg = deref(await ctx.ask(s.read_memcg), "kmemcg_deactivate_workfn(): s->memcg_params.memcg")
    await css_put(ctx, memcg.css)


async def call_work_fn(ctx: Context, s: KmemCache) -> None:
    """Call s->memcg_params.work_fn(s)."""
    work_fn = await ctx.ask(s.read_work_fn)
    await deref(work_fn, "kmemcg_workfn(): s->memcg_params.work_fn")(ctx, s)


@kernel_fn("kmemcg_cache_deactivate_after_rcu", "mm/slab_common.c", profiles="v2..5.4-fixed,v4#5..")
async def kmemcg_cache_deactivate_after_rcu(ctx: Context, s: KmemCache) -> None:
    """Free the empty slabs, then drop the cache's initial reference: from now on only its pages keep it."""
    await __kmemcg_cache_deactivate_after_rcu(ctx, s)
    await percpu_ref_kill(ctx, s.percpu_refcnt)


@kernel_fn("kmemcg_cache_deactivate_after_rcu", "mm/slab_common.c", profiles="v1")
async def kmemcg_cache_deactivate_after_rcu_v1(ctx: Context, s: KmemCache) -> None:
    """[v1]: free the empty slabs, then move the cache to the parent of its present memcg."""
    await __kmemcg_cache_deactivate_after_rcu(ctx, s)
    memcg = deref(await ctx.ask(s.read_memcg), "kmemcg_cache_deactivate_after_rcu(): s->memcg_params.memcg")
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    if parent is memcg:
        return
    await ctx.ask(memcg.del_kmem_cache, s)
    await ctx.ask(parent.add_kmem_cache, s)
    await ctx.ask(s.set_memcg, parent)
    await css_get(ctx, parent.css)
    await css_put(ctx, memcg.css)


@kernel_fn("kmemcg_cache_deactivate_after_rcu", "mm/slab_common.c", profiles="v4#2..v4#4")
async def kmemcg_cache_deactivate_after_rcu_v4_2(ctx: Context, s: KmemCache) -> None:
    """[v4#2] to [v4#4]: only the allocator's part: a cache has no reference to drop."""
    await __kmemcg_cache_deactivate_after_rcu(ctx, s)


# -- release of the last reference (7.2.8) ----------------------------------------------------------------------------


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c", profiles="5.3..5.4-fixed")
async def kmemcg_cache_shutdown(ctx: Context, ref: PercpuRef) -> None:
    """Release, in any context: have a worker shut the cache down, unless its root is being destroyed."""
    s = cache_of(ref.container)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
            await queue_cache_work(ctx, s)


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c", profiles="v6..v7")
async def kmemcg_cache_shutdown_v6(ctx: Context, ref: PercpuRef) -> None:
    """[v6], [v7]: the lock is irq-safe and the work is queued at once; warn if work_fn is set."""
    s = cache_of(ref.container)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            WARN_ON(ctx, await ctx.ask(s.read_work_fn), "kmemcg_cache_shutdown: s->memcg_params.work_fn")
            await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
            await queue_cache_work(ctx, s)


@kernel_fn(
    "kmemcg_cache_shutdown", "mm/slab_common.c", profiles="v4..v5,v4#5..", known_as="kmemcg_queue_cache_shutdown"
)
async def kmemcg_queue_cache_shutdown(ctx: Context, ref: PercpuRef) -> None:
    """[v4], [v5]: the spinlock is taken without disabling interrupts; the work waits for another grace period."""
    s = cache_of(ref.container)
    async with SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await queue_shutdown_after_rcu(ctx, s)


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c", profiles="v2..v3", known_as="kmemcg_queue_cache_shutdown")
async def kmemcg_queue_cache_shutdown_v2(ctx: Context, ref: PercpuRef) -> None:
    """[v2], [v3]: takes no lock."""
    await queue_shutdown_after_rcu(ctx, cache_of(ref.container))


async def queue_shutdown_after_rcu(ctx: Context, s: KmemCache) -> None:
    """KERNEL-v1-v3 2.9: unless the root is dying, queue the shutdown of the cache after a grace period."""
    if not await ctx.ask(s.root.read_dying):
        WARN_ON(ctx, await ctx.ask(s.read_work_fn), "kmemcg_queue_cache_shutdown: s->memcg_params.work_fn")
        await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
        await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


@kernel_fn("kmemcg_queue_cache_shutdown", "mm/slab_common.c", profiles="v1")
async def kmemcg_queue_cache_shutdown_v1(ctx: Context, s: KmemCache) -> None:
    """[v1]: takes no lock."""
    await queue_shutdown_after_rcu(ctx, s)


@kernel_fn("kmemcg_cache_shutdown_fn", "mm/slab_common.c", profiles="v6..5.4-fixed")
async def kmemcg_cache_shutdown_fn(ctx: Context, s: KmemCache) -> None:
    """KERNEL.md 7.2.9: shut down a cache whose last reference is gone; it should have no slab."""
    WARN_ON(ctx, await shutdown_cache(ctx, s), "kmemcg_cache_shutdown_fn: shutdown_cache(s)")


@kernel_fn(
    "kmemcg_cache_shutdown_fn",
    "mm/slab_common.c",
    profiles="v1..v5,v4#5..",
    known_as="kmemcg_cache_shutdown_after_rcu",
)
async def kmemcg_cache_shutdown_after_rcu(ctx: Context, s: KmemCache) -> None:
    """[v1] to [v5]: shut down a cache whose last reference was dropped a grace period ago."""
    WARN_ON(ctx, await shutdown_cache(ctx, s), "kmemcg_cache_shutdown_after_rcu: shutdown_cache(s)")


# -- destruction (KERNEL.md 6.4 to 8) ---------------------------------------------------------------------------------
# A child cache ends when its last page is freed (v1 and later), when its memcg is freed (original), or with its root.
# The destruction of a root cache has three stages. It marks the root as dying. It waits until no RCU callback and no
# work item of its children is pending. It shuts down all caches that are left. Most of the mistakes were made in the
# second stage, which did not wait for everything that was pending.


# -- destruction of root caches (8.2) ---------------------------------------------------------------------------------


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c", profiles="7.2..")
async def kmem_cache_destroy_7_2(ctx: Context, s: KmemCache | None) -> None:
    """KERNEL-7.2 N2.5: wait for kfree_rcu() of this cache; the last alias shuts the cache down. NULL is allowed.

    The shutdown waits for RCU with slab_mutex held.
    """
    if s is not None:
        await kvfree_rcu_barrier_on_cache(ctx, s)
        await release_if_empty(ctx, s)


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c", profiles="6.12")
async def kmem_cache_destroy(ctx: Context, s: KmemCache | None) -> None:
    """KERNEL-today 17.2: wait for kfree_rcu(); the last alias shuts the cache down. NULL is allowed.

    A cache with objects left stays for ever, on no list. The directory in sysfs is removed without the mutex: readers
    of its files may wait for it.
    """
    if s is not None:
        await kvfree_rcu_barrier(ctx)
        await release_if_empty(ctx, s)


async def release_if_empty(ctx: Context, s: KmemCache) -> None:
    """Drop an alias; with the last one shut the cache down and release it. KERNEL-today 17.2.2 to 11."""
    async with CachesLocked(ctx):
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        failed = await shut_down(ctx, s)
    await sysfs_slab_unlink(ctx, s)
    if not failed:
        await release(ctx, s)


async def shut_down(ctx: Context, s: KmemCache) -> bool:
    """Free all slabs and unlink the cache; True, with a warning, if objects are left. KERNEL-today 17.2.4 to 6."""
    failed = await __kmem_cache_shutdown(ctx, s)
    warn_of_objects(ctx, s, failed=failed)
    await ctx.ask(ctx.machine.slab_caches.delete, s)
    return failed


async def release(ctx: Context, s: KmemCache) -> None:
    """Slabs of a type-safe cache are freed by RCU callbacks, which are waited for. KERNEL-today 17.2.10 and 11."""
    if SlabFlags.TYPESAFE_BY_RCU in s.flags:
        await rcu_barrier(ctx)
    await sysfs_slab_release(ctx, s)


def warn_of_objects(ctx: Context, s: KmemCache, *, failed: bool) -> bool:
    """Warn if the cache could not be shut down; return whether it *failed*. In C the text ends with the caller."""
    return WARN_ON(ctx, failed, f"kmem_cache_destroy {s.name}: Slab cache still has objects when called from")


@attrs.define
class CachesLocked:
    """`async with CachesLocked(ctx):` takes cpu_hotplug_lock, for the flush of all CPUs, and slab_mutex."""

    ctx: Context

    async def __aenter__(self) -> None:
        get_online_cpus(self.ctx)
        await mutex_lock(self.ctx, self.ctx.machine.slab_mutex)

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            await mutex_unlock(self.ctx, self.ctx.machine.slab_mutex)
            put_online_cpus(self.ctx)


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c", profiles="..5.3")
async def kmem_cache_destroy_until_5_3(ctx: Context, s: KmemCache | None) -> None:
    """Wait for pending callbacks and works, drop one alias; with the last one shut all down. NULL is allowed.

    KERNEL.md 8.2.
    """
    if s is None:
        return
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) == 0:
            await shutdown_with_children(ctx, s)


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c", profiles="5.4-fixed")
async def kmem_cache_destroy_fixed(ctx: Context, s: KmemCache | None) -> None:
    """[54]: only the last alias marks the cache as dying; an alias that comes during the flush keeps it alive."""
    if s is None:
        return
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        await memcg_set_kmem_cache_dying(ctx, s, dying=True)
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, 0) != 0:
            await memcg_set_kmem_cache_dying(ctx, s, dying=False)
        else:
            await shutdown_with_children(ctx, s)


async def shutdown_with_children(ctx: Context, s: KmemCache) -> None:
    """KERNEL.md 8.2.4 to 6: shut down the children, then the root. A cache with objects left stays, half dead."""
    failed = await shutdown_memcg_caches(ctx, s) or await shutdown_cache(ctx, s)
    WARN_ON(ctx, failed, f"kmem_cache_destroy {s.name}: Slab cache still has objects")


@kernel_fn("memcg_set_kmem_cache_dying", "mm/slab_common.c", profiles="5.4-fixed")
async def memcg_set_kmem_cache_dying(ctx: Context, s: KmemCache, *, dying: bool) -> None:
    """[54]: set or clear `dying` under the irq-safe lock."""
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="5.4-fixed")
async def flush_memcg_workqueue_fixed(ctx: Context, s: KmemCache) -> None:
    """[54]: the children left by now have been killed; a second rcu_barrier() waits for their switch to atomic mode."""
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
    if await ctx.ask(s.list_children):
        await rcu_barrier(ctx)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="v6..5.3")
async def flush_memcg_workqueue(ctx: Context, s: KmemCache) -> None:
    """KERNEL.md 8.2.2: mark the root as dying; wait for the registered RCU callbacks, then for the queued works."""
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="v4..v5,v4#5..")
async def flush_memcg_workqueue_v4(ctx: Context, s: KmemCache) -> None:
    """[v4], [v5]: `dying` is set under slab_mutex and, with interrupts on, memcg_kmem_wq_lock."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex), SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="v1..v3,v4#2..v4#4")
async def flush_memcg_workqueue_v1(ctx: Context, s: KmemCache) -> None:
    """[v1] to [v3], [v4#2] to [v4#4]: `dying` is set under slab_mutex alone."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="original..v4#1")
async def flush_memcg_workqueue_original(ctx: Context, s: KmemCache) -> None:
    """[O]: with SLAB there are no RCU callbacks to wait for."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await ctx.ask(s.set_dying, dying=True)
    if ctx.machine.functions.allocator == "slub":
        await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("shutdown_memcg_caches", "mm/slab_common.c", profiles="..5.4-fixed")
async def shutdown_memcg_caches(ctx: Context, s: KmemCache) -> bool:
    """Shut down the children in the array, then all others, without retrying failures. True if any is left.

    KERNEL.md 8.2.4.
    """
    BUG_ON(ctx, not s.is_root_cache, "shutdown_memcg_caches: !is_root_cache(s)")
    lockdep_assert_held(ctx, "slab_mutex")
    array = await ctx.ask(s.read_memcg_caches)
    busy = []
    for index, child in enumerate(await ctx.ask(array.list_entries, ctx.machine.memcg_nr_cache_ids)):
        if child is None:
            continue
        if await shutdown_cache(ctx, child):
            busy.append(child)
        else:
            await ctx.ask(array.set_entry, index, None)
    for child in await ctx.ask(s.list_children):
        if child not in busy:
            await shutdown_cache(ctx, child)
    return bool(await ctx.ask(s.list_children))


# -- shutdown and release of one cache (7.2.10 to 7.2.12) -------------------------------------------------------------


@kernel_fn("shutdown_cache", "mm/slab_common.c", profiles="..5.4-fixed")
async def shutdown_cache(ctx: Context, s: KmemCache) -> bool:
    """KERNEL.md 7.2.10: take an empty cache off all lists and free it; True (-EBUSY) if it is not empty."""
    lockdep_assert_held(ctx, "slab_mutex")
    if await __kmem_cache_shutdown(ctx, s):
        return True
    await memcg_unlink_cache(ctx, s)
    await ctx.ask(ctx.machine.slab_caches.delete, s)
    if ctx.machine.slab_supports_sysfs:
        await sysfs_slab_unlink(ctx, s)
    if SlabFlags.TYPESAFE_BY_RCU in s.flags:
        await ctx.ask(ctx.machine.slab_caches_to_rcu_destroy.add, s)
        await queue_work(ctx, ctx.machine.system_wq, ctx.machine.slab_caches_to_rcu_destroy_work)
    else:
        await release_cache(ctx, s)
    return False


async def release_cache(ctx: Context, s: KmemCache) -> None:
    """Drop the kobject's reference (sysfs; others may hold it still), or free the struct at once (no sysfs)."""
    if ctx.machine.slab_supports_sysfs:
        await sysfs_slab_release(ctx, s)
    else:
        await slab_kmem_cache_release(ctx, s)


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="v3..5.3,v4#7")
async def memcg_unlink_cache(ctx: Context, s: KmemCache) -> None:
    """Take the cache off its lists and drop its memcg at once, though freed slabs may still wait for RCU."""
    if s.is_root_cache:
        await ctx.ask(ctx.machine.slab_root_caches.delete, s)
        return
    memcg = await unlink_child(ctx, s)
    await css_put(ctx, memcg.css)
    await ctx.ask(s.set_memcg, None)


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="v1..v2,v4#5..v4#6")
async def memcg_unlink_cache_v1(ctx: Context, s: KmemCache) -> None:
    """[v1], [v2], [v4#5], [v4#6]: the memcg is dropped, but the pointer to it is not cleared."""
    if s.is_root_cache:
        await ctx.ask(ctx.machine.slab_root_caches.delete, s)
        return
    memcg = await unlink_child(ctx, s)
    await css_put(ctx, memcg.css)


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="original..v4#4,5.4-fixed")
async def memcg_unlink_cache_original(ctx: Context, s: KmemCache) -> None:
    """[O], [54]: drops no reference to the memcg: in [O] there is none, in [54] it is dropped with the struct."""
    if s.is_root_cache:
        await ctx.ask(ctx.machine.slab_root_caches.delete, s)
    else:
        await unlink_child(ctx, s)


async def unlink_child(ctx: Context, s: KmemCache) -> Memcg:
    """Take a child off its root's list and off its memcg's list; return the memcg."""
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_unlink_cache(): s->memcg_params.memcg")
    await ctx.ask(s.root.del_child, s)
    await ctx.ask(memcg.del_kmem_cache, s)
    return memcg


@kernel_fn("slab_caches_to_rcu_destroy_workfn", "mm/slab_common.c", profiles="..5.4-fixed")
async def slab_caches_to_rcu_destroy_workfn(ctx: Context, work: Work) -> None:
    """rcu_barrier() waits until all freed slabs of the type-safe caches are gone; then release the caches.

    KERNEL.md 7.2.11.
    """
    for s in await take_caches_to_destroy(ctx):
        await release_cache(ctx, s)


async def take_caches_to_destroy(ctx: Context) -> tuple[KmemCache, ...]:
    """Take the type-safe caches off their list, and wait until their slabs are gone."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        caches = await ctx.ask(ctx.machine.slab_caches_to_rcu_destroy.take_all)
    if caches:
        await rcu_barrier(ctx)
    return caches


@kernel_fn("slab_kmem_cache_release", "mm/slab_common.c", profiles="6.12..")
async def slab_kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """KERNEL-today 17.2.11: free the struct and all its parts."""
    __kmem_cache_release(ctx, s)
    free_cache_struct(ctx, s)


@kernel_fn("slab_kmem_cache_release", "mm/slab_common.c", profiles="..5.4-fixed")
async def slab_kmem_cache_release_until_5_4(ctx: Context, s: KmemCache) -> None:
    """KERNEL.md 7.2.12: free the struct and all its parts."""
    __kmem_cache_release(ctx, s)
    await destroy_memcg_params(ctx, s)
    free_cache_struct(ctx, s)


def free_cache_struct(ctx: Context, s: KmemCache) -> None:
    """kmem_cache_free(kmem_cache, s): free the struct with its parts and its name."""
    ctx.machine.forget_cache(s)
    ctx.kfree(*s.parts())
    s.actor.retire()


@kernel_fn("destroy_memcg_params", "mm/slab_common.c", profiles="v2..5.3,v4#5..")
async def destroy_memcg_params(ctx: Context, s: KmemCache) -> None:
    """KERNEL.md 7.2.12: free a root's array, or exit a child's percpu reference count."""
    if s.is_root_cache:
        await free_root_array(ctx, s)
    else:
        await percpu_ref_exit(ctx, s.percpu_refcnt)


@kernel_fn("destroy_memcg_params", "mm/slab_common.c", profiles="5.4-fixed")
async def destroy_memcg_params_fixed(ctx: Context, s: KmemCache) -> None:
    """[54]: drops the memcg only here: no slab is left that could be uncharged."""
    if s.is_root_cache:
        await free_root_array(ctx, s)
        return
    await let_memcg_go(ctx, s)
    await percpu_ref_exit(ctx, s.percpu_refcnt)


async def let_memcg_go(ctx: Context, s: KmemCache) -> None:
    """mem_cgroup_put(), and clear the memcg pointer of the cache, which is NULL if its creation failed."""
    memcg = await ctx.ask(s.read_memcg)
    if memcg is not None:
        await css_put(ctx, memcg.css)
    await ctx.ask(s.set_memcg, None)


@kernel_fn("destroy_memcg_params", "mm/slab_common.c", profiles="original..v4#4,v1")
async def destroy_memcg_params_original(ctx: Context, s: KmemCache) -> None:
    """[O], [v1]: free a root's array; a child has nothing to free."""
    if s.is_root_cache:
        await free_root_array(ctx, s)


async def free_root_array(ctx: Context, s: KmemCache) -> None:
    """kvfree() of the array: no task allocates from a root cache that is being destroyed."""
    ctx.kfree(await ctx.ask(s.read_memcg_caches))


# -- the caches of a memcg that is freed, original only (6.4) ---------------------------------------------------------


@kernel_fn("memcg_destroy_kmem_caches", "mm/slab_common.c", profiles="original..v4#4")
async def memcg_destroy_kmem_caches(ctx: Context, memcg: Memcg) -> None:
    """[O]: shut down all caches of a memcg that is being freed; none of them has a page left."""
    async with SlabMutexHeld(ctx):
        for s in await ctx.ask(memcg.list_kmem_caches):
            BUG_ON(ctx, await shutdown_cache(ctx, s), "memcg_destroy_kmem_caches: shutdown_cache(s)")


# -- merging (KERNEL.md 8.1) ------------------------------------------------------------------------------------------


@kernel_fn("find_mergeable", "mm/slab_common.c")
async def find_mergeable(ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool) -> KmemCache | None:
    """Find a root cache to share: same merge flags, no constructor, less than a word wasted for each object."""
    if has_ctor or flags & SLAB_NEVER_MERGE:
        return None
    for s in await ctx.ask(ctx.machine.slab_root_caches.list):
        if await slab_unmergeable(ctx, s) or (s.flags ^ flags) & SLAB_MERGE_SAME:
            continue
        if s.slot_size >= row.objsize and s.slot_size - row.objsize < WORD:
            return s
    return None


@kernel_fn("slab_unmergeable", "mm/slab_common.c")
async def slab_unmergeable(_ctx: Context, s: KmemCache) -> bool:
    """True for children, caches with a constructor or a usercopy region, and marked ones. No version tests `dying`."""
    return is_unmergeable(s)


def is_unmergeable(s: KmemCache) -> bool:
    """slab_unmergeable() at boot, before any task runs."""
    if not s.is_root_cache or s.has_ctor or s.has_usercopy or not s.is_mergeable:
        return True
    return bool(s.flags & SLAB_NEVER_MERGE)
