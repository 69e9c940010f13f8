"""mm/page_counter.c: page_counter_uncharge() ends before the topmost counter."""

from actors.kernel.context import Context
from actors.kernel.page_counter import PageCounter, page_counter_cancel
from actors.kernel.patching import kernel_fn


@kernel_fn("page_counter_uncharge", "mm/page_counter.c")
async def uncharge(ctx: Context, counter: PageCounter, nr_pages: int) -> None:
    """The loop looks for a parent, and not for a counter."""
    level = counter
    while level.parent is not None:
        await page_counter_cancel(ctx, level, nr_pages)
        level = level.parent
