"""mm/memcontrol.c: memcg_offline_kmem() frees the kmemcg_id before the LRU lists of this id are moved."""

from actors.api import kernel_fn
from actors.linux.include.list_lru import memcg_drain_all_list_lrus
from actors.linux.include.slab import memcg_deactivate_kmem_caches
from actors.linux.mm.memcontrol import KmemState, Memcg, memcg_free_cache_id
from actors.machine.context import BUG_ON, Context


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c")
async def offline(ctx: Context, memcg: Memcg) -> None:
    """Steps 6 and 7 are exchanged."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    await memcg_deactivate_kmem_caches(ctx, memcg, parent)
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    BUG_ON(ctx, kmemcg_id < 0, "memcg_offline_kmem: kmemcg_id < 0")
    with ctx.rcu_read_section:
        for child in await ctx.ask(memcg.list_subtree):
            child_id = await ctx.ask(child.read_kmemcg_id)
            BUG_ON(ctx, child_id != kmemcg_id, "memcg_offline_kmem: child->kmemcg_id != kmemcg_id")
            await ctx.ask(child.set_kmemcg_id, await ctx.ask(parent.read_kmemcg_id))
    await memcg_free_cache_id(ctx, kmemcg_id)
    await memcg_drain_all_list_lrus(ctx, kmemcg_id, parent)
