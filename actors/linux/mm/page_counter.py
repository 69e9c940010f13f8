"""Hierarchical page counters, lock-free. mm/page_counter.c @5.3.1."""

from __future__ import annotations

import attrs

from actors.machine.context import WARN_ON, Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation


@attrs.define(eq=False)
class PageCounter(Shared):
    """struct page_counter: `usage` in pages, the limit `max` (None: no limit), and the parent's counter."""

    name: str
    parent: PageCounter | None
    max: int | None = None
    usage: int = attrs.field(default=0, init=False)
    failcnt: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        return self.name

    @property
    def tally(self) -> tuple[str, int]:
        return "pages", self.usage

    @operation(UPDATE)
    def add(self, nr_pages: int) -> int:
        self.usage += nr_pages
        return self.usage

    @operation(UPDATE)
    def clear(self) -> None:
        """atomic_long_set(&counter->usage, 0)."""
        self.usage = 0

    @operation(READ, cost=ATOMIC_NS)
    def read(self) -> int:
        """page_counter_read()."""
        return self.usage

    @operation(UPDATE)
    def fail(self) -> None:
        self.failcnt += 1


@kernel_fn("page_counter_cancel", "mm/page_counter.c", profiles="..5.4-fixed")
async def page_counter_cancel(ctx: Context, counter: PageCounter, nr_pages: int) -> None:
    """Subtract *nr_pages* from one counter."""
    await is_underflow(ctx, counter, nr_pages)


@kernel_fn("page_counter_cancel", "mm/page_counter.c", profiles="6.12..")
async def page_counter_cancel_6_12(ctx: Context, counter: PageCounter, nr_pages: int) -> None:
    """KERNEL-today 8.1: a counter below zero is set to zero, so that the next charges count."""
    if await is_underflow(ctx, counter, nr_pages):
        await ctx.ask(counter.clear)


async def is_underflow(ctx: Context, counter: PageCounter, nr_pages: int) -> bool:
    """Subtract *nr_pages*, and report a counter that is below zero then."""
    new = await ctx.ask(counter.add, -nr_pages)
    if WARN_ON(ctx, new < 0, "page_counter_cancel: new < 0"):
        ctx.world.report("accounting", "page_counter underflow", f"{counter.label} is {new} pages", flow=ctx)
    return new < 0


@kernel_fn("page_counter_uncharge", "mm/page_counter.c")
async def page_counter_uncharge(ctx: Context, counter: PageCounter, nr_pages: int) -> None:
    """Subtract *nr_pages* from *counter* and all its ancestors."""
    level: PageCounter | None = counter
    while level is not None:
        await page_counter_cancel(ctx, level, nr_pages)
        level = level.parent


@kernel_fn("page_counter_try_charge", "mm/page_counter.c")
async def page_counter_try_charge(ctx: Context, counter: PageCounter, nr_pages: int) -> PageCounter | None:
    """Add *nr_pages* to *counter* and its ancestors; at a counter over its limit, undo and return that counter."""
    level: PageCounter | None = counter
    while level is not None:
        new = await ctx.ask(level.add, nr_pages)
        if level.max is not None and new > level.max:
            await page_counter_cancel(ctx, level, nr_pages)
            await ctx.ask(level.fail)
            undo: PageCounter | None = counter
            while undo is not level and undo is not None:
                await page_counter_cancel(ctx, undo, nr_pages)
                undo = undo.parent
            return level
        level = level.parent
    return None
