"""mm/slab_common.c: as up to 6.0-rc4: the directory in sysfs is removed under slab_mutex (before 0495e337b703)."""

from actors.api import Context, KmemCache, SlabFlags, kernel_fn, rcu_barrier
from actors.linux.include.rcupdate import kvfree_rcu_barrier
from actors.linux.mm.slab_common import CachesLocked, warn_of_objects
from actors.linux.mm.slab_h import __kmem_cache_shutdown, sysfs_slab_release, sysfs_slab_unlink


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c")
async def kmem_cache_destroy(ctx: Context, s: KmemCache | None) -> None:
    """Wait for the readers of the cache's files with cpu_hotplug_lock and slab_mutex held."""
    if s is None:
        return
    await kvfree_rcu_barrier(ctx)
    async with CachesLocked(ctx):
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        failed = await __kmem_cache_shutdown(ctx, s)
        warn_of_objects(ctx, s, failed=failed)
        await ctx.ask(ctx.machine.slab_caches.delete, s)
        await sysfs_slab_unlink(ctx, s)
    if failed:
        return
    if SlabFlags.TYPESAFE_BY_RCU in s.flags:
        await rcu_barrier(ctx)
    await sysfs_slab_release(ctx, s)
