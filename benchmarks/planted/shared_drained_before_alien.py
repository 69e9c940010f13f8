"""mm/slab.c: drain_cpu_caches() drains the shared arrays before the alien ones, which refill them."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import SpinLockIrqHeld
from actors.linux.kernel.smp import on_each_cpu_mask
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.slab import __drain_alien_cache, do_drain, drain_array_locked, slabs_destroy
from actors.machine.context import Context


@kernel_fn("drain_cpu_caches", "mm/slab.c")
async def drain_caches(ctx: Context, cachep: KmemCache) -> None:
    """The two loops over the nodes are in the wrong order."""

    async def handler(ctx: Context) -> None:
        await do_drain(ctx, cachep)

    with ctx.preempt_section:
        await on_each_cpu_mask(ctx, range(len(ctx.machine.cpus)), handler)
    for n in cachep.slab_node:
        async with SpinLockIrqHeld(ctx, n.list_lock):
            surplus = await drain_array_locked(ctx, n, n.shared, free_all=True)
        await slabs_destroy(ctx, cachep, surplus)
    for n in cachep.slab_node:
        for alien in n.alien.values():
            async with SpinLockIrqHeld(ctx, alien.lock):
                surplus = await __drain_alien_cache(ctx, cachep, alien)
            await slabs_destroy(ctx, cachep, surplus)
