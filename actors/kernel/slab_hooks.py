"""What happens before and after each allocation, whatever the allocator. mm/slab.h @5.3.1; KERNEL.md 4.1."""

from __future__ import annotations

from actors.kernel.context import Context
from actors.kernel.gfp import Gfp, gfpflags_allow_blocking
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, SlabFlags
from actors.kernel.memcontrol_kmem import memcg_kmem_get_cache, memcg_kmem_put_cache

__GFP_ACCOUNT, SLAB_ACCOUNT = Gfp.ACCOUNT, SlabFlags.ACCOUNT


@kernel_fn("slab_pre_alloc_hook", "mm/slab.h")
async def slab_pre_alloc_hook(ctx: Context, s: KmemCache, gfp: Gfp) -> KmemCache:
    """Choose the cache: accounted allocations are served from the child cache of the task's memcg."""
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("slab_pre_alloc_hook")
    enabled = await ctx.ask(ctx.machine.kmem_enabled.is_enabled)
    if enabled and (__GFP_ACCOUNT in gfp or SLAB_ACCOUNT in s.flags):
        return await memcg_kmem_get_cache(ctx, s)
    return s


@kernel_fn("slab_post_alloc_hook", "mm/slab.h")
async def slab_post_alloc_hook(ctx: Context, s: KmemCache) -> None:
    """Give back what the choice took, if kmem accounting is still on."""
    if await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await memcg_kmem_put_cache(ctx, s)
