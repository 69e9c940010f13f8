"""mm/slab_common.c: kmem_cache_create_usercopy() looks for a cache to share before it takes slab_mutex."""

from actors.api import kernel_fn
from actors.linux.include.slab import SlabFlags
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.memcontrol import memcg_get_cache_ids, memcg_put_cache_ids
from actors.linux.mm.slab_common import create_root_cache
from actors.linux.mm.slab_h import (
    get_online_cpus,
    get_online_mems,
    put_online_cpus,
    put_online_mems,
)
from actors.linux.mm.slub import __kmem_cache_alias
from actors.machine.context import WARN_ON, Context, bug
from protocol.formats.slabinfo import SlabinfoRow


@kernel_fn("kmem_cache_create_usercopy", "mm/slab_common.c")
async def create_usercopy(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool, has_usercopy: bool
) -> KmemCache | None:
    """The call of __kmem_cache_alias() has moved in front of mutex_lock()."""
    get_online_cpus(ctx)
    await get_online_mems(ctx)
    await memcg_get_cache_ids(ctx)
    s: KmemCache | int | None = None
    if not has_usercopy:
        s = await __kmem_cache_alias(ctx, row, flags, has_ctor=has_ctor)
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        if s is None:
            s = await create_root_cache(ctx, row, flags, has_ctor=has_ctor, has_usercopy=has_usercopy)
    await memcg_put_cache_ids(ctx)
    await put_online_mems(ctx)
    put_online_cpus(ctx)
    if isinstance(s, KmemCache):
        return s
    if SlabFlags.PANIC in flags:
        bug(ctx, f"kmem_cache_create: Failed to create slab '{row.name}'. Error {s}")
    WARN_ON(ctx, True, f"kmem_cache_create({row.name}) failed with error {s}")
    return None
