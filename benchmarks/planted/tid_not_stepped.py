"""mm/slub.c: flush_slab() does not step the tid of the CPU whose slab it takes away."""

from actors.kernel.context import Context, deref
from actors.kernel.kmem_cache import KmemCache, KmemCacheCpu
from actors.kernel.patching import kernel_fn
from actors.kernel.slub import deactivate_slab


@kernel_fn("flush_slab", "mm/slub.c")
async def flush(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    """No next_tid()."""
    await deactivate_slab(ctx, s, c, deref(c.page, "flush_slab(): c->page"), c.freelist)
