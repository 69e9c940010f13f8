"""The structures of SLAB: the array caches of CPUs and nodes, and the lists of a node.

include/linux/slab_def.h, mm/slab.c @5.3.1; KERNEL.md 4.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import attrs

from actors.linux.kernel.locking.locks import SpinLock
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.machine.list_head import ListHead
from actors.system.actor import Shared
from actors.system.flow import Kind
from protocol.findings import Oops
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

BATCHREFILL_LIMIT = 16
ALIEN_LIMIT = 12
SHARED_FACTOR = 8
REAPTIMEOUT_NODE = 4_000_000_000  # ns

THIS_CPU_ARRAY = OperationInfo("this_cpu_array", cost=ATOMIC_NS)


def array_limit(size: int) -> int:
    """The number of free objects that a CPU keeps, by object size in bytes (enable_cpucache)."""
    for more_than, limit in ((131_072, 1), (4096, 8), (1024, 24), (256, 54)):
        if size > more_than:
            return limit
    return 120


@attrs.define(eq=False)
class ArrayCache(Shared):
    """struct array_cache: up to `limit` free objects, the one freed last at the end.

    `lock` protects a node's array. A CPU's array has none; it is used with interrupts off (check_irq_off(), with
    DEBUG).
    """

    name: str
    limit: int
    batchcount: int
    lock: SpinLock | None = attrs.field(default=None, init=False)
    entries: list[SlabObject] = attrs.field(factory=list, init=False)
    touched: bool = attrs.field(default=False, init=False)

    @property
    def label(self) -> str:
        return self.name

    @operation(READ)
    def read_avail(self) -> int:
        return len(self.entries)

    def take_oldest(self, count: int) -> list[SlabObject]:
        """Remove the objects that were put in first."""
        self._check()
        oldest, self.entries[:] = self.entries[:count], self.entries[count:]
        return oldest

    def take_youngest(self, count: int) -> list[SlabObject]:
        """Remove the objects that were put in last."""
        self._check()
        youngest = self.entries[-count:]
        del self.entries[-count:]
        return youngest

    def pop(self) -> SlabObject:
        """ac->entry[--ac->avail]."""
        self._check()
        if not self.entries:
            raise self._out_of_bounds(-1)
        return self.entries.pop()

    def put(self, *objects: SlabObject) -> None:
        """ac->entry[ac->avail++]; more than `limit` objects would overwrite the memory behind the array."""
        self.entries += objects
        self._check()

    def _check(self) -> None:
        """Check that the caller holds the lock and that the array is within its limit."""
        if len(self.entries) > self.limit:
            raise self._out_of_bounds(len(self.entries) - 1)
        flow = self.actor.world.current
        if self.lock is not None:
            self.lock.assert_held()
        elif flow is not None and not (flow.irqs_off or flow.kind is Kind.HARDIRQ):
            raise Oops("bug", "check_irq_off: !irqs_disabled()", f"kernel BUG: IRQs are on: {self.label}")

    def _out_of_bounds(self, at: int) -> Oops:
        text = f"entry[{at}] of {self.label}, which has {self.limit}"
        return Oops("bug", "slab-out-of-bounds", f"BUG: KASAN: slab-out-of-bounds: {text}")


@attrs.define(eq=False)
class AlienCache(Shared):
    """struct alien_cache: objects of one other node, to be returned there."""

    nid: int
    array: ArrayCache
    lock: SpinLock

    def __attrs_post_init__(self) -> None:
        self.array.lock = self.lock

    @property
    def label(self) -> str:
        return self.array.name


class SlabNodeCounts(NamedTuple):
    """Counts of one node: slabs, free slabs, free objects in slabs, objects in the shared array."""

    total_slabs: int
    free_slabs: int
    free_objects: int
    shared_avail: int


@attrs.define(eq=False)
class SlabNode(Shared):
    """struct kmem_cache_node of SLAB. The lists are ordered, head first; `alien` is indexed by node.

    invariant: `free_objects` counts the free objects of all listed slabs, not those in arrays.
    """

    cache: KmemCache
    nid: int
    free_limit: int
    next_reap: int
    shared: ArrayCache | None
    alien: dict[int, AlienCache] = attrs.field(factory=dict)
    list_lock: SpinLock = attrs.field(init=False)
    slabs_partial: ListHead[Slab] = attrs.field(init=False)
    slabs_full: ListHead[Slab] = attrs.field(init=False)
    slabs_free: ListHead[Slab] = attrs.field(init=False)
    free_objects: int = attrs.field(default=0, init=False)
    total_slabs: int = attrs.field(default=0, init=False)
    free_touched: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.list_lock = SpinLock(self.actor, "&(&n->list_lock)->rlock")
        self.slabs_partial, self.slabs_full, self.slabs_free = ListHead(self), ListHead(self), ListHead(self)
        if self.shared is not None:
            self.shared.lock = self.list_lock

    @property
    def label(self) -> str:
        return f"kmem_cache_node {self.nid} of {self.cache.name}"

    def all_slabs(self) -> list[Slab]:
        """Every slab that is on a list."""
        return [*self.slabs_partial, *self.slabs_full, *self.slabs_free]

    def parked(self) -> Iterator[SlabObject]:
        """The free objects in the node's own arrays."""
        for array in (self.shared, *(alien.array for alien in self.alien.values())):
            if array is not None:
                yield from array.entries

    def parts(self) -> Iterator[Shared | None]:
        """The struct and all its parts."""
        yield from (self, self.list_lock, self.shared)
        for alien in self.alien.values():
            yield from (alien, alien.array, alien.lock)

    @operation(READ)
    def read_counts(self) -> SlabNodeCounts:
        """The counts that get_slabinfo() adds up; list_lock is held."""
        shared_avail = len(self.shared.entries) if self.shared is not None else 0
        return SlabNodeCounts(self.total_slabs, len(self.slabs_free), self.free_objects, shared_avail)

    @operation(READ)
    def has_free_objects(self) -> bool:
        """cache_alloc_refill() reads this before it takes the lock."""
        return bool(self.free_objects or (self.shared and self.shared.entries))

    @operation(UPDATE)
    def refill(self, array: ArrayCache, batchcount: int) -> None:
        """Refill *array* from the shared array, or from partial and free slabs; list_lock is held."""
        self.list_lock.assert_held()
        if self.shared is not None and self.shared.entries:
            array.put(*self.shared.take_youngest(batchcount))
            self.shared.touched = True
            return
        while batchcount > 0 and (slab := self._first_slab()) is not None:
            batchcount = alloc_block(array, slab, batchcount)
            self._link(slab)
        self.free_objects -= len(array.entries)

    def _first_slab(self) -> Slab | None:
        slab = self.slabs_partial.list_first_entry()
        if slab is None:
            self.free_touched = True
            slab = self.slabs_free.list_first_entry()
        return unlink(slab) if slab is not None else None

    def _link(self, slab: Slab) -> None:
        """fixup_slab_list()."""
        slab.list_add(self.slabs_full if slab.inuse == slab.objects else self.slabs_partial)

    @operation(UPDATE)
    def add_slab(self, slab: Slab) -> None:
        """cache_grow_end(): link a new slab, some of whose objects may be allocated already; list_lock is held."""
        self.list_lock.assert_held()
        slab.assert_node(self, self.nid)
        self.total_slabs += 1
        if slab.inuse:
            self._link(slab)
        else:
            slab.list_add(self.slabs_free, tail=True)
        self.free_objects += slab.objects - slab.inuse

    @operation(UPDATE)
    def take_shared(self, array: ArrayCache) -> bool:
        """cache_flusharray(): move a batch to the shared array, as far as it fits; list_lock is held."""
        self.list_lock.assert_held()
        room = self.shared.limit - len(self.shared.entries) if self.shared is not None else 0
        if not room or self.shared is None:
            return False
        self.shared.put(*array.take_oldest(min(array.batchcount, room)))
        return True

    @operation(UPDATE)
    def free_block(self, objects: list[SlabObject]) -> list[Slab]:
        """Return *objects* to their slabs; return the free slabs above free_limit. list_lock is held."""
        self.list_lock.assert_held()
        self.free_objects += len(objects)
        for obj in objects:
            self._put_object(obj)
        surplus = []
        while self.free_objects > self.free_limit and (slab := self.slabs_free.list_last_entry()) is not None:
            surplus.append(unlink(slab))
            self.free_objects -= surplus[-1].objects
            self.total_slabs -= 1
        return surplus

    def _put_object(self, obj: SlabObject) -> None:
        slab = obj.slab
        slab.assert_node(self, self.nid)
        slab.freelist = (obj.at, slab.freelist)
        slab.inuse -= 1
        if slab.inuse and slab.slab_list is self.slabs_partial:
            self.slabs_partial.list_move_tail(slab)
        elif slab.inuse:
            unlink(slab).list_add(self.slabs_partial, tail=True)
        else:
            unlink(slab).list_add(self.slabs_free)

    @operation(UPDATE)
    def take_free_slab(self) -> Slab | None:
        """drain_freelist(): unlink the last free slab; list_lock is held."""
        self.list_lock.assert_held()
        slab = self.slabs_free.list_last_entry()
        if slab is None:
            return None
        unlink(slab)
        self.free_objects -= slab.objects
        self.total_slabs -= 1
        return slab

    @operation(READ)
    def is_in_use(self) -> bool:
        return bool(self.slabs_full or self.slabs_partial)


def unlink(slab: Slab) -> Slab:
    """list_del(&page->slab_list)."""
    slab.list_del()
    return slab


def alloc_block(array: ArrayCache, slab: Slab, batchcount: int) -> int:
    """Move up to *batchcount* free objects of *slab* into *array*; return the number still missing."""
    if slab.inuse >= slab.objects:
        raise Oops("bug", "alloc_block: page->active >= cachep->num", f"kernel BUG: {slab.label} is full")
    while batchcount > 0 and slab.freelist is not None:
        at, slab.freelist = slab.freelist
        slab.inuse += 1
        array.put(SlabObject(slab, at))
        batchcount -= 1
    return batchcount
