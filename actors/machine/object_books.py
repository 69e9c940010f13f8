"""The shadow accounting of slab objects: the current user of each object, recorded at the allocator's interface.

The recording wraps whichever body the allocator's functions have on the machine, patched or not (`noted`). So an error
in an allocator's own counts cannot be in these records, too. `actors/oracles/objects.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from actors.linux.mm.kmem_cache import KmemCache, SlabObject
    from actors.machine.context import Context

Code = Callable[..., Awaitable[Any]]


@attrs.define(eq=False)
class ObjectBooks:
    """`held` maps each object in use to the flow that allocated it and the step of that allocation."""

    held: dict[SlabObject, tuple[str, int]] = attrs.field(factory=dict)

    def hand_out(self, ctx: Context, obj: SlabObject) -> None:
        """The allocator has returned *obj* to the flow of *ctx*."""
        self.held[obj] = ctx.name, ctx.world.step

    def take_back(self, ctx: Context, obj: SlabObject, function: str) -> None:
        """A user passes *obj* to *function*; an object that the allocator frees itself had no user."""
        if self.held.pop(obj, None) is not None:
            obj.slab.given[obj.at] = f"{function}() by {ctx.name}, step {ctx.world.step}"


def noting_allocation(code: Code) -> Code:
    """kmem_cache_alloc() unchanged, with a record of the object it returns."""

    async def call(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        obj = await code(ctx, *args, **kwargs)
        if obj is not None:
            ctx.machine.objects.hand_out(ctx, obj)
        return obj

    return call


def noting_allocations(code: Code) -> Code:
    """kmem_cache_alloc_bulk() unchanged, with a record of the objects it returns."""

    async def call(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        objects = await code(ctx, *args, **kwargs)
        for obj in objects:
            ctx.machine.objects.hand_out(ctx, obj)
        return objects

    return call


def noting_free(code: Code) -> Code:
    """kmem_cache_free() unchanged, with a record of its argument."""

    def call(ctx: Context, s: KmemCache, obj: SlabObject) -> Awaitable[Any]:
        ctx.machine.objects.take_back(ctx, obj, "kmem_cache_free")
        return code(ctx, s, obj)

    return call


def noting_frees(code: Code) -> Code:
    """kmem_cache_free_bulk() unchanged, with a record of its arguments."""

    def call(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> Awaitable[Any]:
        given = list(objects)
        for obj in given:
            ctx.machine.objects.take_back(ctx, obj, "kmem_cache_free_bulk")
        return code(ctx, s, given)

    return call
