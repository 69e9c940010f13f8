"""mm/slab.c: cache_alloc_refill() continues with the array that it looked up before it slept."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.linux.mm.slab import cache_grow_begin, cache_grow_end, cpu_cache_get
from actors.linux.mm.slab_def import BATCHREFILL_LIMIT, THIS_CPU_ARRAY, alloc_block
from actors.machine.context import BUG_ON, Context
from actors.machine.gfp import Gfp


@kernel_fn("cache_alloc_refill", "mm/slab.c")
async def refill(ctx: Context, cachep: KmemCache, gfp: Gfp) -> SlabObject | None:
    """No second cpu_cache_get() after cache_grow_begin()."""
    ac = cpu_cache_get(ctx, cachep)
    batchcount = ac.batchcount if ac.touched else min(ac.batchcount, BATCHREFILL_LIMIT)
    BUG_ON(ctx, ac.entries, "cache_alloc_refill: ac->avail > 0")
    n = cachep.slab_node[ctx.numa_node]
    if await ctx.ask(n.has_free_objects):
        async with SpinLockHeld(ctx, n.list_lock):
            await ctx.ask(n.refill, ac, batchcount)
    if not ac.entries:
        slab = await cache_grow_begin(ctx, cachep, gfp)
        await ctx.this_cpu(cachep, THIS_CPU_ARRAY)
        if slab is not None:
            if not ac.entries:
                alloc_block(ac, slab, batchcount)
            await cache_grow_end(ctx, cachep, slab)
        if not ac.entries:
            return None
    ac.touched = True
    return ac.pop()
