"""mm/memcontrol.c: memcg_kmem_charge_memcg() fails at the kmem limit and keeps its charge to the memory counter."""

from actors.api import kernel_fn
from actors.linux.mm.memcontrol import Memcg, try_charge
from actors.linux.mm.page_counter import page_counter_try_charge
from actors.machine.context import Context
from actors.machine.gfp import Gfp


@kernel_fn("memcg_kmem_charge_memcg", "mm/memcontrol.c")
async def kmem_charge(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """No cancel_charge()."""
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return True
    if not await try_charge(ctx, memcg, gfp, nr_pages):
        return False
    return memcg.kmem is None or await page_counter_try_charge(ctx, memcg.kmem, nr_pages) is None
