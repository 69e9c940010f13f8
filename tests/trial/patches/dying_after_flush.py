"""Wrong, 5.4-fixed: a root cache is marked as dying after the flush, so works may be queued in between."""

from actors.api import Context, KmemCache, kernel_fn
from actors.linux.mm.slab_common import flush_memcg_workqueue, memcg_set_kmem_cache_dying, shutdown_with_children
from actors.linux.mm.slab_h import SlabMutexHeld


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c")
async def destroy(ctx: Context, s: KmemCache | None) -> None:
    if s is None:
        return
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) == 0:
            await memcg_set_kmem_cache_dying(ctx, s, dying=True)
            await shutdown_with_children(ctx, s)
