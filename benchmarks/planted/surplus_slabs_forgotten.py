"""mm/slab.c: cache_flusharray() does not destroy the free slabs that are too many, though they are off their list."""

from actors.kernel.context import Context
from actors.kernel.kmem_cache import KmemCache
from actors.kernel.locks import SpinLockHeld
from actors.kernel.patching import kernel_fn
from actors.kernel.slab_def import ArrayCache


@kernel_fn("cache_flusharray", "mm/slab.c")
async def flush_array(ctx: Context, cachep: KmemCache, ac: ArrayCache) -> None:
    """No slabs_destroy()."""
    n = cachep.slab_node[ctx.numa_node]
    async with SpinLockHeld(ctx, n.list_lock):
        if not await ctx.ask(n.take_shared, ac):
            await ctx.ask(n.free_block, ac.take_oldest(ac.batchcount))
