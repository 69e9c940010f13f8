"""mm/slub.c: flush_all() flushes only the CPU that it runs on."""

from actors.api import kernel_fn
from actors.linux.kernel.smp import on_each_cpu_mask
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.slub import flush_cpu_slab
from actors.machine.context import Context


@kernel_fn("flush_all", "mm/slub.c")
async def flush(ctx: Context, s: KmemCache) -> None:
    """The mask contains only this CPU."""

    async def handler(ctx: Context) -> None:
        await flush_cpu_slab(ctx, s)

    with ctx.preempt_section:
        cpu = ctx.smp_processor_id
        if await ctx.ask(s.cpu_slab[cpu].has_cpu_slab):
            await on_each_cpu_mask(ctx, [cpu], handler)
