"""The allocator's interface for the rest of the kernel: include/linux/slab.h @5.3.1.

Filesystems, scenarios and patches call these functions; the machine has either mm/slub.c or mm/slab.c.
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
    from actors.linux.mm.list_lru import ListLru
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
    """Allocate kernel memory that the model does not count; False if the fault *site* is injected."""
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("kmalloc")
    return not ctx.world.should_fail(site)


@extern
async def kmem_cache_create(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags = SlabFlags.NONE, *, has_ctor: bool = False
) -> KmemCache | None:
    """Create a root cache, or share an existing one that fits; *row* gives name, object size and geometry."""


@extern
async def kmem_cache_destroy(ctx: Context, s: KmemCache | None) -> None:
    """Wait for pending callbacks and works, drop one alias; with the last one shut all down. NULL is allowed.

    KERNEL.md 8.2.
    """


@noted(noting_allocation)
@extern
async def kmem_cache_alloc(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* or of its child for the current memcg; None is -ENOMEM."""


@noted(noting_allocation)
@extern
async def kmem_cache_alloc_lru(ctx: Context, s: KmemCache, lru: ListLru, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object that will be on *lru*: the lists of its memcg are made now. None is -ENOMEM. 6.12 on."""


@noted(noting_free)
@extern
async def kmem_cache_free(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Free *obj*, in any context, on any CPU (4.5)."""


@noted(noting_allocations)
@extern
async def kmem_cache_alloc_bulk(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """Allocate *size* objects of *s* or of its child for the current memcg; an empty list is -ENOMEM."""


@noted(noting_frees)
@extern
async def kmem_cache_free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free *objects*; objects of one slab that are close together in the list are freed at once."""


@extern
async def kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool:
    """Free the empty slabs of a cache; True if any slab remains."""


@extern
async def memcg_create_kmem_cache(ctx: Context, memcg: Memcg, root_cache: KmemCache) -> None: ...


@extern
async def memcg_deactivate_kmem_caches(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None: ...


@extern
async def memcg_destroy_kmem_caches(ctx: Context, memcg: Memcg) -> None: ...


@extern
async def memcg_update_all_caches(ctx: Context, num_memcgs: int) -> None: ...
