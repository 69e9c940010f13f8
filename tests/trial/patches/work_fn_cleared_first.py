"""Right, v7: work_fn is cleared before the work that may free the cache."""

from actors.api import Context, Work, deref, kernel_fn
from actors.linux.mm.kmem_cache import cache_of
from actors.linux.mm.slab_h import SlabMutexHeld


@kernel_fn("kmemcg_workfn", "mm/slab_common.c")
async def run_work_fn(ctx: Context, work: Work) -> None:
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        work_fn = deref(await ctx.ask(s.read_work_fn), "kmemcg_workfn(): s->memcg_params.work_fn")
        await ctx.ask(s.set_work_fn, None)
        await work_fn(ctx, s)
