"""Wrong, v5: the reference to the child cache is taken after the RCU section that found it."""

from actors.api import Context, KmemCache, kernel_fn
from actors.linux.lib.percpu_refcount import percpu_ref_tryget
from actors.linux.mm.memcontrol import get_memcg, memcg_kmem_bypass, memcg_schedule_kmem_cache_create, read_entry


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c")
async def get_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    if memcg_kmem_bypass(ctx):
        return cachep
    with ctx.rcu_read_section:
        memcg = await get_memcg(ctx)
        if memcg is None or memcg.is_root or (kmemcg_id := await ctx.ask(memcg.read_kmemcg_id)) < 0:
            return cachep
        child = await read_entry(ctx, cachep, kmemcg_id)
        if child is None:
            await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
            return cachep
    if not await percpu_ref_tryget(ctx, child.percpu_refcnt):
        return cachep
    child.begin_allocation(ctx)
    return child
