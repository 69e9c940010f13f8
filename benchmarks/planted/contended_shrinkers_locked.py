"""mm/vmscan.c: shrink_slab() returns early for a waiting writer without releasing shrinker_rwsem."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import down_read_trylock, up_read
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.vmscan import SHRINK_EMPTY, ShrinkControl, do_shrink_slab, shrink_slab_memcg
from actors.machine.context import Context
from actors.machine.gfp import Gfp


@kernel_fn("shrink_slab", "mm/vmscan.c")
async def shrink(ctx: Context, gfp_mask: Gfp, nid: int, memcg: Memcg, priority: int) -> int:
    """A return in place of a break."""
    if not memcg.is_root:
        return await shrink_slab_memcg(ctx, gfp_mask, nid, memcg, priority)
    shrinkers = ctx.machine.shrinkers
    if not await down_read_trylock(ctx, shrinkers.rwsem):
        return 0
    freed = 0
    for shrinker in await ctx.ask(shrinkers.list):
        ret = await do_shrink_slab(ctx, ShrinkControl(gfp_mask, nid, memcg), shrinker, priority)
        freed += 0 if ret == SHRINK_EMPTY else ret
        if await ctx.ask(shrinkers.rwsem.is_contended):
            return freed or 1
    await up_read(ctx, shrinkers.rwsem)
    return freed
