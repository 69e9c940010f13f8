"""mm/slab_common.c: memcg_create_kmem_cache() does not look whether the memcg is still online."""

from actors.kernel.context import Context
from actors.kernel.kmem_cache import KmemCache
from actors.kernel.memcontrol import Memcg
from actors.kernel.patching import kernel_fn
from actors.kernel.slab_create import create_child
from actors.kernel.slab_mutex import SlabMutexHeld


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c")
async def create(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """No test of kmem_state."""
    async with SlabMutexHeld(ctx):
        await create_child(ctx, memcg, root_cache)
