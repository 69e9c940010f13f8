"""mm/slab_common.c: memcg_set_kmem_cache_dying() marks the cache without memcg_kmem_wq_lock."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache
from actors.machine.context import Context


@kernel_fn("memcg_set_kmem_cache_dying", "mm/slab_common.c")
async def set_dying(ctx: Context, s: KmemCache, *, dying: bool) -> None:
    """No spin_lock_irq()."""
    await ctx.ask(s.set_dying, dying)
