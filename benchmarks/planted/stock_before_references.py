"""mm/memcontrol.c: try_charge() puts pages into the stock before it takes their css references."""

from actors.api import kernel_fn
from actors.linux.include.swap import try_to_free_mem_cgroup_pages
from actors.linux.kernel.cgroup.cgroup import css_get_many
from actors.linux.mm.memcontrol import (
    MEM_CGROUP_RECLAIM_RETRIES,
    Memcg,
    charge_counters,
    consume_stock,
    drain_all_stock,
    force_charge,
    refill_stock,
)
from actors.linux.mm.vmstat import MEMCG_CHARGE_BATCH
from actors.machine.context import Context
from actors.machine.gfp import Gfp, gfpflags_allow_blocking


@kernel_fn("try_charge", "mm/memcontrol.c")
async def charge(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """css_get_many() is called too late."""
    if memcg.is_root:
        return True
    if await consume_stock(ctx, memcg, nr_pages):
        return True
    batch = max(MEMCG_CHARGE_BATCH, nr_pages)
    retries, drained = MEM_CGROUP_RECLAIM_RETRIES, False
    while (over := await charge_counters(ctx, memcg, batch)) is not None:
        if batch > nr_pages:
            batch = nr_pages
        elif not gfpflags_allow_blocking(gfp):
            return await force_charge(ctx, memcg, gfp, nr_pages)
        elif await try_to_free_mem_cgroup_pages(ctx, over, nr_pages, gfp):
            continue
        elif not drained:
            await drain_all_stock(ctx, over)
            drained = True
        elif Gfp.NORETRY in gfp or not retries:
            return await force_charge(ctx, memcg, gfp, nr_pages)
        else:
            retries -= 1
    if batch > nr_pages:
        await refill_stock(ctx, memcg, batch - nr_pages)
    await css_get_many(ctx, memcg.css, batch)
    return True
