"""mm/page_counter.c: page_counter_uncharge() does not uncharge the topmost counter."""

from actors.api import kernel_fn
from actors.linux.mm.page_counter import PageCounter, page_counter_cancel
from actors.machine.context import Context


@kernel_fn("page_counter_uncharge", "mm/page_counter.c")
async def uncharge(ctx: Context, counter: PageCounter, nr_pages: int) -> None:
    """The loop tests the parent in place of the counter."""
    level = counter
    while level.parent is not None:
        await page_counter_cancel(ctx, level, nr_pages)
        level = level.parent
