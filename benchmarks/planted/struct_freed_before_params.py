"""mm/slab_common.c: create_cache() frees the struct before its memcg_params when the cache cannot be set up."""

from collections.abc import Callable

from actors.api import kernel_fn
from actors.linux.include.slab import kmalloc
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.slab_common import destroy_memcg_params, free_cache_struct, init_memcg_params, memcg_link_cache
from actors.linux.mm.slub import __kmem_cache_create
from actors.machine.context import Context
from actors.machine.errno import ENOMEM
from actors.machine.gfp import GFP_KERNEL


@kernel_fn("create_cache", "mm/slab_common.c")
async def create(ctx: Context, zalloc: Callable[[], KmemCache], memcg: Memcg | None) -> KmemCache | int:
    """The error path frees in the wrong order."""
    if not kmalloc(ctx, GFP_KERNEL, "kmem_cache"):
        return -ENOMEM
    s = zalloc()
    err = init_memcg_params(ctx, s)
    if err:
        free_cache_struct(ctx, s)
        return err
    err = await __kmem_cache_create(ctx, s)
    if err:
        free_cache_struct(ctx, s)
        await destroy_memcg_params(ctx, s)
        return err
    await ctx.ask(ctx.machine.slab_caches.add, s)
    await memcg_link_cache(ctx, s, memcg)
    return s
