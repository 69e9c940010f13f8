"""mm/slab.c: kmem_cache_free_bulk() puts objects of child caches into the arrays of the cache that it was given."""

from collections.abc import Iterable

from actors.kernel.context import Context
from actors.kernel.kmem_cache import KmemCache, SlabObject
from actors.kernel.patching import kernel_fn
from actors.kernel.slab import ___cache_free
from actors.kernel.slab_h import cache_from_obj


@kernel_fn("kmem_cache_free_bulk", "mm/slab.c")
async def free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """What cache_from_obj() says is not used."""
    with ctx.irq_section:
        for obj in objects:
            await cache_from_obj(ctx, s, obj)
            await ___cache_free(ctx, s, obj)
