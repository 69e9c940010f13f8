"""Objects in use: the allocator's counts against the objects that users hold.

At quiescence the allocator must count an object as allocated exactly if a user has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.machine.object_books import ObjectBooks
from actors.system.bits import bits


class WrongObjects(NamedTuple):
    """A violation: its oracle, its name, the text, and a line for each object."""

    kind: str
    name: str
    text: str
    details: list[str]


def object_wrongs(books: ObjectBooks, caches: Iterable[KmemCache]) -> Iterator[WrongObjects]:
    """Allocated objects without a user, then free objects with a user."""
    masks: Counter[Slab] = Counter()
    for obj in books.held:
        masks[obj.slab] |= 1 << obj.at
    for cache in caches:
        lines = [lost(slab, at) for slab in cache.slabs for at in bits(slab.live & ~masks[slab])]
        if lines:
            text = f"{cache.name} counts {len(lines)} objects as allocated, but no user has them"
            yield WrongObjects("leak", "object", text, lines)
    for obj, (name, step) in books.held.items():
        if obj.slab.freed is not None or not obj.slab.live >> obj.at & 1:
            how = f"its slab was freed by {obj.slab.freed}" if obj.slab.freed is not None else "it is free"
            text = f"{obj.label} is in use, but {how}"
            yield WrongObjects("invariant", "object in use", text, [f"{name} got it at step {step}"])


def lost(slab: Slab, at: int) -> str:
    """The history of an allocated object without a user."""
    how = f"was given to {slab.given[at]}" if at in slab.given else "was never handed out"
    return f"{SlabObject(slab, at).label} {how}"
