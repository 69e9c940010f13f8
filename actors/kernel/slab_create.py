"""How caches come: root caches, and child caches by a worker. mm/slab_common.c, version by version; KERNEL.md 5.3, 8.3.

Creation may fail wherever it needs memory, and with SLUB also because the name of a new cache's directory in sysfs is
taken. Whatever has been made by then goes again. Whoever wanted a root cache is told, and the kernel says so in its
log; without a child cache the root serves, and nobody is told.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.kernel.cgroup import css_get
from actors.kernel.context import WARN_ON, Context, bug
from actors.kernel.errno import ENOMEM
from actors.kernel.gfp import GFP_KERNEL
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import AtomicRef, KmemCache, SlabFlags
from actors.kernel.locks import MutexHeld, SpinLockIrqHeld
from actors.kernel.memcontrol import KmemState, Memcg
from actors.kernel.page_alloc import kmalloc
from actors.kernel.percpu_ref import PercpuRef
from actors.kernel.slab_common import kmemcg_cache_shutdown, kmemcg_queue_cache_shutdown_v1
from actors.kernel.slab_destroy import destroy_memcg_params, free_cache_struct
from actors.kernel.slab_mutex import (
    SlabMutexHeld,
    get_online_cpus,
    get_online_mems,
    memcg_get_cache_ids,
    memcg_put_cache_ids,
    put_online_cpus,
    put_online_mems,
)
from actors.kernel.slub import __kmem_cache_alias, __kmem_cache_create
from protocol.formats.slabinfo import SlabinfoRow

# -- root caches (8.1, 8.3) -------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_create", "mm/slab_common.c")
async def kmem_cache_create(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags = SlabFlags.NONE, *, has_ctor: bool = False
) -> KmemCache | None:
    """Create a root cache, or share one that fits; *row* gives name, object size and geometry."""
    return await kmem_cache_create_usercopy(ctx, row, flags, has_ctor=has_ctor, has_usercopy=False)


@kernel_fn("kmem_cache_create_usercopy", "mm/slab_common.c")
async def kmem_cache_create_usercopy(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool, has_usercopy: bool
) -> KmemCache | None:
    """The same for objects of which a part may be copied to user space. None, and a line in the log, on failure."""
    get_online_cpus(ctx)
    await get_online_mems(ctx)
    await memcg_get_cache_ids(ctx)
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        s: KmemCache | int | None = None
        if not has_usercopy:
            s = await __kmem_cache_alias(ctx, row, flags, has_ctor=has_ctor)
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


async def create_root_cache(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool, has_usercopy: bool
) -> KmemCache | int:
    """kstrdup_const() of the name, then the cache itself."""

    def zalloc() -> KmemCache:
        s = ctx.machine.new_root_cache(row, flags, has_ctor=has_ctor)
        s.has_usercopy = has_usercopy
        return s

    if not kmalloc(ctx, GFP_KERNEL, "cache_name"):
        return -ENOMEM
    return await create_cache(ctx, zalloc, None)


# -- child caches (5.3) -----------------------------------------------------------------------------------------------


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c", profiles="v7..")
async def memcg_create_kmem_cache(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """Create and publish the child cache of *memcg*, unless it is offline by now or somebody was faster."""
    async with SlabMutexHeld(ctx):
        if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:
            await create_child(ctx, memcg, root_cache)


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c", profiles="v6")
async def memcg_create_kmem_cache_v6(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """[v6]: not for a root that is being destroyed, which is tested under the lock."""
    async with SlabMutexHeld(ctx):
        if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:
            async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
                dying = await ctx.ask(root_cache.read_dying)
            if not dying:
                await create_child(ctx, memcg, root_cache)


@kernel_fn("memcg_create_kmem_cache", "mm/slab_common.c", profiles="..v5")
async def memcg_create_kmem_cache_until_v5(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """[O] to [v5]: not for a root that is being destroyed; slab_mutex is lock enough."""
    async with SlabMutexHeld(ctx):
        if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE and not await ctx.ask(root_cache.read_dying):
            await create_child(ctx, memcg, root_cache)


async def create_child(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """5.3b to e: unless there is one already, create it; whoever looks from now on finds it. Failure is silent."""
    idx = await ctx.ask(memcg.read_kmemcg_id)
    array = await ctx.ask(root_cache.read_memcg_caches)
    if await ctx.ask(array.read_entry, idx) is not None or not kmalloc(ctx, GFP_KERNEL, "cache_name"):
        return
    cgroup = memcg.css.cgroup
    name = f"{root_cache.name}({cgroup.serial_nr}:{cgroup.name})"
    s = await create_cache(ctx, lambda: ctx.machine.new_child_cache(root_cache, name), memcg)
    if isinstance(s, KmemCache):
        await ctx.ask(array.set_entry, idx, s)


# -- both -------------------------------------------------------------------------------------------------------------


@kernel_fn("create_cache", "mm/slab_common.c")
async def create_cache(ctx: Context, zalloc: Callable[[], KmemCache], memcg: Memcg | None) -> KmemCache | int:
    """Make a cache, of *memcg* or a root, by kmem_cache_zalloc(); link it. -errno if that cannot be done."""
    if not kmalloc(ctx, GFP_KERNEL, "kmem_cache"):
        return -ENOMEM
    s = zalloc()
    err = init_memcg_params(ctx, s)
    if err:  # destroy_memcg_params() does not find anything yet
        free_cache_struct(ctx, s)
        return err
    err = await __kmem_cache_create(ctx, s)
    if err:
        await destroy_memcg_params(ctx, s)
        free_cache_struct(ctx, s)
        return err
    await ctx.ask(ctx.machine.slab_caches.add, s)
    await memcg_link_cache(ctx, s, memcg)
    return s


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="v2..")
def init_memcg_params(ctx: Context, s: KmemCache) -> int:
    """A child's reference count starts with one, its own, dropped by deactivation; 0 or -ENOMEM."""
    if s.is_root_cache:
        return init_root_params(ctx)
    if not kmalloc(ctx, GFP_KERNEL, "percpu"):
        return -ENOMEM
    s.refcnt = PercpuRef.init(s.actor, s, kmemcg_cache_shutdown, len(ctx.machine.cpus))
    return 0


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="v1")
def init_memcg_params_v1(ctx: Context, s: KmemCache) -> int:
    """[v1]: a plain atomic counter."""
    if s.is_root_cache:
        return init_root_params(ctx)
    s.refcnt = AtomicRef(s.actor, s, kmemcg_queue_cache_shutdown_v1)
    return 0


@kernel_fn("init_memcg_params", "mm/slab_common.c", profiles="original")
def init_memcg_params_original(ctx: Context, s: KmemCache) -> int:
    """[O]: caches have no reference count."""
    return init_root_params(ctx) if s.is_root_cache else 0


def init_root_params(ctx: Context) -> int:
    """kvzalloc() of a root's array, if there ever was a memcg that needs one."""
    if ctx.machine.memcg_nr_cache_ids and not kmalloc(ctx, GFP_KERNEL, "memcg_caches"):
        return -ENOMEM
    return 0


@kernel_fn("memcg_link_cache", "mm/slab_common.c", profiles="v1..")
async def memcg_link_cache(ctx: Context, s: KmemCache, memcg: Memcg | None) -> None:
    """Put a cache on its lists; a child pins the memcg that it belongs to."""
    if memcg is None:
        await ctx.ask(ctx.machine.slab_root_caches.add, s)
        return
    await css_get(ctx, memcg.css)
    await ctx.ask(s.set_memcg, memcg)
    await ctx.ask(s.root.add_child, s)
    await ctx.ask(memcg.add_kmem_cache, s)


@kernel_fn("memcg_link_cache", "mm/slab_common.c", profiles="original")
async def memcg_link_cache_original(ctx: Context, s: KmemCache, memcg: Memcg | None) -> None:
    """[O]: the memcg owns the cache, and not the other way round."""
    if memcg is None:
        await ctx.ask(ctx.machine.slab_root_caches.add, s)
        return
    await ctx.ask(s.set_memcg, memcg)
    await ctx.ask(s.root.add_child, s)
    await ctx.ask(memcg.add_kmem_cache, s)
