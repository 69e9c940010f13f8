"""mm/slab_common.c: memcg_update_all_caches() frees the old arrays while readers may still read them."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import MutexHeld
from actors.machine.context import Context


@kernel_fn("memcg_update_all_caches", "mm/slab_common.c")
async def update(ctx: Context, num_memcgs: int) -> None:
    """kvfree(), not call_rcu()."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        for root in await ctx.ask(machine.slab_root_caches.list):
            old = await ctx.ask(root.read_memcg_caches)
            await ctx.ask(root.set_memcg_caches, old.grown(num_memcgs, ctx.machine.memcg_nr_cache_ids))
            ctx.kfree(old)
