"""Tasks and interrupts that use a cache of SLUB, for tests of 6.12 and 7.2: nothing is lost, whatever they do."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar

import attrs

from actors.linux.include.slab import kmem_cache_alloc, kmem_cache_alloc_bulk, kmem_cache_free, kmem_cache_free_bulk
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL, GFP_NOWAIT
from actors.system.flow import Flow
from scenarios.stage import Stage


@attrs.define(eq=False)
class Users:
    """Tasks and interrupts that allocate and free objects of `s`, each other's too; some shrink, or use bulk calls.

    `wrongs` is what has been wrong after any step; `seen` is for what a kernel's race has to have met.
    """

    stage: Stage
    s: KmemCache
    dice: random.Random
    held: list[SlabObject] = attrs.field(factory=list)
    wrongs: list[str] = attrs.field(factory=list)
    seen: set[str] = attrs.field(factory=set)

    acts: ClassVar[int] = 8
    """How many things a task may do; the last is to shrink."""

    def find_wrongs(self, *, is_at_rest: bool) -> Iterable[str]:
        """What is wrong with the cache now."""
        raise NotImplementedError

    async def shrink(self, ctx: Context) -> int:
        """Shrink the cache; 0 if no slab is left."""
        raise NotImplementedError

    async def free_later(self, ctx: Context, _what: int, obj: SlabObject) -> None:
        """Free *obj* after a grace period."""
        await call_rcu(ctx, RcuHead(self.s), self.free_and_allocate(obj))

    async def wait_for_frees(self, ctx: Context) -> None:
        """Wait for all that is freed later, and for RCU, which frees the slabs of a type-safe cache."""
        await ctx.settle()

    def start(self, *, tasks: int, rounds: int) -> None:
        self.stage.world.checks.append(self.look)
        for number in range(tasks):
            plan = [self.dice.randrange(self.acts) for _ in range(rounds)]
            self.stage.task(f"t{number}", self.body(plan), cpu=number, migrates=number == 0)
        self.stage.wind_up(self.wind_up)

    def look(self, _flow: Flow) -> None:
        self.wrongs += self.find_wrongs(is_at_rest=False)

    def body(self, plan: list[int]) -> Callable[[Context], Awaitable[None]]:
        async def work(ctx: Context) -> None:
            for what in plan:
                await self.act(ctx, what)

        return work

    async def act(self, ctx: Context, what: int) -> None:
        """Do one thing: allocate one or some, free one or some, free after a grace period, shrink."""
        if what <= 2:
            self.keep(await kmem_cache_alloc(ctx, self.s, GFP_NOWAIT if what == 2 else GFP_KERNEL))
        elif what == 3:
            objects = await kmem_cache_alloc_bulk(ctx, self.s, 6)
            self.held.extend(objects)
        elif what == self.acts - 1:
            await self.shrink(ctx)
        elif self.held:
            obj = self.held.pop(len(self.held) // 2)
            if what == 4:
                await kmem_cache_free(ctx, self.s, obj)
            elif what == 5:
                given, self.held = [obj, *self.held[::2]], self.held[1::2]
                await kmem_cache_free_bulk(ctx, self.s, given)
            else:
                await self.free_later(ctx, what, obj)

    def free_and_allocate(self, obj: SlabObject) -> Callable[[Context, RcuHead], Awaitable[None]]:
        async def callback(ctx: Context, _head: RcuHead) -> None:
            self.keep(await kmem_cache_alloc(ctx, self.s, GFP_NOWAIT))
            await kmem_cache_free(ctx, self.s, obj)

        return callback

    def keep(self, obj: SlabObject | None) -> None:
        if obj is not None:
            self.held.append(obj)

    async def wind_up(self, ctx: Context) -> None:
        """At quiescence nothing is in transit; without objects, no slab remains after a shrink."""
        self.wrongs += self.find_wrongs(is_at_rest=True)
        for obj in self.held:
            await kmem_cache_free(ctx, self.s, obj)
        await self.wait_for_frees(ctx)
        self.wrongs += self.find_wrongs(is_at_rest=True)
        assert not self.s.live_objects
        assert not await self.shrink(ctx)
        await ctx.settle()
        assert not self.s.slabs
        assert [(n.nr_partial, n.nr_slabs, n.total_objects) for n in self.s.node] == [(0, 0, 0)] * len(self.s.node)
        assert self.stage.machine.buddy.allocated == 0
