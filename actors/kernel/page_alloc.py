"""The buddy allocator, as far as the lifecycle can tell: pages go out and come back. mm/page_alloc.c."""

from __future__ import annotations

import attrs

from actors.system.actor import Actor, Shared
from actors.system.world import World
from protocol.operations import UPDATE, operation

PAGE_NS = 400
RECLAIM_NS = (100_000, 10_000_000)
CONGESTION_WAIT_NS = 100_000_000  # HZ/10, mm/vmscan.c


@attrs.define(eq=False)
class BuddyAllocator(Shared):
    """Counts 4K pages; `allocated` are out now.

    `is_short`: memory is short, so that an allocation that may sleep sometimes has to reclaim first.
    """

    allocated: int = attrs.field(default=0, init=False)
    is_short: bool = attrs.field(default=False, init=False)

    @classmethod
    def boot(cls, world: World) -> BuddyAllocator:
        return cls(Actor(world, "buddy"))

    @property
    def label(self) -> str:
        return "buddy allocator"

    @operation(UPDATE, cost=PAGE_NS)
    def alloc_pages(self, nr_pages: int) -> None:
        self.allocated += nr_pages

    @operation(UPDATE, cost=PAGE_NS)
    def free_pages(self, nr_pages: int) -> None:
        assert self.allocated >= nr_pages
        self.allocated -= nr_pages

    @operation(UPDATE, sleeps=True, latency=RECLAIM_NS)
    def try_to_free_pages(self) -> None:
        """Direct reclaim: the caller sleeps until pages have been given back elsewhere in the machine."""
