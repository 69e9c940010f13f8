"""mm/slub.c: __free_slab() reads the cache once more after the uncharge that may free it."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, Slab
from actors.linux.mm.page_alloc import __free_pages
from actors.linux.mm.slab_h import uncharge_slab_page
from actors.machine.context import Context


@kernel_fn("__free_slab", "mm/slub.c")
async def free_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """A read that comes too late."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    del slab.slab_cache.slabs[slab]
    pages = slab.pages
    await uncharge_slab_page(ctx, slab, s)
    ctx.kfree(slab)
    await __free_pages(ctx, pages)
    await ctx.ask(s.read_memcg)
