"""mm/memcontrol.c: consume_stock() takes from the stock with interrupts on."""

from actors.api import kernel_fn
from actors.linux.mm.memcontrol import STOCK, Memcg, this_cpu_stock
from actors.linux.mm.vmstat import MEMCG_CHARGE_BATCH
from actors.machine.context import Context


@kernel_fn("consume_stock", "mm/memcontrol.c")
async def consume(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """The value may be stale when it is written back."""
    if nr_pages > MEMCG_CHARGE_BATCH:
        return False
    stock = this_cpu_stock(ctx)
    left = stock.nr_pages
    if stock.cached is not memcg or left < nr_pages:
        return False
    await ctx.this_cpu(stock, STOCK)
    this_cpu_stock(ctx).nr_pages = left - nr_pages
    return True
