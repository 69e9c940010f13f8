"""mm/slab_common.c: memcg_set_kmem_cache_dying() marks the cache without memcg_kmem_wq_lock."""

from actors.kernel.context import Context
from actors.kernel.kmem_cache import KmemCache
from actors.kernel.patching import kernel_fn


@kernel_fn("memcg_set_kmem_cache_dying", "mm/slab_common.c")
async def set_dying(ctx: Context, s: KmemCache, *, dying: bool) -> None:
    """No spin_lock_irq()."""
    await ctx.ask(s.set_dying, dying)
