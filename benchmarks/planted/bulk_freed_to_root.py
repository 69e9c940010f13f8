"""mm/slab.c: kmem_cache_free_bulk() puts objects of child caches into the arrays of the root cache."""

from collections.abc import Iterable

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.linux.mm.slab import ___cache_free
from actors.linux.mm.slab_h import cache_from_obj
from actors.machine.context import Context


@kernel_fn("kmem_cache_free_bulk", "mm/slab.c")
async def free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """The result of cache_from_obj() is not used."""
    with ctx.irq_section:
        for obj in objects:
            await cache_from_obj(ctx, s, obj)
            await ___cache_free(ctx, s, obj)
