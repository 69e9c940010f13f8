"""mm/memcontrol.c: drain_stock() gives the pages back, but leaves their number in the stock."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import css_put_many
from actors.linux.mm.memcontrol import Stock
from actors.linux.mm.page_counter import page_counter_uncharge
from actors.machine.context import Context


@kernel_fn("drain_stock", "mm/memcontrol.c")
async def drain(ctx: Context, stock: Stock) -> None:
    """No stock->nr_pages = 0."""
    old, nr_pages = stock.cached, stock.nr_pages
    if old is not None and nr_pages:
        await page_counter_uncharge(ctx, old.memory, nr_pages)
        if old.memsw is not None:
            await page_counter_uncharge(ctx, old.memsw, nr_pages)
        await css_put_many(ctx, old.css, nr_pages)
    stock.cached = None
