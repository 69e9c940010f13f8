"""Many objects in one call, with either allocator. mm/slub.c, mm/slab.c, mm/slab_common.c @5.3.1; KERNEL.md 4.

The cache is chosen once for all objects, and one reference holds it meanwhile. Either all objects are allocated or
none: what there is by the time of a failure is freed again, when that reference has gone already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from actors.kernel.context import WARN_ON, Context
from actors.kernel.gfp import GFP_KERNEL, Gfp
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, SlabObject
from actors.kernel.slab import ____cache_alloc, ___cache_free
from actors.kernel.slab_h import cache_from_obj, mark_allocated, mark_freed
from actors.kernel.slab_hooks import slab_post_alloc_hook, slab_pre_alloc_hook
from actors.kernel.slub import free_detached, kmem_cache_free, next_tid, this_cpu_slab
from actors.kernel.slub_alloc import ___slab_alloc
from protocol.operations import ATOMIC_NS, OperationInfo

LOOKAHEAD = 3
THIS_CPU_FREELIST = OperationInfo("this_cpu_freelist", cost=ATOMIC_NS)

# -- both allocators --------------------------------------------------------------------------------------------------


async def all_or_none(ctx: Context, s: KmemCache, objects: list[SlabObject], size: int) -> list[SlabObject]:
    """The end of a bulk allocation: the post hook; then, without all *size* objects, none are kept."""
    await slab_post_alloc_hook(ctx, s)
    if len(objects) == size:
        return objects
    await __kmem_cache_free_bulk(ctx, s, objects)
    return []


@kernel_fn("__kmem_cache_free_bulk", "mm/slab_common.c")
async def __kmem_cache_free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """One after the other, as if each had been freed alone."""
    for obj in objects:
        await kmem_cache_free(ctx, s, obj)


# -- SLUB -------------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_alloc_bulk", "mm/slub.c", profiles="5.4-fixed")
async def kmem_cache_alloc_bulk(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """Allocate *size* objects of *s* or of its child for the current memcg; an empty list is -ENOMEM.

    This CPU's freelist is taken from with IRQs off; the slow path may switch them on, so the tid steps before it.
    """
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    objects: list[SlabObject] = []
    with ctx.irq_section:
        await ctx.this_cpu(this_cpu_slab(ctx, s), THIS_CPU_FREELIST)
        while len(objects) < size:
            obj = pop_freelist(ctx, s)
            if obj is None:
                c = this_cpu_slab(ctx, s)
                c.tid = next_tid(ctx, c.tid)
                obj = await ___slab_alloc(ctx, s, gfp)
            if obj is None:
                break
            objects.append(obj)
        else:
            c = this_cpu_slab(ctx, s)
            c.tid = next_tid(ctx, c.tid)
    return await all_or_none(ctx, s, objects, size)


@kernel_fn("kmem_cache_alloc_bulk", "mm/slub.c", profiles="..5.3")
async def kmem_cache_alloc_bulk_until_5_3(
    ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL
) -> list[SlabObject]:
    """[O] to [M]: the tid steps only at the end, on the CPU that the task is on by then, and not on failure."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    objects: list[SlabObject] = []
    with ctx.irq_section:
        await ctx.this_cpu(this_cpu_slab(ctx, s), THIS_CPU_FREELIST)
        while len(objects) < size:
            obj = pop_freelist(ctx, s) or await ___slab_alloc(ctx, s, gfp)
            if obj is None:
                break
            objects.append(obj)
        else:
            c = this_cpu_slab(ctx, s)
            c.tid = next_tid(ctx, c.tid)
    return await all_or_none(ctx, s, objects, size)


def pop_freelist(ctx: Context, s: KmemCache) -> SlabObject | None:
    """The head of this CPU's freelist; IRQs are off, so a plain store will do, without a step of the tid."""
    c = this_cpu_slab(ctx, s)
    if c.freelist is None or c.page is None:
        return None
    at, c.freelist = c.freelist
    return mark_allocated(SlabObject(c.page, at))


class DetachedFreelist(NamedTuple):
    """struct detached_freelist: objects of one slab of cache `s`, linked already; `head` and what follows it."""

    s: KmemCache
    head: SlabObject
    rest: tuple[int, ...]


@kernel_fn("kmem_cache_free_bulk", "mm/slub.c")
async def kmem_cache_free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free *objects*, those of one slab in one go as far as they lie close together."""
    p: list[SlabObject | None] = list(objects)
    size = len(p)
    if WARN_ON(ctx, not size, "kmem_cache_free_bulk: !size"):
        return
    while size:
        size, df = await build_detached_freelist(ctx, s, size, p)
        if df is not None:
            await free_detached(ctx, df.s, df.head, df.rest)


@kernel_fn("build_detached_freelist", "mm/slub.c")
async def build_detached_freelist(
    ctx: Context, s: KmemCache, size: int, p: list[SlabObject | None]
) -> tuple[int, DetachedFreelist | None]:
    """Take the last object of p[:size], and others of its slab; return how much of *p* has to be looked at again.

    The search goes on past two objects of other slabs, and ends at the third.
    """
    while size and p[size - 1] is None:
        size -= 1
    last = p[size - 1] if size else None
    if last is None:
        return 0, None
    size -= 1
    df_s = await cache_from_obj(ctx, s, last)
    p[size], taken = None, [last]
    skipped, lookahead = 0, LOOKAHEAD
    while size:
        size -= 1
        obj = p[size]
        if obj is None:
            continue
        if obj.slab is last.slab:
            mark_freed(ctx, obj)
            p[size], taken = None, [obj, *taken]
            continue
        lookahead -= 1
        if not lookahead:
            break
        skipped = skipped or size + 1
    return skipped, DetachedFreelist(df_s, taken[0], tuple(obj.at for obj in taken[1:]))


# -- SLAB -------------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_alloc_bulk", "mm/slab.c")
async def kmem_cache_alloc_bulk_slab(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """Allocate *size* objects with IRQs off, but for the slabs that they need; an empty list is -ENOMEM."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    objects: list[SlabObject] = []
    with ctx.irq_section:
        while len(objects) < size:
            obj = await ____cache_alloc(ctx, s, gfp)
            if obj is None:
                break
            objects.append(mark_allocated(obj))
    return await all_or_none(ctx, s, objects, size)


@kernel_fn("kmem_cache_free_bulk", "mm/slab.c")
async def kmem_cache_free_bulk_slab(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free *objects* in one section with IRQs off."""
    with ctx.irq_section:
        for obj in objects:
            await ___cache_free(ctx, await cache_from_obj(ctx, s, obj), obj)
