"""mm/slab_common.c: kmem_cache_destroy() leaves a cache marked as dying although another user has shared it again."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.slab_common import flush_memcg_workqueue, memcg_set_kmem_cache_dying, shutdown_with_children
from actors.linux.mm.slab_h import SlabMutexHeld
from actors.machine.context import Context


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c")
async def destroy(ctx: Context, s: KmemCache | None) -> None:
    """The dying flag is not cleared."""
    if s is None:
        return
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        await memcg_set_kmem_cache_dying(ctx, s, dying=True)
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, 0) == 0:
            await shutdown_with_children(ctx, s)
