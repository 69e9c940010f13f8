"""Right, 5.3: the destruction also waits for the callbacks that its flush has made."""

from actors.api import Context, KmemCache, flush_workqueue, kernel_fn, rcu_barrier, unpatched
from actors.linux.mm.slab_common import flush_memcg_workqueue


@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush_and_wait(ctx: Context, s: KmemCache) -> None:
    await unpatched(ctx, flush_memcg_workqueue, s)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)
