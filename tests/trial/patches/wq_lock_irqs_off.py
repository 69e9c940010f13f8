"""Right, v5: memcg_kmem_wq_lock, which softirqs take, is taken with interrupts off everywhere."""

from actors.api import (
    Context,
    KmemCache,
    MutexHeld,
    PercpuRef,
    SpinLockIrqHeld,
    flush_workqueue,
    kernel_fn,
    rcu_barrier,
)
from actors.linux.mm.kmem_cache import cache_of
from actors.linux.mm.slab_common import queue_shutdown_after_rcu


@kernel_fn("kmemcg_cache_shutdown", "mm/slab_common.c")
async def queue_shutdown(ctx: Context, ref: PercpuRef) -> None:
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await queue_shutdown_after_rcu(ctx, cache_of(ref.container))


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush(ctx: Context, s: KmemCache) -> None:
    async with MutexHeld(ctx, ctx.machine.slab_mutex), SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
