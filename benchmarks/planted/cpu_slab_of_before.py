"""mm/slub.c: new_slab_objects() uses the cpu slab that it looked up before it slept."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import Chain, KmemCache, KmemCacheCpu
from actors.linux.mm.slub import flush_slab, get_partial, new_slab, this_cpu_slab
from actors.machine.context import WARN_ON, Context
from actors.machine.gfp import Gfp


@kernel_fn("new_slab_objects", "mm/slub.c")
async def new_objects(ctx: Context, s: KmemCache, gfp: Gfp) -> tuple[KmemCacheCpu, Chain]:
    """The task may be on another CPU after new_slab()."""
    WARN_ON(ctx, s.has_ctor and Gfp.ZERO in gfp, "new_slab_objects: s->ctor && (flags & __GFP_ZERO)")
    c = this_cpu_slab(ctx, s)
    freelist = await get_partial(ctx, s, c)
    if freelist is not None:
        return c, freelist
    slab = await new_slab(ctx, s, gfp)
    if slab is None:
        return this_cpu_slab(ctx, s), None
    if c.page is not None:
        await flush_slab(ctx, s, c)
    freelist, slab.freelist = slab.freelist, None
    c.page = slab
    return c, freelist
