"""mm/memcontrol.c: memcg_alloc_cache_id() publishes the new size before the arrays have grown."""

from actors.kernel.context import Context
from actors.kernel.list_lru import memcg_update_all_list_lrus
from actors.kernel.locks import down_write, up_write
from actors.kernel.memcontrol_kmem import MEMCG_CACHES_MIN_SIZE
from actors.kernel.patching import kernel_fn
from actors.kernel.slab_common import memcg_update_all_caches


@kernel_fn("memcg_alloc_cache_id", "mm/memcontrol.c")
async def alloc_cache_id(ctx: Context) -> int:
    """memcg_nr_cache_ids too early."""
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
