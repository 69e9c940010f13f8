"""mm/page_counter.c: page_counter_try_charge() leaves the lower levels charged if an ancestor is full."""

from actors.api import kernel_fn
from actors.linux.mm.page_counter import PageCounter, page_counter_cancel
from actors.machine.context import Context


@kernel_fn("page_counter_try_charge", "mm/page_counter.c")
async def try_charge(ctx: Context, counter: PageCounter, nr_pages: int) -> PageCounter | None:
    """Only the charge to the full counter is undone."""
    level: PageCounter | None = counter
    while level is not None:
        new = await ctx.ask(level.add, nr_pages)
        if level.max is not None and new > level.max:
            await page_counter_cancel(ctx, level, nr_pages)
            await ctx.ask(level.fail)
            return level
        level = level.parent
    return None
