"""Wrong, original: the flush of the works does not wait for the callbacks that queue them."""

from actors.api import Context, KmemCache, MutexHeld, flush_workqueue, kernel_fn


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush(ctx: Context, s: KmemCache) -> None:
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await ctx.ask(s.set_dying, dying=True)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
