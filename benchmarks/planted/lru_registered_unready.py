"""mm/list_lru.c: __list_lru_init() registers the list before it has room for the memcgs."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import down_read, up_read
from actors.linux.mm.list_lru import ListLru, ListLruNode, list_lru_register
from actors.machine.context import Context
from actors.system.actor import Actor


@kernel_fn("__list_lru_init", "mm/list_lru.c")
async def init(ctx: Context, actor: Actor, name: str, shrinker_id: int) -> ListLru:
    """list_lru_register() is called first."""
    machine = ctx.machine
    await down_read(ctx, machine.memcg_cache_ids_sem)
    lru = ListLru(name, [ListLruNode(actor, name, nid) for nid in range(machine.config.nodes)], shrinker_id)
    await list_lru_register(ctx, lru)
    for node in lru.nodes:
        await ctx.ask(node.set_memcg_lrus, node.memcg_lrus.grown(node, 0, machine.memcg_nr_cache_ids))
    await up_read(ctx, machine.memcg_cache_ids_sem)
    return lru
