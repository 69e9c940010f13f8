"""The books of objects: what users were handed and have not given back, whatever the allocator thinks of it.

They are kept where users call the allocator, round whatever body these functions have on the machine, patched or not.
So an allocator cannot get its own books and these wrong together: at rest it must count an object as allocated exactly
if a user has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from actors.kernel.kmem_cache import KmemCache, Slab, SlabObject
from actors.kernel.slab_bulk import kmem_cache_alloc_bulk, kmem_cache_free_bulk
from actors.kernel.slub import kmem_cache_free
from actors.kernel.slub_alloc import kmem_cache_alloc
from actors.system.bits import bits

if TYPE_CHECKING:
    from actors.kernel.context import Context

Code = Callable[..., Awaitable[Any]]


@attrs.define(eq=False)
class ObjectBooks:
    """`held` are the objects that users have, each with who asked for it, and at which step it came."""

    held: dict[SlabObject, tuple[str, int]] = attrs.field(factory=dict)

    def hand_out(self, ctx: Context, obj: SlabObject) -> None:
        """The allocator has returned *obj* to the one who asked."""
        self.held[obj] = ctx.name, ctx.world.step

    def take_back(self, ctx: Context, obj: SlabObject, function: str) -> None:
        """A user gives *obj* to *function*; what the allocator gives back to itself was nobody's."""
        if self.held.pop(obj, None) is not None:
            obj.slab.given[obj.at] = f"{function}() by {ctx.name}, step {ctx.world.step}"

    def wrongs(self, caches: Iterable[KmemCache]) -> Iterator[WrongObjects]:
        """What allocator and users do not agree about, at rest."""
        masks: Counter[Slab] = Counter()
        for obj in self.held:
            masks[obj.slab] |= 1 << obj.at
        for cache in caches:
            lines = [lost(slab, at) for slab in cache.slabs for at in bits(slab.live & ~masks[slab])]
            if lines:
                text = f"{cache.name} counts {len(lines)} objects as allocated, which nobody has"
                yield WrongObjects("leak", "object", text, lines)
        yield from self._free_in_use()

    def _free_in_use(self) -> Iterator[WrongObjects]:
        for obj, (name, step) in self.held.items():
            if obj.slab.freed is not None or not obj.slab.live >> obj.at & 1:
                how = f"its slab was freed by {obj.slab.freed}" if obj.slab.freed is not None else "it is free"
                text = f"{obj.label} is in use, but {how}"
                yield WrongObjects("invariant", "object in use", text, [f"{name} has got it at step {step}"])


class WrongObjects(NamedTuple):
    """What is wrong: the oracle that says so, its name for it, the text, and a line for each object."""

    kind: str
    name: str
    text: str
    details: list[str]


def lost(slab: Slab, at: int) -> str:
    """What became of an object that is allocated, and nobody's."""
    how = f"was given to {slab.given[at]}" if at in slab.given else "was never handed out"
    return f"{SlabObject(slab, at).label} {how}"


# -- where users call -------------------------------------------------------------------------------------------------


def noting_allocation(code: Code) -> Code:
    """kmem_cache_alloc() as it is, with a note of what it returns."""

    async def call(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        obj = await code(ctx, *args, **kwargs)
        if obj is not None:
            ctx.machine.objects.hand_out(ctx, obj)
        return obj

    return call


def noting_allocations(code: Code) -> Code:
    """kmem_cache_alloc_bulk() as it is, with a note of what it returns."""

    async def call(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        objects = await code(ctx, *args, **kwargs)
        for obj in objects:
            ctx.machine.objects.hand_out(ctx, obj)
        return objects

    return call


def noting_free(code: Code) -> Code:
    """kmem_cache_free() as it is, with a note of what it is given."""

    def call(ctx: Context, s: KmemCache, obj: SlabObject) -> Awaitable[Any]:
        ctx.machine.objects.take_back(ctx, obj, "kmem_cache_free")
        return code(ctx, s, obj)

    return call


def noting_frees(code: Code) -> Code:
    """kmem_cache_free_bulk() as it is, with a note of what it is given."""

    def call(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> Awaitable[Any]:
        given = list(objects)
        for obj in given:
            ctx.machine.objects.take_back(ctx, obj, "kmem_cache_free_bulk")
        return code(ctx, s, given)

    return call


kmem_cache_alloc.noted = noting_allocation
kmem_cache_alloc_bulk.noted = noting_allocations
kmem_cache_free.noted = noting_free
kmem_cache_free_bulk.noted = noting_frees
