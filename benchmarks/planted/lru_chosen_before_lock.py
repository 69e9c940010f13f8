"""mm/list_lru.c: list_lru_add() looks for the memcg's list before it has the lock."""

from actors.kernel.context import Context
from actors.kernel.list_lru import ListLru, LruItem, list_lru_from_kmem
from actors.kernel.locks import SpinLockHeld
from actors.kernel.memcontrol import memcg_set_shrinker_bit
from actors.kernel.patching import kernel_fn


@kernel_fn("list_lru_add", "mm/list_lru.c")
async def add(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """By the time of the lock it may be the list of a memcg that is offline."""
    node = lru.nodes[item.obj.slab.nid]
    one, memcg = await list_lru_from_kmem(ctx, node, item)
    async with SpinLockHeld(ctx, node.lock):
        if await ctx.ask(node.is_linked, item):
            return False
        if await ctx.ask(node.add, item, one):
            await memcg_set_shrinker_bit(ctx, memcg, node.nid, lru.shrinker_id)
        return True
