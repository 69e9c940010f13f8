"""mm/slab.c: kmem_freepages() touches the cache once more after the uncharge that may free it."""

from actors.kernel.context import Context
from actors.kernel.kmem_cache import KmemCache, Slab
from actors.kernel.page_alloc import __free_pages
from actors.kernel.patching import kernel_fn
from actors.kernel.slab_h import uncharge_slab_page


@kernel_fn("kmem_freepages", "mm/slab.c")
async def freepages(ctx: Context, cachep: KmemCache, slab: Slab) -> None:
    """Two reads that come too late."""
    del cachep.slabs[slab]
    pages = slab.pages
    await uncharge_slab_page(ctx, slab, cachep)
    ctx.kfree(slab)
    await ctx.ask(cachep.root.read_dying)
    await ctx.ask(cachep.read_memcg)
    await __free_pages(ctx, pages)
