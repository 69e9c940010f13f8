"""Wrong, 5.3: the callbacks that queue works are waited for after the flush of the works."""

from actors.api import Context, KmemCache, SpinLockIrqHeld, flush_workqueue, kernel_fn, rcu_barrier


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush(ctx: Context, s: KmemCache) -> None:
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
    await rcu_barrier(ctx)
