"""Wrong, v6: the release takes memcg_kmem_wq_lock with interrupts on, as if no softirq did."""

from actors.api import Context, PercpuRef, SpinLockHeld, kernel_fn
from actors.linux.mm.kmem_cache import cache_of
from actors.linux.mm.slab_common import kmemcg_cache_shutdown_fn, queue_cache_work


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c")
async def queue_shutdown(ctx: Context, ref: PercpuRef) -> None:
    s = cache_of(ref.container)
    async with SpinLockHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
            await queue_cache_work(ctx, s)
