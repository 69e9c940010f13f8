"""mm/list_lru.c: list_lru_add() looks up the memcg's list before it takes the lock."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.linux.mm.list_lru import ListLru, LruItem, list_lru_from_kmem
from actors.linux.mm.memcontrol import memcg_set_shrinker_bit
from actors.machine.context import Context


@kernel_fn("list_lru_add", "mm/list_lru.c")
async def add(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """When the lock is taken, the list may belong to an offline memcg."""
    node = lru.nodes[item.obj.slab.nid]
    one, memcg = await list_lru_from_kmem(ctx, node, item)
    async with SpinLockHeld(ctx, node.lock):
        if await ctx.ask(node.is_linked, item):
            return False
        if await ctx.ask(node.add, item, one):
            await memcg_set_shrinker_bit(ctx, memcg, node.nid, lru.shrinker_id)
        return True
