"""Which root cache may serve instead of a new one. mm/slab_common.c @5.3.1; KERNEL.md 8.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, SlabFlags

if TYPE_CHECKING:
    from protocol.formats.slabinfo import SlabinfoRow

WORD = 8
SLAB_MERGE_SAME = SlabFlags.RECLAIM_ACCOUNT | SlabFlags.CACHE_DMA | SlabFlags.ACCOUNT
SLAB_NEVER_MERGE = SlabFlags.TYPESAFE_BY_RCU


@kernel_fn("find_mergeable", "mm/slab_common.c")
async def find_mergeable(ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool) -> KmemCache | None:
    """Find a root cache to share: same merge flags, no constructor, less than a word wasted for each object."""
    if has_ctor or flags & SLAB_NEVER_MERGE:
        return None
    for s in await ctx.ask(ctx.machine.slab_root_caches.list):
        if await slab_unmergeable(ctx, s) or (s.flags ^ flags) & SLAB_MERGE_SAME:
            continue
        if s.slot_size >= row.objsize and s.slot_size - row.objsize < WORD:
            return s
    return None


@kernel_fn("slab_unmergeable", "mm/slab_common.c")
async def slab_unmergeable(_ctx: Context, s: KmemCache) -> bool:
    """Children, caches with a constructor or a usercopy region, and those that say so. No profile looks at dying."""
    return is_unmergeable(s)


def is_unmergeable(s: KmemCache) -> bool:
    """The same at boot, when nothing runs yet."""
    if not s.is_root_cache or s.has_ctor or s.has_usercopy or not s.is_mergeable:
        return True
    return bool(s.flags & SLAB_NEVER_MERGE)
