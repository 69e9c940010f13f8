"""mm/slab.c: kmem_getpages() does not free the pages if they cannot be charged."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, Slab
from actors.linux.mm.new_cache import make_slab
from actors.linux.mm.page_alloc import alloc_pages
from actors.linux.mm.slab_h import charge_slab_page
from actors.machine.context import Context
from actors.machine.gfp import Gfp


@kernel_fn("kmem_getpages", "mm/slab.c")
async def getpages(ctx: Context, cachep: KmemCache, gfp: Gfp) -> Slab | None:
    """No __free_pages() when the memcg is full."""
    nid = ctx.numa_node
    if not await alloc_pages(ctx, gfp, 1 << cachep.order):
        return None
    slab = make_slab(ctx, cachep, cachep.order, cachep.objects, nid)
    slab.inuse, slab.frozen = 0, False
    if not await charge_slab_page(ctx, slab, gfp, cachep):
        return None
    cachep.slabs[slab] = None
    return slab
