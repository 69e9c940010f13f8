"""mm/slab_common.c: as in 6.1: a work releases type-safe caches; the flags are read under slab_mutex (d71608a877)."""

from actors.api import Context, KmemCache, MutexHeld, SlabFlags, Work, kernel_fn, queue_work, rcu_barrier
from actors.linux.include.rcupdate import kvfree_rcu_barrier
from actors.linux.mm.slab_common import CachesLocked, warn_of_objects
from actors.linux.mm.slab_h import __kmem_cache_shutdown, sysfs_slab_release, sysfs_slab_unlink


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c")
async def kmem_cache_destroy(ctx: Context, s: KmemCache | None) -> None:
    """As in 6.1: a type-safe cache is left to the work."""
    if s is None:
        return
    await kvfree_rcu_barrier(ctx)
    async with CachesLocked(ctx):
        is_typesafe = SlabFlags.TYPESAFE_BY_RCU in s.flags
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        if warn_of_objects(ctx, s, failed=await shutdown_cache(ctx, s)):
            return
    if not is_typesafe:
        await release(ctx, s)


async def shutdown_cache(ctx: Context, s: KmemCache) -> bool:
    """Take an empty cache off the list; a work releases a type-safe one. KERNEL-today 17.3."""
    machine = ctx.machine
    if await __kmem_cache_shutdown(ctx, s):
        return True
    await ctx.ask(machine.slab_caches.delete, s)
    if SlabFlags.TYPESAFE_BY_RCU in s.flags:
        await ctx.ask(machine.slab_caches_to_rcu_destroy.add, s)
        work = Work(machine.slab_caches.actor, machine.slab_caches_to_rcu_destroy)
        work.init_work(slab_caches_to_rcu_destroy_workfn)
        await queue_work(ctx, machine.system_wq, work)
    return False


async def slab_caches_to_rcu_destroy_workfn(ctx: Context, _work: Work) -> None:
    """Release all type-safe caches that wait, after rcu_barrier()."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        to_destroy = await ctx.ask(machine.slab_caches_to_rcu_destroy.take_all)
    if to_destroy:
        await rcu_barrier(ctx)
        for s in to_destroy:
            await release(ctx, s)


async def release(ctx: Context, s: KmemCache) -> None:
    """kmem_cache_release()."""
    await sysfs_slab_unlink(ctx, s)
    await sysfs_slab_release(ctx, s)
