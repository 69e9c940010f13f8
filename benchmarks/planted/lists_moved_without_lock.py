"""mm/list_lru.c: the lists of an offline memcg are moved to its parent's without the node's lock."""

from actors.api import kernel_fn
from actors.linux.mm.list_lru import ListLru, ListLruNode, list_lru_from_memcg_idx
from actors.linux.mm.memcontrol import Memcg, memcg_cache_id, memcg_set_shrinker_bit
from actors.machine.context import Context


@kernel_fn("memcg_drain_list_lru_node", "mm/list_lru.c")
async def drain(ctx: Context, lru: ListLru, node: ListLruNode, src_idx: int, dst_memcg: Memcg) -> None:
    """No spin_lock_irq()."""
    dst_idx = await memcg_cache_id(ctx, dst_memcg)
    src = await list_lru_from_memcg_idx(ctx, node, src_idx)
    dst = await list_lru_from_memcg_idx(ctx, node, dst_idx)
    await ctx.ask(node.splice, src, dst)
    if await ctx.ask(node.read_count, src):
        await ctx.ask(node.move_count, src, dst)
        await memcg_set_shrinker_bit(ctx, dst_memcg, node.nid, lru.shrinker_id)
