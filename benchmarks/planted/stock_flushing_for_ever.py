"""mm/memcontrol.c: drain_local_stock() leaves FLUSHING_CACHED_CHARGE set."""

from actors.api import kernel_fn
from actors.linux.kernel.workqueue import Work
from actors.linux.mm.memcontrol import STOCK, drain_stock, this_cpu_stock
from actors.machine.context import Context


@kernel_fn("drain_local_stock", "mm/memcontrol.c")
async def drain_local(ctx: Context, _work: Work | None = None) -> None:
    """No clear_bit()."""
    with ctx.irq_section:
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        await drain_stock(ctx, stock)
