"""mm/slab.h: memcg_uncharge_slab() uses the cache's memcg without rcu_read_lock()."""

from actors.kernel.context import Context, deref
from actors.kernel.kmem_cache import KmemCache, Slab
from actors.kernel.memcontrol import memcg_kmem_uncharge_memcg
from actors.kernel.patching import kernel_fn
from actors.kernel.percpu_ref import percpu_ref_put_many
from actors.kernel.vmstat import mod_lruvec_state, mod_node_page_state


@kernel_fn("memcg_uncharge_slab", "mm/slab.h")
async def uncharge(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """The memcg may be reparented, and freed, in between."""
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_uncharge_slab(): s->memcg_params.memcg")
    if memcg.is_root:
        await mod_node_page_state(ctx, slab.nid, s.stat_item, -slab.pages)
    else:
        await mod_lruvec_state(ctx, memcg, slab.nid, s.stat_item, -slab.pages)
        await memcg_kmem_uncharge_memcg(ctx, memcg, slab.pages)
    s.charged_pages -= slab.pages
    await percpu_ref_put_many(ctx, s.percpu_refcnt, slab.pages)
