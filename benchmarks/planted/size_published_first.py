"""mm/memcontrol.c: memcg_alloc_cache_id() publishes the new size before the arrays have grown."""

from actors.api import kernel_fn
from actors.linux.include.list_lru import memcg_update_all_list_lrus
from actors.linux.include.slab import memcg_update_all_caches
from actors.linux.kernel.locking.locks import down_write, up_write
from actors.linux.mm.memcontrol import MEMCG_CACHES_MIN_SIZE
from actors.machine.context import Context


@kernel_fn("memcg_alloc_cache_id", "mm/memcontrol.c")
async def alloc_cache_id(ctx: Context) -> int:
    """memcg_nr_cache_ids is set too early."""
    machine = ctx.machine
    kmemcg_id = await ctx.ask(machine.memcg_cache_ida.ida_simple_get)
    if kmemcg_id < machine.memcg_nr_cache_ids:
        return kmemcg_id
    await down_write(ctx, machine.memcg_cache_ids_sem)
    size = max(2 * (kmemcg_id + 1), MEMCG_CACHES_MIN_SIZE)
    machine.memcg_nr_cache_ids = size
    await memcg_update_all_caches(ctx, size)
    await memcg_update_all_list_lrus(ctx, size)
    await up_write(ctx, machine.memcg_cache_ids_sem)
    return kmemcg_id
