"""SLAB, the other allocator: array caches, shared and alien arrays, slab lists. mm/slab.c @5.3.1; KERNEL.md 4.7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from actors.system.actor import Shared

if TYPE_CHECKING:
    from actors.kernel.kmem_cache import KmemCache, Slab, SlabObject


@attrs.define(eq=False)
class ArrayCache(Shared):
    """struct array_cache."""

    cache: KmemCache
    entries: list[SlabObject] = attrs.field(factory=list, init=False)


@attrs.define(eq=False)
class SlabNode(Shared):
    """struct kmem_cache_node of SLAB."""

    cache: KmemCache

    def all_slabs(self) -> list[Slab]:
        return []

    def parked(self) -> Iterator[SlabObject]:
        yield from ()

    def parts(self) -> Iterator[Shared]:
        yield self
