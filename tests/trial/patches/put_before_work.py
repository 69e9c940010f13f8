"""Wrong, original: the reference to the memcg is dropped before the work that needs the memcg's cache."""

from actors.api import Context, Work, deref, kernel_fn
from actors.linux.kernel.cgroup.cgroup import css_put
from actors.linux.mm.kmem_cache import cache_of
from actors.linux.mm.slab_common import call_work_fn
from actors.linux.mm.slab_h import SlabMutexHeld


@kernel_fn("kmemcg_workfn", "mm/slab_common.c")
async def put_then_run(ctx: Context, work: Work) -> None:
    s = cache_of(work.container)
    memcg = deref(await ctx.ask(s.read_memcg), "kmemcg_deactivate_workfn(): s->memcg_params.memcg")
    await css_put(ctx, memcg.css)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
