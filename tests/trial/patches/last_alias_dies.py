"""Right, original: only the last user of a merged cache marks it as dying."""

from actors.api import Context, KmemCache, kernel_fn
from actors.linux.mm.slab_common import flush_memcg_workqueue, shutdown_with_children
from actors.linux.mm.slab_h import SlabMutexHeld


@kernel_fn("kmem_cache_destroy", "mm/slab_common.c")
async def destroy(ctx: Context, s: KmemCache | None) -> None:
    if s is None:
        return
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        await ctx.ask(s.set_dying, dying=True)
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, 0) != 0:
            await ctx.ask(s.set_dying, dying=False)
        else:
            await shutdown_with_children(ctx, s)
