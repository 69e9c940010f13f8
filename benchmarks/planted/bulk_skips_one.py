"""mm/slub.c: build_detached_freelist() returns a count of skipped objects that is one too small."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.linux.mm.slab_h import cache_from_obj, mark_freed
from actors.linux.mm.slub import LOOKAHEAD, DetachedFreelist
from actors.machine.context import Context


@kernel_fn("build_detached_freelist", "mm/slub.c")
async def build(
    ctx: Context, s: KmemCache, size: int, p: list[SlabObject | None]
) -> tuple[int, DetachedFreelist | None]:
    """The first skipped object is not freed."""
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
        skipped = skipped or size
    return skipped, DetachedFreelist(df_s, taken[0], tuple(obj.at for obj in taken[1:]))
