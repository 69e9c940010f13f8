"""mm/vmscan.c: shrink_node() ends the walk early without mem_cgroup_iter_break()."""

from actors.api import kernel_fn
from actors.linux.mm.memcontrol import mem_cgroup_iter
from actors.linux.mm.vmscan import ScanControl, shrink_node_memcg, shrink_slab
from actors.machine.context import Context


@kernel_fn("shrink_node", "mm/vmscan.c")
async def shrink(ctx: Context, nid: int, sc: ScanControl) -> None:
    """The reference to the last memcg is never dropped."""
    root = sc.target_mem_cgroup or ctx.machine.root_mem_cgroup
    memcg = await mem_cgroup_iter(ctx, root, None)
    while memcg is not None:
        await shrink_node_memcg(ctx, nid, memcg, sc)
        await shrink_slab(ctx, sc.gfp_mask, nid, memcg, sc.priority)
        if not sc.is_kswapd and sc.nr_reclaimed >= sc.nr_to_reclaim:
            return
        memcg = await mem_cgroup_iter(ctx, root, memcg)
