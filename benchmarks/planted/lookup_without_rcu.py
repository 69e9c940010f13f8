"""mm/memcontrol.c: memcg_kmem_get_cache() looks the child cache up without rcu_read_lock()."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.memcontrol import find_child_cache, memcg_kmem_bypass
from actors.machine.context import BUG_ON, Context


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c")
async def get_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    """Memcg, array and cache may be freed during the lookup."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    return await find_child_cache(ctx, cachep)
