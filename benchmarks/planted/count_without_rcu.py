"""mm/list_lru.c: list_lru_count_one() reads the array of lists without rcu_read_lock()."""

from actors.api import kernel_fn
from actors.linux.mm.list_lru import ListLru, list_lru_from_memcg_idx
from actors.linux.mm.memcontrol import Memcg, memcg_cache_id
from actors.machine.context import Context


@kernel_fn("list_lru_count_one", "mm/list_lru.c")
async def count_one(ctx: Context, lru: ListLru, nid: int, memcg: Memcg | None) -> int:
    """No rcu_read_lock()."""
    node = lru.nodes[nid]
    one = await list_lru_from_memcg_idx(ctx, node, await memcg_cache_id(ctx, memcg))
    return await ctx.ask(node.read_count, one)
