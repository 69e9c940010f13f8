"""The life of kmem_caches. mm/slab_common.c, version by version; KERNEL.md 5 to 8, KERNEL-v1-v3.md.

A child cache is created by a worker and published in its root's array (`slab_create`), and deactivated when its memcg
goes offline. From there the profiles part:

    original  deactivated -> (grace period) -> shrunk -> waits, with all its pages, for the memcg to be freed
    v1        deactivated -> (grace period) -> shrunk and moved to the parent -> (count 0, grace period) -> gone
    v2 ..     deactivated and moved to the parent memcg -> (grace period) -> shrunk, its refcnt killed
              -> (grace period; then the last page goes) -> shut down and freed

Everything but the hot paths is under slab_mutex. What the end of a root cache does to its children is in
`slab_destroy`.
"""

from __future__ import annotations

from actors.kernel.cgroup import css_get, css_get_many, css_put
from actors.kernel.context import WARN_ON, Context, deref
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, MemcgCacheArray, SlabFlags, cache_of
from actors.kernel.lockdep import lockdep_assert_held
from actors.kernel.locks import MutexHeld, SpinLockHeld, SpinLockIrqHeld
from actors.kernel.memcontrol import Memcg
from actors.kernel.percpu_ref import PercpuRef, percpu_ref_kill
from actors.kernel.rcu import RcuHead, call_rcu
from actors.kernel.slab_destroy import shutdown_cache
from actors.kernel.slab_h import kmemcg_cache_put_many
from actors.kernel.slab_mutex import (
    SlabMutexHeld,
    get_online_cpus,
    get_online_mems,
    put_online_cpus,
    put_online_mems,
)
from actors.kernel.slub import (
    __kmem_cache_shrink,
    __kmemcg_cache_deactivate,
    __kmemcg_cache_deactivate_after_rcu,
)
from actors.kernel.sysfs import sysfs_slab_remove
from actors.kernel.workqueue import Work, queue_work

# -- the arrays of root caches ----------------------------------------------------------------------------------------


@kernel_fn("memcg_update_all_caches", "mm/slab_common.c")
async def memcg_update_all_caches(ctx: Context, num_memcgs: int) -> None:
    """Replace the array of every root cache by a longer one; the old one lives until its readers are gone."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        for root in await ctx.ask(machine.slab_root_caches.list):
            old = await ctx.ask(root.read_memcg_caches)
            await ctx.ask(root.set_memcg_caches, old.grown(num_memcgs, machine.memcg_nr_cache_ids))
            await call_rcu(ctx, RcuHead(old), free_memcg_params)


@kernel_fn("free_memcg_params", "mm/slab_common.c")
async def free_memcg_params(ctx: Context, head: RcuHead) -> None:
    """The array has been relocated, and nobody reads the old one any more."""
    assert isinstance(head.container, MemcgCacheArray)
    ctx.kfree(head.container)


@kernel_fn("kmem_cache_shrink", "mm/slab_common.c")
async def kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool:
    """Give back what is empty, whoever asks for it; True if any slab remains."""
    get_online_cpus(ctx)
    await get_online_mems(ctx)
    remain = await __kmem_cache_shrink(ctx, s)
    await put_online_mems(ctx)
    put_online_cpus(ctx)
    return remain


# -- deactivation and reparenting (6.1, 7.1) --------------------------------------------------------------------------


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c", profiles="v4..")
async def memcg_deactivate_kmem_caches(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None:
    """Deactivate the memcg's caches, then move all that it has, inherited ones too, to *parent*."""
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


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c", profiles="original..v1")
async def memcg_deactivate_kmem_caches_original(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None:
    """[O], [v1]: deactivate the memcg's caches; they stay where they are."""
    async with SlabMutexHeld(ctx):
        await deactivate_entries(ctx, memcg)


async def deactivate_entries(ctx: Context, memcg: Memcg) -> None:
    """Deactivate the memcg's cache of every root that has one, and take it out of the array."""
    lockdep_assert_held(ctx, "slab_mutex")
    idx = await ctx.ask(memcg.read_kmemcg_id)
    for root in await ctx.ask(ctx.machine.slab_root_caches.list):
        array = await ctx.ask(root.read_memcg_caches)
        s = await ctx.ask(array.read_entry, idx)
        if s is not None:
            await kmemcg_cache_deactivate(ctx, s)
            await ctx.ask(array.set_entry, idx, None)


async def reparent_caches(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """7.1.3 and 4: first every cache is re-pointed and lets go of the old memcg, then the new one gets the list."""
    caches = await ctx.ask(memcg.list_kmem_caches)
    for s in caches:
        await ctx.ask(s.set_memcg, parent)
        await css_put(ctx, memcg.css)
    if caches:
        await ctx.ask(parent.splice_kmem_caches, await ctx.ask(memcg.take_kmem_caches))
        await css_get_many(ctx, parent.css, len(caches))


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="5.3..")
async def kmemcg_cache_deactivate(ctx: Context, s: KmemCache) -> None:
    """Keep no empty slabs from now on; the rest after a grace period, when every CPU knows."""
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
    """[v6], [v7]: warn if something else is under way."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: is_root_cache(s)"):
        return
    await __kmemcg_cache_deactivate(ctx, s)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await defer_deactivation(ctx, s)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="v5")
async def kmemcg_cache_deactivate_v5(ctx: Context, s: KmemCache) -> None:
    """[v5]: slab_mutex is all that protects the dying flag here."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: is_root_cache(s)"):
        return
    await __kmemcg_cache_deactivate(ctx, s)
    if not await ctx.ask(s.root.read_dying):
        await defer_deactivation(ctx, s)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="v1..v4")
async def kmemcg_cache_deactivate_v1(ctx: Context, s: KmemCache) -> None:
    """[v1] to [v4]: as [v5], and a root cache would not be noticed."""
    await __kmemcg_cache_deactivate(ctx, s)
    root = deref(s.root_cache, "kmemcg_cache_deactivate(): s->memcg_params.root_cache")
    if not await ctx.ask(root.read_dying):
        await defer_deactivation(ctx, s)


async def defer_deactivation(ctx: Context, s: KmemCache) -> None:
    """7.1.1d."""
    WARN_ON(ctx, await ctx.ask(s.read_work_fn), "kmemcg_cache_deactivate: s->memcg_params.work_fn")
    await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
    await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c", profiles="original", known_as="memcg_deactivate_kmem_caches")
async def kmemcg_cache_deactivate_original(ctx: Context, s: KmemCache) -> None:
    """[O]: what the allocator has to do is all."""
    await __kmemcg_cache_deactivate(ctx, s)


@kernel_fn("__kmemcg_cache_deactivate", "mm/slub.c", profiles="original")
async def __kmemcg_cache_deactivate_original(ctx: Context, s: KmemCache) -> None:
    """[O]: the same stores as later, and SLUB alone goes on after a grace period."""
    await ctx.ask(s.cpu_partial.store, ctx, 0)
    await ctx.ask(s.min_partial.store, ctx, 0)
    await slab_deactivate_memcg_cache_rcu_sched(ctx, s)


@kernel_fn("slab_deactivate_memcg_cache_rcu_sched", "mm/slab_common.c", profiles="original")
async def slab_deactivate_memcg_cache_rcu_sched(ctx: Context, s: KmemCache) -> None:
    """6.1: SLUB's deactivation goes on after a grace period; until then it pins the memcg."""
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


@kernel_fn("kmemcg_rcufn", "mm/slab_common.c", profiles="v6..")
async def kmemcg_rcufn(ctx: Context, head: RcuHead) -> None:
    """7.2.5: a grace period has passed; go on in a worker. The work re-uses the storage of the rcu_head."""
    await queue_cache_work(ctx, cache_of(head.container))


@kernel_fn("kmemcg_rcufn", "mm/slab_common.c", profiles="v1..v5", known_as="kmemcg_schedule_work_after_rcu")
async def kmemcg_schedule_work_after_rcu(ctx: Context, head: RcuHead) -> None:
    """[v1] to [v5]: for the shutdown, too."""
    await queue_cache_work(ctx, cache_of(head.container))


@kernel_fn("kmemcg_rcufn", "mm/slab_common.c", profiles="original", known_as="kmemcg_deactivate_rcufn")
async def kmemcg_deactivate_rcufn(ctx: Context, head: RcuHead) -> None:
    """6.2: a grace period has passed; shrink the cache in a worker."""
    await queue_cache_work(ctx, cache_of(head.container))


async def queue_cache_work(ctx: Context, s: KmemCache) -> None:
    """INIT_WORK and queue_work: the cache's next piece of work, on this CPU."""
    s.work.init_work(kmemcg_workfn)
    await queue_work(ctx, ctx.machine.memcg_kmem_cache_wq, s.work)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="5.3..")
async def kmemcg_workfn(ctx: Context, work: Work) -> None:
    """7.2.6 and 9: run whatever the cache has to do next, under slab_mutex. Afterwards there may be no cache."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v6..v7")
async def kmemcg_workfn_v6(ctx: Context, work: Work) -> None:
    """[v6], [v7]: and say that nothing is under way any more, though there may be no cache."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await ctx.ask(s.set_work_fn, None)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v2..v5", known_as="kmemcg_after_rcu_workfn")
async def kmemcg_after_rcu_workfn(ctx: Context, work: Work) -> None:
    """[v2] to [v5]: the same under its old name."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await ctx.ask(s.set_work_fn, None)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v1", known_as="kmemcg_after_rcu_workfn")
async def kmemcg_after_rcu_workfn_v1(ctx: Context, work: Work) -> None:
    """[v1]: and drop a reference, whatever the work was."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await ctx.ask(s.set_work_fn, None)
        await kmemcg_cache_put_many(ctx, s, 1)


@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="original", known_as="kmemcg_deactivate_workfn")
async def kmemcg_deactivate_workfn(ctx: Context, work: Work) -> None:
    """6.3: afterwards the memcg may go."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
    memcg = deref(await ctx.ask(s.read_memcg), "kmemcg_deactivate_workfn(): s->memcg_params.memcg")
    await css_put(ctx, memcg.css)


async def call_work_fn(ctx: Context, s: KmemCache) -> None:
    """s->memcg_params.work_fn(s)."""
    work_fn = await ctx.ask(s.read_work_fn)
    await deref(work_fn, "kmemcg_workfn(): s->memcg_params.work_fn")(ctx, s)


@kernel_fn("kmemcg_cache_deactivate_after_rcu", "mm/slab_common.c", profiles="v2..")
async def kmemcg_cache_deactivate_after_rcu(ctx: Context, s: KmemCache) -> None:
    """Give back what is empty, then drop the cache's own reference: from now on its pages keep it."""
    await __kmemcg_cache_deactivate_after_rcu(ctx, s)
    await percpu_ref_kill(ctx, s.percpu_refcnt)


@kernel_fn("kmemcg_cache_deactivate_after_rcu", "mm/slab_common.c", profiles="v1")
async def kmemcg_cache_deactivate_after_rcu_v1(ctx: Context, s: KmemCache) -> None:
    """[v1]: give back what is empty, then move to the parent of the memcg that it has now."""
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


@kernel_fn(
    "kmemcg_cache_deactivate_after_rcu", "mm/slub.c", profiles="original", known_as="kmemcg_cache_deact_after_rcu"
)
async def kmemcg_cache_deact_after_rcu(ctx: Context, s: KmemCache) -> None:
    """[O]: give back what is empty; the cache itself stays until its memcg is freed."""
    if not await __kmem_cache_shrink(ctx, s):
        await sysfs_slab_remove(ctx, s)


# -- the last reference is gone (7.2.8) -------------------------------------------------------------------------------


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c", profiles="5.3..")
async def kmemcg_cache_shutdown(ctx: Context, ref: PercpuRef) -> None:
    """In whatever context the last reference went: shut the cache down in a worker, unless its root does that."""
    s = cache_of(ref.container)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
            await queue_cache_work(ctx, s)


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c", profiles="v6..v7")
async def kmemcg_cache_shutdown_v6(ctx: Context, ref: PercpuRef) -> None:
    """[v6], [v7]: warn if something else is under way."""
    s = cache_of(ref.container)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            WARN_ON(ctx, await ctx.ask(s.read_work_fn), "kmemcg_cache_shutdown: s->memcg_params.work_fn")
            await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
            await queue_cache_work(ctx, s)


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c", profiles="v4..v5", known_as="kmemcg_queue_cache_shutdown")
async def kmemcg_queue_cache_shutdown(ctx: Context, ref: PercpuRef) -> None:
    """[v4], [v5]: the lock is taken with interrupts as they are; another grace period comes first."""
    s = cache_of(ref.container)
    async with SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await queue_shutdown_after_rcu(ctx, s)


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c", profiles="v2..v3", known_as="kmemcg_queue_cache_shutdown")
async def kmemcg_queue_cache_shutdown_v2(ctx: Context, ref: PercpuRef) -> None:
    """[v2], [v3]: no lock at all."""
    await queue_shutdown_after_rcu(ctx, cache_of(ref.container))


async def queue_shutdown_after_rcu(ctx: Context, s: KmemCache) -> None:
    """KERNEL-v1-v3 2.9."""
    if not await ctx.ask(s.root.read_dying):
        WARN_ON(ctx, await ctx.ask(s.read_work_fn), "kmemcg_queue_cache_shutdown: s->memcg_params.work_fn")
        await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
        await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


@kernel_fn("kmemcg_queue_cache_shutdown", "mm/slab_common.c", profiles="v1")
async def kmemcg_queue_cache_shutdown_v1(ctx: Context, s: KmemCache) -> None:
    """[v1]: no lock at all."""
    await queue_shutdown_after_rcu(ctx, s)


@kernel_fn("kmemcg_cache_shutdown_fn", "mm/slab_common.c", profiles="v6..")
async def kmemcg_cache_shutdown_fn(ctx: Context, s: KmemCache) -> None:
    """7.2.9: the last reference is gone: shut the cache down, which has no slab any more."""
    WARN_ON(ctx, await shutdown_cache(ctx, s), "kmemcg_cache_shutdown_fn: shutdown_cache(s)")


@kernel_fn(
    "kmemcg_cache_shutdown_fn", "mm/slab_common.c", profiles="v1..v5", known_as="kmemcg_cache_shutdown_after_rcu"
)
async def kmemcg_cache_shutdown_after_rcu(ctx: Context, s: KmemCache) -> None:
    """[v1] to [v5]: the same under its old name."""
    WARN_ON(ctx, await shutdown_cache(ctx, s), "kmemcg_cache_shutdown_after_rcu: shutdown_cache(s)")
