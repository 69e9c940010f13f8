"""Objects in use: the allocator's counts against what users have got and have not given back.

At rest the allocator must count an object as allocated exactly if a user has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.machine.object_books import ObjectBooks
from actors.system.bits import bits


class WrongObjects(NamedTuple):
    """What is wrong: the oracle that says so, its name for it, the text, and a line for each object."""

    kind: str
    name: str
    text: str
    details: list[str]


def object_wrongs(books: ObjectBooks, caches: Iterable[KmemCache]) -> Iterator[WrongObjects]:
    """Objects that are allocated and that no user has, then objects that a user has and that are free."""
    masks: Counter[Slab] = Counter()
    for obj in books.held:
        masks[obj.slab] |= 1 << obj.at
    for cache in caches:
        lines = [lost(slab, at) for slab in cache.slabs for at in bits(slab.live & ~masks[slab])]
        if lines:
            text = f"{cache.name} counts {len(lines)} objects as allocated, which nobody has"
            yield WrongObjects("leak", "object", text, lines)
    for obj, (name, step) in books.held.items():
        if obj.slab.freed is not None or not obj.slab.live >> obj.at & 1:
            how = f"its slab was freed by {obj.slab.freed}" if obj.slab.freed is not None else "it is free"
            text = f"{obj.label} is in use, but {how}"
            yield WrongObjects("invariant", "object in use", text, [f"{name} has got it at step {step}"])


def lost(slab: Slab, at: int) -> str:
    """How an object that is allocated, and that no user has, came to be so."""
    how = f"was given to {slab.given[at]}" if at in slab.given else "was never handed out"
    return f"{SlabObject(slab, at).label} {how}"
