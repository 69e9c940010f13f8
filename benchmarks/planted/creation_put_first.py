"""mm/memcontrol.c: memcg_kmem_cache_create_func() lets go of the memcg before it creates the cache for it."""

from actors.kernel.cgroup import css_put
from actors.kernel.context import Context
from actors.kernel.memcontrol_kmem import MemcgKmemCacheCreateWork
from actors.kernel.patching import kernel_fn
from actors.kernel.slab_create import memcg_create_kmem_cache
from actors.kernel.workqueue import Work


@kernel_fn("memcg_kmem_cache_create_func", "mm/memcontrol.c")
async def create_func(ctx: Context, work: Work) -> None:
    """css_put() comes too early."""
    cw = work.container
    assert isinstance(cw, MemcgKmemCacheCreateWork)
    await css_put(ctx, cw.memcg.css)
    await memcg_create_kmem_cache(ctx, cw.memcg, cw.cachep)
    del ctx.machine.pending_creations[cw]
    ctx.kfree(cw, work)
