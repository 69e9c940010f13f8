"""mm/slab.c: cache_flusharray() does not destroy the surplus free slabs that it has taken off their list."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.slab_def import ArrayCache
from actors.machine.context import Context


@kernel_fn("cache_flusharray", "mm/slab.c")
async def flush_array(ctx: Context, cachep: KmemCache, ac: ArrayCache) -> None:
    """No slabs_destroy()."""
    n = cachep.slab_node[ctx.numa_node]
    async with SpinLockHeld(ctx, n.list_lock):
        if not await ctx.ask(n.take_shared, ac):
            await ctx.ask(n.free_block, ac.take_oldest(ac.batchcount))
