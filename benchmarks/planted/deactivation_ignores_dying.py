"""mm/slab_common.c: kmemcg_cache_deactivate() does not look whether the root is being destroyed."""

from actors.kernel.context import WARN_ON, Context
from actors.kernel.kmem_cache import KmemCache, SlabFlags
from actors.kernel.locks import SpinLockIrqHeld
from actors.kernel.patching import kernel_fn
from actors.kernel.rcu import call_rcu
from actors.kernel.slab_common import kmemcg_cache_deactivate_after_rcu, kmemcg_rcufn
from actors.kernel.slub import __kmemcg_cache_deactivate


@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c")
async def deactivate(ctx: Context, s: KmemCache) -> None:
    """The lock is taken, and nothing is looked at."""
    if WARN_ON(ctx, s.is_root_cache, "kmemcg_cache_deactivate: is_root_cache(s)"):
        return
    await __kmemcg_cache_deactivate(ctx, s)
    await ctx.ask(s.set_flag, SlabFlags.DEACTIVATED)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
        await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)
