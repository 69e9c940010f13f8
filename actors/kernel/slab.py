"""The structures of the slab allocator: kmem_cache, its slabs, per-CPU and per-node parts.

include/linux/slub_def.h and mm/slab.h @5.3.1; KERNEL.md 0.4 and 4.2. SLUB keeps the free objects of a slab in a
linked list through the objects; here a list is nested pairs `(object, rest)`, so that taking the head or
handing over the whole list is one assignment, as in C.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Optional

import attrs

from actors.kernel.locks import SpinLock
from actors.kernel.rcu import RcuHead
from actors.kernel.workqueue import Work
from actors.system.actor import Actor, Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.kernel.context import Context
    from actors.kernel.memcontrol import Memcg
    from actors.kernel.percpu_ref import PercpuRef

Chain = Optional[tuple[int, "Chain"]]  # noqa: UP045 -- a recursive alias needs the old spelling
"""A list of free objects, by their index in the slab."""


class SlabFlags(enum.Flag):
    """The SLAB_ flags that matter to the lifecycle."""

    NONE = 0
    ACCOUNT = enum.auto()
    TYPESAFE_BY_RCU = enum.auto()
    DEACTIVATED = enum.auto()


class SlabCounters(NamedTuple):
    """What cmpxchg_double() compares: the slab's freelist and its counters word."""

    freelist: Chain
    inuse: int
    frozen: bool


class SlabObject(NamedTuple):
    """An allocated object: its slab and its index there. What kmem_cache_alloc() returns a pointer to."""

    slab: Slab
    at: int

    @property
    def label(self) -> str:
        return f"object {self.at} of {self.slab.label}"


@attrs.define(eq=False)
class Slab(Shared):
    """struct page as SLUB uses it: 2^order pages cut into objects. `memcg` is page.mem_cgroup ([O] only).

    `live` is the ledger's own mask of allocated objects; the kernel has no such thing.
    """

    serial: int
    slab_cache: KmemCache
    freelist: Chain
    inuse: int
    frozen: bool
    live: int = 0
    memcg: Memcg | None = None
    rcu_head: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rcu_head = RcuHead(self)

    @property
    def label(self) -> str:
        return f"slab {self.serial} of {self.slab_cache.name}"

    @property
    def objects(self) -> int:
        return self.slab_cache.objects

    @operation(READ, cost=ATOMIC_NS)
    def read_counters(self) -> SlabCounters:
        return SlabCounters(self.freelist, self.inuse, self.frozen)

    @operation(UPDATE)
    def cmpxchg_double(self, old: SlabCounters, new: SlabCounters) -> bool:
        """Set freelist and counters to *new* if they are still *old*."""
        if self.freelist is not old.freelist or self.inuse != old.inuse or self.frozen != old.frozen:
            return False
        self.freelist, self.inuse, self.frozen = new
        return True


@attrs.define(eq=False)
class KmemCacheCpu(Shared):
    """struct kmem_cache_cpu: one CPU's part of a cache; owned by the CPU.

    `partial` is the stack of frozen partial slabs, `pobjects` their free objects when they were put there.
    """

    cache: KmemCache
    tid: int
    freelist: Chain = None
    page: Slab | None = None
    partial: list[Slab] = attrs.field(factory=list)
    pobjects: int = 0

    @property
    def label(self) -> str:
        return f"kmem_cache_cpu of {self.cache.name} on {self.actor.name}"

    @operation(READ)
    def has_cpu_slab(self) -> bool:
        """What flush_all() asks of other CPUs."""
        return self.page is not None or bool(self.partial)


@attrs.define(eq=False)
class KmemCacheNode(Shared):
    """struct kmem_cache_node; the model has one node. `partial` is ordered, head first."""

    cache: KmemCache
    list_lock: SpinLock = attrs.field(init=False)
    partial: list[Slab] = attrs.field(factory=list, init=False)
    nr_slabs: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.list_lock = SpinLock(self.actor, f"list_lock of {self.cache.name}")

    @property
    def label(self) -> str:
        return f"kmem_cache_node of {self.cache.name}"

    @operation(READ)
    def read_nr_partial(self) -> int:
        return len(self.partial)

    @operation(UPDATE)
    def add_partial(self, slab: Slab, *, tail: bool) -> None:
        assert self.list_lock.holder is not None
        self.partial.insert(len(self.partial) if tail else 0, slab)

    @operation(UPDATE)
    def remove_partial(self, slab: Slab) -> None:
        assert self.list_lock.holder is not None
        self.partial.remove(slab)

    @operation(READ)
    def list_partial(self) -> tuple[Slab, ...]:
        """The list as it is; list_lock keeps it so."""
        return tuple(self.partial)

    @operation(UPDATE)
    def sort_partial(self, order: tuple[Slab, ...]) -> None:
        assert self.list_lock.holder is not None
        self.partial[:] = order

    @operation(UPDATE)
    def add_nr_slabs(self, nr: int) -> None:
        self.nr_slabs += nr

    @operation(READ)
    def read_nr_slabs(self) -> int:
        return self.nr_slabs


@attrs.define(eq=False)
class MemcgCacheArray(Shared):
    """struct memcg_cache_array of a root cache: its child caches by kmemcg_id. RCU-freed when it is outgrown."""

    root: KmemCache
    entries: list[KmemCache | None]

    @property
    def label(self) -> str:
        return f"memcg_caches of {self.root.name}"

    def grown(self, size: int) -> MemcgCacheArray:
        """A copy with room for *size* entries; slab_mutex is held."""
        return MemcgCacheArray(self.actor, self.root, self.entries + [None] * (size - len(self.entries)))

    @operation(READ)
    def read_entry(self, kmemcg_id: int) -> KmemCache | None:
        return self.entries[kmemcg_id]

    @operation(UPDATE)
    def set_entry(self, kmemcg_id: int, cache: KmemCache | None) -> None:
        self.entries[kmemcg_id] = cache


WorkFn = Callable[["Context", "KmemCache"], Awaitable[None]]


@attrs.define(eq=False)
class KmemCache(Shared):
    """struct kmem_cache with its memcg_params: an actor of its own.

    `object_size` is in bytes, `objects` per slab of 2^`order` pages. A child cache has a `root_cache`, a
    `memcg` and, with reparenting, a `refcnt` that counts pages, running allocations and itself. `rcu_head` and
    `work` share their storage in C: at most one of them is in use. The ledger's own counts: `inflight`
    (allocations between get and put), `charged_pages` (pages charged and not yet uncharged), `slabs` (every
    slab that exists).
    """

    name: str
    object_size: int
    objects: int
    order: int
    flags: SlabFlags
    cpu_partial: int
    min_partial: int
    root_cache: KmemCache | None = None
    memcg: Memcg | None = attrs.field(default=None, init=False)
    refcnt: PercpuRef | None = attrs.field(default=None, init=False)
    memcg_caches: MemcgCacheArray | None = attrs.field(default=None, init=False)
    children: dict[KmemCache, None] = attrs.field(factory=dict, init=False)
    dying: bool = attrs.field(default=False, init=False)
    work_fn: WorkFn | None = attrs.field(default=None, init=False)
    rcu_head: RcuHead = attrs.field(init=False)
    work: Work = attrs.field(init=False)
    node: KmemCacheNode = attrs.field(init=False)
    cpu_slab: list[KmemCacheCpu] = attrs.field(factory=list, init=False)
    inflight: int = attrs.field(default=0, init=False)
    charged_pages: int = attrs.field(default=0, init=False)
    slabs: dict[Slab, None] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.actor.state = self
        self.rcu_head = RcuHead(self)
        self.work = Work(self.actor, self)
        self.node = KmemCacheNode(self.actor, self)

    @property
    def label(self) -> str:
        return f"kmem_cache {self.name}"

    @property
    def is_root_cache(self) -> bool:
        return self.root_cache is None

    @property
    def pages(self) -> int:
        """4K pages per slab."""
        return 1 << self.order

    @property
    def live_objects(self) -> int:
        return sum(slab.live.bit_count() for slab in self.slabs)

    def owned_slabs(self) -> set[Slab]:
        """The slabs that some CPU or the node's partial list knows of; any other must be full."""
        owned = set(self.node.partial)
        for c in self.cpu_slab:
            owned.update(c.partial)
            if c.page is not None:
                owned.add(c.page)
        return owned

    def parts(self) -> tuple[Shared | None, ...]:
        """The struct with everything inside it."""
        return (self, self.refcnt, self.work, self.node, self.node.list_lock, *self.cpu_slab)

    @operation(READ)
    def read_memcg(self) -> Memcg | None:
        return self.memcg

    @operation(UPDATE)
    def set_memcg(self, memcg: Memcg | None) -> None:
        self.memcg = memcg

    @operation(READ)
    def read_memcg_caches(self) -> MemcgCacheArray:
        assert self.memcg_caches is not None
        return self.memcg_caches

    @operation(UPDATE)
    def set_memcg_caches(self, array: MemcgCacheArray) -> None:
        self.memcg_caches = array

    @operation(UPDATE)
    def add_child(self, child: KmemCache) -> None:
        self.children[child] = None

    @operation(UPDATE)
    def del_child(self, child: KmemCache) -> None:
        del self.children[child]

    @operation(READ)
    def read_cpu_partial(self) -> int:
        return self.cpu_partial

    @operation(READ)
    def read_min_partial(self) -> int:
        return self.min_partial

    @operation(UPDATE)
    def set_cpu_partial(self, objects: int) -> None:
        self.cpu_partial = objects

    @operation(UPDATE)
    def set_min_partial(self, slabs: int) -> None:
        self.min_partial = slabs

    @operation(READ)
    def read_dying(self) -> bool:
        return self.dying

    @operation(READ)
    def read_work_fn(self) -> WorkFn | None:
        return self.work_fn

    @operation(UPDATE)
    def set_work_fn(self, work_fn: WorkFn | None) -> None:
        self.work_fn = work_fn

    @operation(UPDATE)
    def set_flag(self, flag: SlabFlags) -> None:
        self.flags |= flag


def set_cpu_partial(size: int) -> int:
    """How many free objects one CPU keeps in partial slabs: by object size in bytes (kmem_cache_open)."""
    for least, objects in ((4096, 2), (1024, 6), (256, 13)):
        if size >= least:
            return objects
    return 30


def set_min_partial(size: int) -> int:
    """How many empty slabs a node keeps: log2(size)/2, 5 to 10."""
    return min(max((size.bit_length() - 1) // 2, 5), 10)


def make_cache(
    actor: Actor, name: str, *, size: int, objects: int, order: int, flags: SlabFlags, root: KmemCache | None
) -> KmemCache:
    """A kmem_cache with the limits that kmem_cache_open() computes; per-CPU parts are the caller's."""
    return KmemCache(
        actor,
        name,
        object_size=size,
        objects=objects,
        order=order,
        flags=flags,
        cpu_partial=set_cpu_partial(size),
        min_partial=set_min_partial(size),
        root_cache=root,
    )
