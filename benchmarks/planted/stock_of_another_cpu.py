"""mm/memcontrol.c: refill_stock() looks up this CPU's stock before it switches interrupts off."""

from actors.kernel.context import Context
from actors.kernel.memcontrol import STOCK, Memcg, drain_stock, this_cpu_stock
from actors.kernel.patching import kernel_fn
from actors.kernel.vmstat import MEMCG_CHARGE_BATCH


@kernel_fn("refill_stock", "mm/memcontrol.c")
async def refill(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """this_cpu_ptr() has moved across the beginning of the section."""
    stock = this_cpu_stock(ctx)
    with ctx.irq_section:
        await ctx.this_cpu(stock, STOCK)
        if stock.cached is not memcg:
            await drain_stock(ctx, stock)
            stock.cached = memcg
        stock.nr_pages += nr_pages
        if stock.nr_pages > MEMCG_CHARGE_BATCH:
            await drain_stock(ctx, stock)
