"""The buddy allocator, as far as the lifecycle can tell: pages go out and come back. mm/page_alloc.c."""

from __future__ import annotations

import attrs

from actors.system.actor import Actor, Shared
from actors.system.world import World
from protocol.operations import UPDATE, operation

PAGE_NS = 400


@attrs.define(eq=False)
class BuddyAllocator(Shared):
    """Counts 4K pages; `allocated` are out now.

    `reclaim_ns` is how long an allocation sleeps that has to reclaim first; 0: memory is plenty, none does.
    """

    allocated: int = attrs.field(default=0, init=False)
    reclaim_ns: int = attrs.field(default=0, init=False)

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
