"""mm/slub.c: flush_all() forgets the other CPUs."""

from actors.kernel.context import Context
from actors.kernel.kmem_cache import KmemCache
from actors.kernel.patching import kernel_fn
from actors.kernel.slub import flush_cpu_slab


@kernel_fn("flush_all", "mm/slub.c")
async def flush(ctx: Context, s: KmemCache) -> None:
    """No IPIs."""
    with ctx.irq_section:
        await flush_cpu_slab(ctx, s)
