"""mm/slub.c: get_partial_node() reads the partial list before it takes list_lock."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import spin_lock, spin_unlock
from actors.linux.mm.kmem_cache import Chain, KmemCache, KmemCacheCpu, KmemCacheNode
from actors.linux.mm.slub import acquire_slab, put_cpu_partial
from actors.machine.context import Context


@kernel_fn("get_partial_node", "mm/slub.c")
async def get_from_node(ctx: Context, s: KmemCache, n: KmemCacheNode, c: KmemCacheCpu) -> Chain:
    """The walk begins before spin_lock()."""
    if not await ctx.ask(n.read_nr_partial):
        return None
    found: Chain = None
    available = 0
    slabs = await ctx.ask(n.list_partial)
    await spin_lock(ctx, n.list_lock)
    for slab in slabs:
        taken = await acquire_slab(ctx, n, slab, as_cpu_slab=found is None)
        if taken is None:
            break
        available += slab.objects - taken.inuse
        if found is None:
            c.page, found = slab, taken.freelist
        else:
            await put_cpu_partial(ctx, s, slab, drain=False)
        if available > await ctx.ask(s.cpu_partial.read, c.cpu) // 2:
            break
    await spin_unlock(ctx, n.list_lock)
    return found
