"""mm/slab_common.c: kmemcg_cache_deactivate() does not check whether the root is being destroyed."""

from actors.api import kernel_fn
from actors.linux.include.slab import SlabFlags
from actors.linux.kernel.locking.locks import SpinLockIrqHeld
from actors.linux.kernel.rcu.tree import call_rcu
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.slab_common import kmemcg_cache_deactivate_after_rcu, kmemcg_rcufn
from actors.linux.mm.slub import __kmemcg_cache_deactivate
from actors.machine.context import WARN_ON, Context


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c")
async def deactivate(ctx: Context, s: KmemCache) -> None:
    """The lock is taken, but the dying flag is not read."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: is_root_cache(s)"):
        return
    await __kmemcg_cache_deactivate(ctx, s)
    await ctx.ask(s.set_flag, SlabFlags.DEACTIVATED)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
        await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)
