"""mm/vmscan.c: shrink_slab_memcg() clears the bit of a shrinker that found nothing, without a second count."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import down_read_trylock, up_read
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_online
from actors.linux.mm.vmscan import SHRINK_EMPTY, ShrinkControl, do_shrink_slab
from actors.machine.context import Context
from actors.machine.gfp import Gfp


@kernel_fn("shrink_slab_memcg", "mm/vmscan.c")
async def shrink_memcg(ctx: Context, gfp_mask: Gfp, nid: int, memcg: Memcg, priority: int) -> int:
    """An item that is added between the count and the clearing is missed."""
    is_enabled = await ctx.ask(ctx.machine.kmem_enabled.is_enabled)
    if not is_enabled or not await mem_cgroup_online(ctx, memcg):
        return 0
    shrinkers = ctx.machine.shrinkers
    if not await down_read_trylock(ctx, shrinkers.rwsem):
        return 0
    freed, bit = 0, await ctx.ask(memcg.find_next_shrinker_bit, nid, -1)
    while bit is not None:
        shrinker = await ctx.ask(shrinkers.find, bit)
        if shrinker is not None:
            ret = await do_shrink_slab(ctx, ShrinkControl(gfp_mask, nid, memcg), shrinker, priority)
            if ret == SHRINK_EMPTY:
                await ctx.ask(memcg.clear_shrinker_bit, nid, shrinker.id)
                ret = 0
            freed += ret
            if await ctx.ask(shrinkers.rwsem.is_contended):
                freed = freed or 1
                break
        bit = await ctx.ask(memcg.find_next_shrinker_bit, nid, bit)
    await up_read(ctx, shrinkers.rwsem)
    return freed
