"""mm/list_lru.c: memcg_drain_all_list_lrus() moves the lists of an offline memcg to the root's, not to its parent's."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.mm.list_lru import memcg_drain_list_lru_node
from actors.linux.mm.memcontrol import Memcg
from actors.machine.context import Context


@kernel_fn("memcg_drain_all_list_lrus", "mm/list_lru.c")
async def drain_all(ctx: Context, src_idx: int, _dst_memcg: Memcg) -> None:
    """The wrong destination."""
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            for node in lru.nodes:
                await memcg_drain_list_lru_node(ctx, lru, node, src_idx, ctx.machine.root_mem_cgroup)
