"""The page allocator: pages are taken and freed; taking some may fail, sleep or reclaim.

mm/page_alloc.c, mm/vmscan.c @5.3.
"""

from __future__ import annotations

import attrs

from actors.machine.context import Context
from actors.machine.gfp import Gfp, gfpflags_allow_blocking
from actors.system.actor import Actor, Shared
from actors.system.world import World
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import UPDATE, operation

PAGE_NS = 400
RECLAIM_NS = (100_000, 10_000_000)
CONGESTION_WAIT_NS = 100_000_000  # HZ/10


@attrs.define(eq=False)
class BuddyAllocator(Shared):
    """Counts 4K pages; `allocated` of them are allocated now.

    `is_short`: memory is short, so an allocation that may sleep sometimes has to reclaim first. `is_stuck`: it has to,
      and reclaim frees nothing until a scenario says so. Only slabs have page frames here, numbered below `max_pfn`. A
      frame is never allocated twice, so use of a stale pfn is detectable.
    """

    allocated: int = attrs.field(default=0, init=False)
    max_pfn: int = attrs.field(default=1, init=False)
    is_short: bool = attrs.field(default=False, init=False)
    is_stuck: bool = attrs.field(default=False, init=False)

    @classmethod
    def boot(cls, world: World) -> BuddyAllocator:
        return cls(Actor(world, "buddy"))

    @property
    def label(self) -> str:
        return "buddy allocator"

    @operation(UPDATE, cost=PAGE_NS, lifecycle=True)
    def take(self, nr_pages: int) -> None:
        self.allocated += nr_pages

    @operation(UPDATE, cost=PAGE_NS)
    def give_back(self, nr_pages: int) -> None:
        self.allocated -= nr_pages

    def place(self, order: int) -> int:
        """The first page frame for 2^order pages, aligned to their number; frame 0 is never used."""
        self.touch(UPDATE)
        pages = 1 << order
        pfn = -(-self.max_pfn // pages) * pages
        self.max_pfn = pfn + pages
        return pfn

    def makes_progress(self, _ctx: Context) -> bool:
        return not self.is_stuck

    @operation(UPDATE, when=makes_progress, sleeps=True, latency=RECLAIM_NS)
    def try_to_free_pages(self, _ctx: Context) -> None:
        """Direct reclaim: the caller sleeps until pages have been freed elsewhere in the machine."""

    @operation(UPDATE)
    def free_at_last(self) -> None:
        """Somebody ends: whoever is stuck in direct reclaim goes on."""
        self.is_stuck = False


@kernel_fn("alloc_pages", "mm/page_alloc.c")
async def alloc_pages(ctx: Context, gfp: Gfp, nr_pages: int) -> bool:
    """Take *nr_pages* from the buddy allocator; False if there are none.

    If the caller may sleep, it may have to reclaim. Reclaim may end at once, take any time, or wait for a writeback
    that takes longer than everything else here. The scheduler may wake the caller up on another CPU.
    """
    if ctx.world.should_fail("page"):
        return False
    if ctx.machine.buddy.is_short and not gfpflags_allow_blocking(gfp) and await ctx.choose(2):
        return False
    await ctx.ask(ctx.machine.buddy.take, nr_pages)
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("alloc_pages")
        if ctx.machine.buddy.is_short:
            await reclaim(ctx)
        if len(ctx.cpus_allowed) > 1:
            await ctx.migrate(ctx.cpus_allowed[await ctx.choose(len(ctx.cpus_allowed))])
    return True


async def reclaim(ctx: Context) -> None:
    """The part of __alloc_pages_slowpath() that reclaims: nothing, direct reclaim, or a congestion wait."""
    how = 1 if ctx.machine.buddy.is_stuck else await ctx.choose(3)
    if how == 1:
        await ctx.ask(ctx.machine.buddy.try_to_free_pages, ctx)
    elif how:
        await ctx.sleep(CONGESTION_WAIT_NS)


@kernel_fn("__free_pages", "mm/page_alloc.c")
async def __free_pages(ctx: Context, nr_pages: int) -> None:
    await ctx.ask(ctx.machine.buddy.give_back, nr_pages)
