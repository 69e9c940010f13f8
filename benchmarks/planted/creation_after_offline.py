"""mm/slab_common.c: memcg_create_kmem_cache() does not check whether the memcg is still online."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.slab_common import create_child
from actors.linux.mm.slab_h import SlabMutexHeld
from actors.machine.context import Context


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c")
async def create(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """No test of kmem_state."""
    async with SlabMutexHeld(ctx):
        await create_child(ctx, memcg, root_cache)
