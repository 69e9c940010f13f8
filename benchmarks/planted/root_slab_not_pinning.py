"""mm/slab.h: memcg_charge_slab() takes no reference to a cache that has been reparented to the root."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, Slab
from actors.linux.mm.slab_h import charge_memcg, first_online_memcg
from actors.linux.mm.vmstat import mod_node_page_state
from actors.machine.context import Context
from actors.machine.gfp import Gfp


@kernel_fn("memcg_charge_slab", "mm/slab.h")
async def charge(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """No percpu_ref_get_many() in the branch without a charge."""
    memcg = await first_online_memcg(ctx, s)
    if memcg is None or memcg.is_root:
        await mod_node_page_state(ctx, slab.nid, s.stat_item, slab.pages)
        s.charged_pages += slab.pages  # shadow accounting of the model
        return True
    return await charge_memcg(ctx, slab, gfp, s, memcg)
