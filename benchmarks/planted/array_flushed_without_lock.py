"""mm/slab.c: do_drain() puts objects back into their slabs without the node's list_lock."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.slab import cpu_cache_get, slabs_destroy
from actors.machine.context import Context


@kernel_fn("do_drain", "mm/slab.c")
async def drain(ctx: Context, cachep: KmemCache) -> None:
    """No spin_lock()."""
    ac = cpu_cache_get(ctx, cachep)
    n = cachep.slab_node[ctx.numa_node]
    surplus = await ctx.ask(n.free_block, ac.take_oldest(len(ac.entries)))
    await slabs_destroy(ctx, cachep, surplus)
