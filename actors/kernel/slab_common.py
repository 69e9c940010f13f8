"""The life of kmem_caches. mm/slab_common.c @5.3.1 (and 5.2 where the `original` variants say so); KERNEL.md 5 to 7.

A child cache is created by a worker, published in its root's array, and deactivated when its memcg goes
offline. From there the two profiles part:

    original  deactivated -> (grace period) -> shrunk -> waits, with all its pages, for the memcg to be freed
    5.3       deactivated and moved to the parent memcg -> (grace period) -> shrunk, its refcnt killed
              -> (grace period; then the last page goes) -> shut down and freed

Everything but the hot paths is under slab_mutex.
"""

from __future__ import annotations

from actors.kernel.cgroup import css_get, css_get_many, css_put
from actors.kernel.context import BUG_ON, WARN_ON, Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.locks import MutexHeld, SpinLockHeld
from actors.kernel.memcontrol import KmemState, Memcg
from actors.kernel.percpu_ref import PercpuRef, percpu_ref_exit, percpu_ref_kill
from actors.kernel.rcu import RcuHead, call_rcu, rcu_barrier
from actors.kernel.slab import KmemCache, SlabFlags
from actors.kernel.slub import __kmem_cache_shrink, __kmem_cache_shutdown, __kmemcg_cache_deactivate
from actors.kernel.workqueue import Work, queue_work

# -- creation (5.3) -------------------------------------------------------------------------------------------------


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c")
async def memcg_create_kmem_cache(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """Create and publish the child cache of *memcg*, unless it is offline by now or somebody was faster."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
            return
        idx = await ctx.ask(memcg.read_kmemcg_id)
        array = await ctx.ask(root_cache.read_memcg_caches)
        if await ctx.ask(array.read_entry, idx) is not None:
            return
        s = create_cache(ctx, memcg, root_cache)
        ctx.machine.slab_caches[s] = None
        await memcg_link_cache(ctx, s, memcg)
        await ctx.ask(array.set_entry, idx, s)


@kernel_fn("create_cache", "mm/slab_common.c")
def create_cache(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> KmemCache:
    """Allocate a child cache; nobody knows it yet."""
    cgroup = memcg.css.cgroup
    s = ctx.machine.new_cache(
        f"{root_cache.name}({cgroup.serial_nr}:{cgroup.name})",
        size=root_cache.object_size,
        objects=root_cache.objects,
        order=root_cache.order,
        flags=root_cache.flags,
        root=root_cache,
    )
    init_memcg_params(ctx, s)
    return s


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="5.3..")
def init_memcg_params(ctx: Context, s: KmemCache) -> None:
    """Its reference count starts with one, its own, dropped by deactivation."""
    s.refcnt = PercpuRef.init(s.actor, s, kmemcg_cache_shutdown, len(ctx.machine.cpus))


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="original")
def init_memcg_params_original(_ctx: Context, s: KmemCache) -> None:
    """[O]: caches have no reference count."""


@kernel_fn("memcg_link_cache", "mm/slab_common.c", profiles="5.3..")
async def memcg_link_cache(ctx: Context, s: KmemCache, memcg: Memcg) -> None:
    """Put a child cache on its lists; it pins the memcg it belongs to."""
    assert s.root_cache is not None
    await css_get(ctx, memcg.css)
    await ctx.ask(s.set_memcg, memcg)
    await ctx.ask(s.root_cache.add_child, s)
    await ctx.ask(memcg.add_kmem_cache, s)


@kernel_fn("memcg_link_cache", "mm/slab_common.c", profiles="original")
async def memcg_link_cache_original(ctx: Context, s: KmemCache, memcg: Memcg) -> None:
    """[O]: the memcg owns the cache, and not the other way round."""
    assert s.root_cache is not None
    await ctx.ask(s.set_memcg, memcg)
    await ctx.ask(s.root_cache.add_child, s)
    await ctx.ask(memcg.add_kmem_cache, s)


# -- deactivation (6.1, 7.1) ----------------------------------------------------------------------------------------


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c", profiles="5.3..")
async def memcg_deactivate_kmem_caches(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """7.1: deactivate the memcg's caches, then move all that it has, inherited ones too, to *parent*."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await deactivate_entries(ctx, memcg)
        caches = await ctx.ask(memcg.list_kmem_caches)
        for s in caches:
            await ctx.ask(s.set_memcg, parent)
            await css_put(ctx, memcg.css)
        if caches:
            await ctx.ask(memcg.take_kmem_caches)
            await ctx.ask(parent.splice_kmem_caches, caches)
            await css_get_many(ctx, parent.css, len(caches))


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c", profiles="original")
async def memcg_deactivate_kmem_caches_original(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """6.1: deactivate the memcg's caches; they stay where they are."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await deactivate_entries(ctx, memcg)


async def deactivate_entries(ctx: Context, memcg: Memcg) -> None:
    """Deactivate the memcg's cache of every root that has one, and take it out of the array."""
    idx = await ctx.ask(memcg.read_kmemcg_id)
    for root in tuple(ctx.machine.slab_root_caches):
        array = await ctx.ask(root.read_memcg_caches)
        s = await ctx.ask(array.read_entry, idx)
        if s is not None:
            await kmemcg_cache_deactivate(ctx, s)
            await ctx.ask(array.set_entry, idx, None)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="5.3..")
async def kmemcg_cache_deactivate(ctx: Context, s: KmemCache) -> None:
    """7.1.1: keep no empty slabs from now on; the rest after a grace period, when every CPU knows."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: root cache"):
        return
    assert s.root_cache is not None
    await __kmemcg_cache_deactivate(ctx, s)
    await ctx.ask(s.set_flag, SlabFlags.DEACTIVATED)
    async with SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root_cache.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
            await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="original")
async def kmemcg_cache_deactivate_original(ctx: Context, s: KmemCache) -> None:
    """6.1: slab_deactivate_memcg_cache_rcu_sched(); the pending deactivation pins the memcg."""
    await __kmemcg_cache_deactivate(ctx, s)
    if WARN_ON(ctx, s.is_root_cache, "slab_deactivate_memcg_cache_rcu_sched: root cache"):
        return
    assert s.root_cache is not None
    if WARN_ON(ctx, await ctx.ask(s.read_work_fn), "slab_deactivate_memcg_cache_rcu_sched: deact_fn is set"):
        return
    if await ctx.ask(s.root_cache.read_dying):
        return
    assert s.memcg is not None
    await css_get(ctx, s.memcg.css)
    await ctx.ask(s.set_work_fn, kmemcg_cache_deact_after_rcu)
    await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


# -- the deferred part (6.2, 7.2) -----------------------------------------------------------------------------------


async def kmemcg_rcufn(ctx: Context, head: RcuHead) -> None:
    """7.2.5: a grace period has passed; go on in a worker. The work re-uses the storage of the rcu_head."""
    s = head.container
    assert isinstance(s, KmemCache)
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    s.work.init_work(kmemcg_workfn)
    await queue_work(ctx, ctx.machine.memcg_kmem_cache_wq, s.work)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="5.3..")
async def kmemcg_workfn(ctx: Context, work: Work) -> None:
    """7.2.6 and 7.2.9: run whatever the cache has to do next, under slab_mutex."""
    s = work.container
    assert isinstance(s, KmemCache)
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        work_fn = await ctx.ask(s.read_work_fn)
        assert work_fn is not None, "invariant I8: work_fn is set whenever a work is queued"
        await work_fn(ctx, s)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="original")
async def kmemcg_workfn_original(ctx: Context, work: Work) -> None:
    """6.3: kmemcg_deactivate_workfn(); afterwards the memcg may go."""
    s = work.container
    assert isinstance(s, KmemCache)
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        work_fn = await ctx.ask(s.read_work_fn)
        assert work_fn is not None
        await work_fn(ctx, s)
    assert s.memcg is not None
    await css_put(ctx, s.memcg.css)


@kernel_fn("kmemcg_cache_deactivate_after_rcu", "mm/slab_common.c")
async def kmemcg_cache_deactivate_after_rcu(ctx: Context, s: KmemCache) -> None:
    """Give back what is empty, then drop the cache's own reference: from now on its pages keep it."""
    await __kmem_cache_shrink(ctx, s)
    assert s.refcnt is not None
    await percpu_ref_kill(ctx, s.refcnt)


@kernel_fn("kmemcg_cache_deact_after_rcu", "mm/slub.c")
async def kmemcg_cache_deact_after_rcu(ctx: Context, s: KmemCache) -> None:
    """[O]: give back what is empty; the cache itself stays until its memcg is freed."""
    await __kmem_cache_shrink(ctx, s)


async def kmemcg_cache_shutdown(ctx: Context, ref: PercpuRef) -> None:
    """7.2.8: the last reference is gone, in whatever context; shut the cache down in a worker."""
    s = ref.container
    assert isinstance(s, KmemCache)
    assert s.root_cache is not None
    async with SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root_cache.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
            s.work.init_work(kmemcg_workfn)
            await queue_work(ctx, ctx.machine.memcg_kmem_cache_wq, s.work)


@kernel_fn("kmemcg_cache_shutdown_fn", "mm/slab_common.c")
async def kmemcg_cache_shutdown_fn(ctx: Context, s: KmemCache) -> None:
    failed = await shutdown_cache(ctx, s)
    WARN_ON(ctx, failed, "kmemcg_cache_shutdown_fn: shutdown_cache(s)")


@kernel_fn("shutdown_cache", "mm/slab_common.c")
async def shutdown_cache(ctx: Context, s: KmemCache) -> bool:
    """7.2.10: take an empty cache off all lists and free it; True (-EBUSY) if it is not empty."""
    if await __kmem_cache_shutdown(ctx, s):
        return True
    await memcg_unlink_cache(ctx, s)
    del ctx.machine.slab_caches[s]
    if SlabFlags.TYPESAFE_BY_RCU in s.flags:
        ctx.machine.slab_caches_to_rcu_destroy.append(s)
        await queue_work(ctx, ctx.machine.system_wq, ctx.machine.slab_caches_to_rcu_destroy_work)
    else:
        await slab_kmem_cache_release(ctx, s)
    return False


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="5.3..")
async def memcg_unlink_cache(ctx: Context, s: KmemCache) -> None:
    """Off the lists; the memcg is let go here and now, though freed slabs may still wait for RCU."""
    assert s.root_cache is not None
    memcg = await ctx.ask(s.read_memcg)
    assert memcg is not None
    await ctx.ask(s.root_cache.del_child, s)
    await ctx.ask(memcg.del_kmem_cache, s)
    await css_put(ctx, memcg.css)
    await ctx.ask(s.set_memcg, None)


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="original")
async def memcg_unlink_cache_original(ctx: Context, s: KmemCache) -> None:
    assert s.root_cache is not None
    assert s.memcg is not None
    await ctx.ask(s.root_cache.del_child, s)
    await ctx.ask(s.memcg.del_kmem_cache, s)


@kernel_fn("slab_caches_to_rcu_destroy_workfn", "mm/slab_common.c")
async def slab_caches_to_rcu_destroy_workfn(ctx: Context, _work: Work) -> None:
    """7.2.11: once all freed slabs of type-safe caches have really gone, the caches may."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        to_destroy = list(machine.slab_caches_to_rcu_destroy)
        machine.slab_caches_to_rcu_destroy.clear()
    if to_destroy:
        await rcu_barrier(ctx)
        for s in to_destroy:
            await slab_kmem_cache_release(ctx, s)


@kernel_fn("slab_kmem_cache_release", "mm/slab_common.c")
async def slab_kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """7.2.12: free the struct with everything inside it."""
    if s.refcnt is not None:
        await percpu_ref_exit(ctx, s.refcnt)
    ctx.kfree(*s.parts())
    s.actor.retire()


# -- the end of a memcg's caches in the original (6.4) ---------------------------------------------------------------


@kernel_fn("memcg_destroy_kmem_caches", "mm/slab_common.c")
async def memcg_destroy_kmem_caches(ctx: Context, memcg: Memcg) -> None:
    """[O]: the memcg is being freed, so no page is left in any of its caches; every one of them goes."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        for s in await ctx.ask(memcg.list_kmem_caches):
            BUG_ON(ctx, await shutdown_cache(ctx, s), "memcg_destroy_kmem_caches: shutdown_cache(s)")
