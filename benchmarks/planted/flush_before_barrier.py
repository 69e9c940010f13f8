"""mm/slab_common.c: flush_memcg_workqueue() flushes the queue before it waits for the callbacks that queue works."""

from actors.api import kernel_fn
from actors.linux.kernel.rcu.tree import rcu_barrier
from actors.linux.kernel.workqueue import flush_workqueue
from actors.linux.mm.kmem_cache import KmemCache
from actors.machine.context import Context


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush_queue(ctx: Context, s: KmemCache) -> None:
    """The two waits are in the wrong order."""
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
    await rcu_barrier(ctx)
    if await ctx.ask(s.list_children):
        await rcu_barrier(ctx)
