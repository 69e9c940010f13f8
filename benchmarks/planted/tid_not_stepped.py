"""mm/slub.c: flush_slab() does not step the tid of the CPU whose slab it flushes."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, KmemCacheCpu
from actors.linux.mm.slub import deactivate_slab
from actors.machine.context import Context, deref


@kernel_fn("flush_slab", "mm/slub.c")
async def flush(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    """No next_tid()."""
    await deactivate_slab(ctx, s, c, deref(c.page, "flush_slab(): c->page"), c.freelist)
