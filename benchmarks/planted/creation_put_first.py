"""mm/memcontrol.c: memcg_kmem_cache_create_func() drops the memcg before it creates the cache for it."""

from actors.api import kernel_fn
from actors.linux.include.slab import memcg_create_kmem_cache
from actors.linux.kernel.cgroup.cgroup import css_put
from actors.linux.kernel.workqueue import Work
from actors.linux.mm.memcontrol import MemcgKmemCacheCreateWork
from actors.machine.context import Context


@kernel_fn("memcg_kmem_cache_create_func", "mm/memcontrol.c")
async def create_func(ctx: Context, work: Work) -> None:
    """css_put() is called too early."""
    cw = work.container
    assert isinstance(cw, MemcgKmemCacheCreateWork)
    await css_put(ctx, cw.memcg.css)
    await memcg_create_kmem_cache(ctx, cw.memcg, cw.cachep)
    del ctx.machine.pending_creations[cw]
    ctx.kfree(cw, work)
