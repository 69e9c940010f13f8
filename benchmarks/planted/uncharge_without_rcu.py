"""mm/slab.h: memcg_uncharge_slab() uses the cache's memcg without rcu_read_lock()."""

from actors.api import kernel_fn
from actors.linux.lib.percpu_refcount import percpu_ref_put_many
from actors.linux.mm.kmem_cache import KmemCache, Slab
from actors.linux.mm.memcontrol import memcg_kmem_uncharge_memcg, mod_lruvec_state
from actors.linux.mm.vmstat import mod_node_page_state
from actors.machine.context import Context, deref


@kernel_fn("memcg_uncharge_slab", "mm/slab.h")
async def uncharge(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """The cache may be reparented and the memcg freed in between."""
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_uncharge_slab(): s->memcg_params.memcg")
    if memcg.is_root:
        await mod_node_page_state(ctx, slab.nid, s.stat_item, -slab.pages)
    else:
        await mod_lruvec_state(ctx, memcg, slab.nid, s.stat_item, -slab.pages)
        await memcg_kmem_uncharge_memcg(ctx, memcg, slab.pages)
    s.charged_pages -= slab.pages
    await percpu_ref_put_many(ctx, s.percpu_refcnt, slab.pages)
