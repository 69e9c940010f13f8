"""The allocator's interface for the rest of the kernel: include/linux/slab.h @5.3.1.

Filesystems, scenarios and patches call these functions, whichever allocator the machine has: mm/slub.c or mm/slab.c.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.machine.flags import Flags
from actors.machine.gfp import GFP_KERNEL, Gfp, gfpflags_allow_blocking
from actors.machine.object_books import noting_allocation, noting_allocations, noting_free, noting_frees
from actors.versions.kernel_fn import extern, noted
from protocol.formats.slabinfo import SlabinfoRow

if TYPE_CHECKING:
    from actors.linux.mm.kmem_cache import KmemCache, SlabObject
    from actors.linux.mm.memcontrol import Memcg


class SlabFlags(Flags):
    """The SLAB_ flags that matter to the lifecycle."""

    NONE = 0
    ACCOUNT = enum.auto()
    RECLAIM_ACCOUNT = enum.auto()
    CACHE_DMA = enum.auto()
    PANIC = enum.auto()
    TYPESAFE_BY_RCU = enum.auto()
    DEACTIVATED = enum.auto()


def kmalloc(ctx: Context, gfp: Gfp, site: str) -> bool:
    """Memory of the kernel's own, which the model does not count; False if the fault *site* says so."""
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("kmalloc")
    return not ctx.world.should_fail(site)


@extern
async def kmem_cache_create(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags = SlabFlags.NONE, *, has_ctor: bool = False
) -> KmemCache | None:
    """Create a root cache, or share one that fits; *row* gives name, object size and geometry."""


@extern
async def kmem_cache_destroy(ctx: Context, s: KmemCache | None) -> None:
    """8.2: wait for what is under way, then drop one alias, and with the last one everything. NULL is nothing."""


@noted(noting_allocation)
@extern
async def kmem_cache_alloc(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* or of its child for the current memcg; None is -ENOMEM."""


@noted(noting_free)
@extern
async def kmem_cache_free(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Free *obj*, in any context, on any CPU (4.5): to this CPU's slab if it is from there."""


@noted(noting_allocations)
@extern
async def kmem_cache_alloc_bulk(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """Allocate *size* objects of *s* or of its child for the current memcg; an empty list is -ENOMEM."""


@noted(noting_frees)
@extern
async def kmem_cache_free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free *objects*, those of one slab in one go as far as they lie close together."""


@extern
async def kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool:
    """Give back what is empty, whoever asks for it; True if any slab remains."""


@extern
async def memcg_create_kmem_cache(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None:
    """Create and publish the child cache of *memcg*, unless it is offline by now or somebody was faster."""


@extern
async def memcg_deactivate_kmem_caches(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None:
    """Deactivate the memcg's caches, then move all that it has, inherited ones too, to *parent*."""


@extern
async def memcg_destroy_kmem_caches(ctx: Context, memcg: Memcg) -> None:
    """[O]: the memcg is being freed, so no page is left in any of its caches; every one of them goes."""


@extern
async def memcg_update_all_caches(ctx: Context, num_memcgs: int) -> None:
    """Replace the array of every root cache by a longer one; the old one lives until its readers are gone."""
