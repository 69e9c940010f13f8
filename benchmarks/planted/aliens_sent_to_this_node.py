"""mm/slab.c: __drain_alien_cache() puts the objects of another node onto the lists of this node."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.linux.mm.kmem_cache import KmemCache, Slab
from actors.linux.mm.slab_def import ALIEN_LIMIT, AlienCache
from actors.machine.context import Context


@kernel_fn("__drain_alien_cache", "mm/slab.c")
async def drain_alien(ctx: Context, cachep: KmemCache, alien: AlienCache) -> list[Slab]:
    """Uses numa_node_id() instead of the array's node."""
    n = cachep.slab_node[ctx.numa_node]
    if not alien.array.entries:
        return []
    async with SpinLockHeld(ctx, n.list_lock):
        room = n.shared.limit - len(n.shared.entries) if n.shared is not None else 0
        if n.shared is not None:
            n.shared.entries += alien.array.take_oldest(room)
        return await ctx.ask(n.free_block, alien.array.take_oldest(ALIEN_LIMIT))
