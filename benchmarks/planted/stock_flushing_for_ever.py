"""mm/memcontrol.c: drain_local_stock() leaves FLUSHING_CACHED_CHARGE set."""

from actors.kernel.context import Context
from actors.kernel.memcontrol import STOCK, drain_stock, this_cpu_stock
from actors.kernel.patching import kernel_fn
from actors.kernel.workqueue import Work


@kernel_fn("drain_local_stock", "mm/memcontrol.c")
async def drain_local(ctx: Context, _work: Work | None = None) -> None:
    """No clear_bit()."""
    with ctx.irq_section:
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        await drain_stock(ctx, stock)
