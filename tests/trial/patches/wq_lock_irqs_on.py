"""Wrong, v6: the destruction takes memcg_kmem_wq_lock with interrupts on, as if no softirq did."""

from actors.api import Context, KmemCache, SpinLockHeld, flush_workqueue, kernel_fn, rcu_barrier


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush(ctx: Context, s: KmemCache) -> None:
    async with SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
