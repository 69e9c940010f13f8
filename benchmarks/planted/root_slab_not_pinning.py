"""mm/slab.h: memcg_charge_slab() takes no reference to a cache that belongs to the root by now."""

from actors.kernel.context import Context
from actors.kernel.gfp import Gfp
from actors.kernel.kmem_cache import KmemCache, Slab
from actors.kernel.patching import kernel_fn
from actors.kernel.slab_h import charge_memcg, first_online_memcg
from actors.kernel.vmstat import mod_node_page_state


@kernel_fn("memcg_charge_slab", "mm/slab.h")
async def charge(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """No percpu_ref_get_many() where nothing is charged."""
    memcg = await first_online_memcg(ctx, s)
    if memcg is None or memcg.is_root:
        await mod_node_page_state(ctx, slab.nid, s.stat_item, slab.pages)
        s.charged_pages += slab.pages  # the model's own
        return True
    return await charge_memcg(ctx, slab, gfp, s, memcg)
