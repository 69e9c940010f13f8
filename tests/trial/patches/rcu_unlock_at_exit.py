"""Right, v4: memcg_kmem_get_cache() leaves the RCU section that it has entered."""

from actors.api import Context, KmemCache, kernel_fn
from actors.linux.mm.memcontrol import find_child_cache, memcg_kmem_bypass


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c")
async def get_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    if memcg_kmem_bypass(ctx):
        return cachep
    with ctx.rcu_read_section:
        return await find_child_cache(ctx, cachep)
