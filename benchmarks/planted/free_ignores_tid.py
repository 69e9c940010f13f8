"""mm/slub.c: the fast path of kmem_cache_free() does not notice another allocation or free in between."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.linux.mm.slab_h import cache_from_obj
from actors.linux.mm.slub import CMPXCHG_FREELIST, __slab_free, next_tid, this_cpu_slab
from actors.machine.context import Context


@kernel_fn("kmem_cache_free", "mm/slub.c")
async def free(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """A store in place of a compare and exchange."""
    s = await cache_from_obj(ctx, s, obj)
    c = this_cpu_slab(ctx, s)
    freelist = c.freelist
    if c.page is not obj.slab:
        await __slab_free(ctx, s, obj)
        return
    await ctx.this_cpu(c, CMPXCHG_FREELIST)
    c = this_cpu_slab(ctx, s)
    c.freelist = (obj.at, freelist)
    c.tid = next_tid(ctx, c.tid)
