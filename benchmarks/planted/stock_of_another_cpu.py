"""mm/memcontrol.c: refill_stock() looks up this CPU's stock before it switches interrupts off."""

from actors.api import kernel_fn
from actors.linux.mm.memcontrol import STOCK, Memcg, drain_stock, this_cpu_stock
from actors.linux.mm.vmstat import MEMCG_CHARGE_BATCH
from actors.machine.context import Context


@kernel_fn("refill_stock", "mm/memcontrol.c")
async def refill(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """this_cpu_ptr() has moved in front of local_irq_save()."""
    stock = this_cpu_stock(ctx)
    with ctx.irq_section:
        await ctx.this_cpu(stock, STOCK)
        if stock.cached is not memcg:
            await drain_stock(ctx, stock)
            stock.cached = memcg
        stock.nr_pages += nr_pages
        if stock.nr_pages > MEMCG_CHARGE_BATCH:
            await drain_stock(ctx, stock)
