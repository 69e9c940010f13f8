"""How caches end. mm/slab_common.c, version by version; KERNEL.md 6.4 to 8.

A child cache ends when its last page has gone (v1 and later), when its memcg is freed (original), or with its root.
The end of a root first marks it as dying, then waits until nothing is under way for its children any more, and then
shuts down whatever is left. What "nothing is under way" takes is where most of the mistakes were made.
"""

from __future__ import annotations

from actors.kernel.cgroup import css_put
from actors.kernel.context import BUG_ON, WARN_ON, Context, deref
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, SlabFlags
from actors.kernel.lockdep import lockdep_assert_held
from actors.kernel.locks import MutexHeld, SpinLockHeld, SpinLockIrqHeld
from actors.kernel.memcontrol import Memcg
from actors.kernel.percpu_ref import percpu_ref_exit
from actors.kernel.rcu import rcu_barrier
from actors.kernel.slab_mutex import SlabMutexHeld
from actors.kernel.slub import __kmem_cache_release, __kmem_cache_shutdown
from actors.kernel.sysfs import sysfs_slab_release, sysfs_slab_unlink
from actors.kernel.workqueue import Work, flush_workqueue, queue_work

# -- root caches ------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c", profiles="..5.3")
async def kmem_cache_destroy(ctx: Context, s: KmemCache | None) -> None:
    """8.2: wait for what is under way, then drop one alias, and with the last one everything. NULL is nothing."""
    if s is None:
        return
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) == 0:
            await shutdown_with_children(ctx, s)


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c", profiles="5.4-fixed")
async def kmem_cache_destroy_fixed(ctx: Context, s: KmemCache | None) -> None:
    """[54]: only the last alias marks the cache as dying; somebody may take it up again meanwhile."""
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
    """8.2.4 to 6: the children, then the root; what has objects stays, half dead."""
    failed = await shutdown_memcg_caches(ctx, s) or await shutdown_cache(ctx, s)
    WARN_ON(ctx, failed, f"kmem_cache_destroy {s.name}: Slab cache still has objects")


@kernel_fn("memcg_set_kmem_cache_dying", "mm/slab_common.c", profiles="5.4-fixed")
async def memcg_set_kmem_cache_dying(ctx: Context, s: KmemCache, *, dying: bool) -> None:
    """[54]: the mark is a function of its own, under the irq-safe lock."""
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="5.4-fixed")
async def flush_memcg_workqueue_fixed(ctx: Context, s: KmemCache) -> None:
    """[54]: children that are left have been killed by now; their switch to atomic mode takes another grace period."""
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
    if await ctx.ask(s.list_children):
        await rcu_barrier(ctx)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="v6..5.3")
async def flush_memcg_workqueue(ctx: Context, s: KmemCache) -> None:
    """8.2.2: nothing new from now on; what was registered becomes a work; what was queued is done."""
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="v4..v5")
async def flush_memcg_workqueue_v4(ctx: Context, s: KmemCache) -> None:
    """[v4], [v5]: both locks, the inner one with interrupts on."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex), SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="v1..v3")
async def flush_memcg_workqueue_v1(ctx: Context, s: KmemCache) -> None:
    """[v1] to [v3]: dying is set under slab_mutex alone."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c", profiles="original")
async def flush_memcg_workqueue_original(ctx: Context, s: KmemCache) -> None:
    """[O]: SLAB has no RCU callbacks to wait for."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await ctx.ask(s.set_dying, dying=True)
    if ctx.machine.functions.allocator == "slub":
        await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


@kernel_fn("shutdown_memcg_caches", "mm/slab_common.c")
async def shutdown_memcg_caches(ctx: Context, s: KmemCache) -> bool:
    """8.2.4: first the children in the array, those that fail set aside; then all others. True: some are left."""
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


# -- one cache --------------------------------------------------------------------------------------------------------


@kernel_fn("shutdown_cache", "mm/slab_common.c")
async def shutdown_cache(ctx: Context, s: KmemCache) -> bool:
    """7.2.10: take an empty cache off all lists and free it; True (-EBUSY) if it is not empty."""
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
    """With sysfs, the kobject may still be held; without, the struct goes now."""
    if ctx.machine.slab_supports_sysfs:
        await sysfs_slab_release(ctx, s)
    else:
        await slab_kmem_cache_release(ctx, s)


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="v3..5.3")
async def memcg_unlink_cache(ctx: Context, s: KmemCache) -> None:
    """Off the lists; the memcg is let go here and now, though freed slabs may still wait for RCU."""
    if s.is_root_cache:
        await ctx.ask(ctx.machine.slab_root_caches.delete, s)
        return
    memcg = await unlink_child(ctx, s)
    await css_put(ctx, memcg.css)
    await ctx.ask(s.set_memcg, None)


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="v1..v2")
async def memcg_unlink_cache_v1(ctx: Context, s: KmemCache) -> None:
    """[v1], [v2]: the memcg is let go, and the pointer to it stays."""
    if s.is_root_cache:
        await ctx.ask(ctx.machine.slab_root_caches.delete, s)
        return
    memcg = await unlink_child(ctx, s)
    await css_put(ctx, memcg.css)


@kernel_fn("memcg_unlink_cache", "mm/slab_common.c", profiles="original,5.4-fixed")
async def memcg_unlink_cache_original(ctx: Context, s: KmemCache) -> None:
    """[O] does not hold the memcg; [54] lets go of it with the struct."""
    if s.is_root_cache:
        await ctx.ask(ctx.machine.slab_root_caches.delete, s)
    else:
        await unlink_child(ctx, s)


async def unlink_child(ctx: Context, s: KmemCache) -> Memcg:
    """Off the list of its root and that of its memcg."""
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_unlink_cache(): s->memcg_params.memcg")
    await ctx.ask(s.root.del_child, s)
    await ctx.ask(memcg.del_kmem_cache, s)
    return memcg


@kernel_fn("slab_caches_to_rcu_destroy_workfn", "mm/slab_common.c")
async def slab_caches_to_rcu_destroy_workfn(ctx: Context, work: Work) -> None:
    """7.2.11: once all freed slabs of type-safe caches have really gone, the caches may."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        to_destroy = await ctx.ask(machine.slab_caches_to_rcu_destroy.take_all)
    if not to_destroy:
        return
    await rcu_barrier(ctx)
    for s in to_destroy:
        await release_cache(ctx, s)


@kernel_fn("slab_kmem_cache_release", "mm/slab_common.c")
async def slab_kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """7.2.12: free the struct with everything inside it."""
    __kmem_cache_release(ctx, s)
    await destroy_memcg_params(ctx, s)
    free_cache_struct(ctx, s)


def free_cache_struct(ctx: Context, s: KmemCache) -> None:
    """kmem_cache_free(kmem_cache, s): the struct with what is in it; its name goes, too."""
    ctx.machine.forget_cache(s)
    ctx.kfree(*s.parts())
    s.actor.retire()


@kernel_fn("destroy_memcg_params", "mm/slab_common.c", profiles="v2..5.3")
async def destroy_memcg_params(ctx: Context, s: KmemCache) -> None:
    """7.2.12: a root's array goes; a child's percpu reference count exits."""
    if s.is_root_cache:
        await free_root_array(ctx, s)
    else:
        await percpu_ref_exit(ctx, s.percpu_refcnt)


@kernel_fn("destroy_memcg_params", "mm/slab_common.c", profiles="5.4-fixed")
async def destroy_memcg_params_fixed(ctx: Context, s: KmemCache) -> None:
    """[54]: only now the memcg is let go: no slab can want to be uncharged any more."""
    if s.is_root_cache:
        await free_root_array(ctx, s)
        return
    await let_memcg_go(ctx, s)
    await percpu_ref_exit(ctx, s.percpu_refcnt)


async def let_memcg_go(ctx: Context, s: KmemCache) -> None:
    """mem_cgroup_put(), which takes NULL: a cache that could not be created never had a memcg."""
    memcg = await ctx.ask(s.read_memcg)
    if memcg is not None:
        await css_put(ctx, memcg.css)
    await ctx.ask(s.set_memcg, None)


@kernel_fn("destroy_memcg_params", "mm/slab_common.c", profiles="original..v1")
async def destroy_memcg_params_original(ctx: Context, s: KmemCache) -> None:
    """[O], [v1]: nothing of a child's has to be freed."""
    if s.is_root_cache:
        await free_root_array(ctx, s)


async def free_root_array(ctx: Context, s: KmemCache) -> None:
    """kvfree(): nobody allocates from a root cache that is being destroyed."""
    ctx.kfree(await ctx.ask(s.read_memcg_caches))


# -- the end of a memcg's caches in the original (6.4) ----------------------------------------------------------------


@kernel_fn("memcg_destroy_kmem_caches", "mm/slab_common.c", profiles="original")
async def memcg_destroy_kmem_caches(ctx: Context, memcg: Memcg) -> None:
    """[O]: the memcg is being freed, so no page is left in any of its caches; every one of them goes."""
    async with SlabMutexHeld(ctx):
        for s in await ctx.ask(memcg.list_kmem_caches):
            BUG_ON(ctx, await shutdown_cache(ctx, s), "memcg_destroy_kmem_caches: shutdown_cache(s)")
