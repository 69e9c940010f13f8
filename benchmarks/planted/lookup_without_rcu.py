"""mm/memcontrol.c: memcg_kmem_get_cache() looks the child cache up without rcu_read_lock()."""

from actors.kernel.context import Context
from actors.kernel.kmem_cache import KmemCache
from actors.kernel.memcontrol_kmem import find_child_cache, memcg_kmem_bypass
from actors.kernel.patching import kernel_fn


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c")
async def get_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    """Nothing keeps memcg, array and cache alive in between."""
    if memcg_kmem_bypass(ctx):
        return cachep
    return await find_child_cache(ctx, cachep)
