"""The structures of the slab allocators: kmem_cache, its slabs, SLUB's per-CPU and per-node parts.

include/linux/slub_def.h, mm/slab.h @5.3.1; KERNEL.md 0.4 and 4.2. The free objects of a slab form a linked list. Here
a list is nested pairs `(object, rest)`, so that taking the head or the whole list is one assignment, as in C. SLAB's
own parts are in `slab_def`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Optional

import attrs

from actors.linux.include.slab import SlabFlags
from actors.linux.kernel.locking.locks import LocalTryLock, SpinLock
from actors.linux.kernel.rcu.tree import RcuHead
from actors.linux.kernel.workqueue import Work
from actors.linux.mm.vmstat import StatItem
from actors.machine.context import Context, deref
from actors.machine.list_head import ListEntry, ListHead, corruption
from actors.machine.lockless import LocklessField
from actors.system.actor import Shared
from protocol.findings import Oops
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.lib.percpu_refcount import PercpuRef
    from actors.linux.mm.memcontrol import Memcg
    from actors.linux.mm.obj_cgroup import ObjExts
    from actors.linux.mm.slab_def import ArrayCache, SlabNode
    from actors.linux.mm.slub_sysfs import Kobject

Chain = Optional[tuple[int, "Chain"]]  # noqa: UP045 -- a recursive alias needs the old spelling
"""A list of free objects, by their index in the slab."""

WorkFn = Callable[[Context, "KmemCache"], Awaitable[None]]
"""memcg_params.work_fn: the cache's next deferred step, run by a worker; or its release function."""

_NONE: Mapping[Context, int] = MappingProxyType({})
"""The allocations in flight of nearly all caches; one object for all."""


class SlabCounters(NamedTuple):
    """The double word that cmpxchg_double() compares: the slab's freelist and its counters."""

    freelist: Chain
    inuse: int
    frozen: bool


class SlabObject(NamedTuple):
    """An allocated object: its slab and its index there; C has a pointer."""

    slab: Slab
    at: int

    @property
    def label(self) -> str:
        return f"object {self.at} of {self.slab.label}"


@attrs.define(eq=False)
class Slab(ListEntry):
    """struct page as the head of a slab: 2^order pages from frame `pfn` on, divided into objects.

    `memcg` is page.mem_cgroup ([O] only), `inuse` SLAB's `active`. `pobjects` is the number of free objects on a CPU's
    partial list up to this slab. `slab_list` is the node's list that the slab is on, also 6.12's flag
    for that. From 6.12 on, `obj_exts` has the obj_cgroup of each accounted object; it is made for the first one.

    Shadow accounting: `live` is a mask of the allocated objects. `made_by` is the execution context and the step that
    made the slab. `given` has the last user of each object. `readers_gone` returns whether a grace period has passed
    since the last object was freed.
    """

    serial: int
    slab_cache: KmemCache
    nid: int
    order: int
    objects: int
    freelist: Chain
    inuse: int
    frozen: bool
    made_by: tuple[str, int]
    pfn: int
    live: int = 0
    given: dict[int, str] = attrs.field(factory=dict, init=False)
    pobjects: int = 0
    memcg: Memcg | None = None
    readers_gone: Callable[[], bool] | None = attrs.field(default=None, init=False)
    slab_list: ListHead[Slab] | None = None
    obj_exts: ObjExts | None = attrs.field(default=None, init=False)
    rcu_head: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rcu_head = RcuHead(self)

    @property
    def label(self) -> str:
        return f"slab {self.serial} of {self.slab_cache.name}"

    @property
    def pages(self) -> int:
        """The slab's size in 4K pages."""
        return 1 << self.order

    def list_add(self, slabs: ListHead[Slab], *, tail: bool = False) -> None:
        """Link the slab into *slabs*."""
        (slabs.list_add_tail if tail else slabs.list_add)(self)
        self.slab_list = slabs

    def list_del(self) -> None:
        """Unlink the slab from the list it is on. The links are in the slab and do not show whose list that is."""
        if self.slab_list is None:
            raise corruption("list_del", self)
        self.slab_list.list_del(self)
        self.slab_list = None

    def assert_node(self, node: Shared, nid: int) -> None:
        """Report a slab that comes to another node than its own: get_node(s, page_to_nid(page))."""
        if self.nid != nid:
            text = f"{self.label}, which is memory of node {self.nid}, comes to {node.label}"
            self.actor.world.report("invariant", "node", f"invariant node: {text}")

    @operation(READ, cost=ATOMIC_NS)
    def read_counters(self) -> SlabCounters:
        return SlabCounters(self.freelist, self.inuse, self.frozen)

    @operation(UPDATE, lifecycle=True)
    def cmpxchg_double(self, old: SlabCounters, new: SlabCounters) -> bool:
        """Set freelist and counters to *new* if they are still *old*."""
        if self.freelist is not old.freelist or self.inuse != old.inuse or self.frozen != old.frozen:
            return False
        self.freelist, self.inuse, self.frozen = new
        return True

    @operation(UPDATE, part="obj_exts")
    def cmpxchg_obj_exts(self, exts: ObjExts) -> None:
        """Set the vector, unless another CPU has done so meanwhile."""
        if self.obj_exts is None:
            self.obj_exts = exts


@attrs.define(eq=False)
class KmemCacheCpu(Shared):
    """struct kmem_cache_cpu: SLUB's part of a cache on one CPU, number `cpu`, which owns it.

    `partial` is the stack of partial slabs, which are frozen until 5.4.
    """

    cache: KmemCache
    cpu: int
    tid: int
    freelist: Chain = None
    page: Slab | None = None
    partial: list[Slab] = attrs.field(factory=list)

    @property
    def label(self) -> str:
        return f"kmem_cache_cpu of {self.cache.name} on {self.actor.name}"

    @operation(READ)
    def has_cpu_slab(self) -> bool:
        """flush_all() reads this of other CPUs: whether they have slabs of the cache."""
        return self.page is not None or bool(self.partial)


@attrs.define(eq=False)
class SlabSheaf(Shared):
    """struct slab_sheaf, from 7.2 on: an array of up to sheaf_capacity free objects, the next one last.

    An rcu sheaf has objects that wait for a grace period; `nid` is the node of the CPU that has filled it.
    """

    cache: KmemCache
    objects: list[SlabObject] = attrs.field(factory=list, init=False)
    nid: int = attrs.field(default=-1, init=False)

    @property
    def label(self) -> str:
        return f"sheaf of {self.cache.name}"

    @property
    def has_room(self) -> bool:
        return len(self.objects) < self.cache.sheaf_capacity


@attrs.define(eq=False)
class SlubPercpuSheaves(Shared):
    """struct slub_percpu_sheaves: the sheaves of a cache on CPU number `cpu`, which owns them. From 7.2 on.

    `spare` is None, or empty or full; if a full main was replaced too late, it has any number of objects. `rcu_free` is
    None, or it has room.
    """

    cache: KmemCache
    cpu: int
    main: SlabSheaf
    spare: SlabSheaf | None = attrs.field(default=None, init=False)
    rcu_free: SlabSheaf | None = attrs.field(default=None, init=False)
    lock: LocalTryLock = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = LocalTryLock(self.actor, "&pcs->lock")

    @property
    def label(self) -> str:
        return f"sheaves of {self.cache.name} on {self.actor.name}"

    @property
    def parked(self) -> Iterator[SlabObject]:
        """The free objects here; those of `rcu_free` are not free yet."""
        yield from self.main.objects
        if self.spare is not None:
            yield from self.spare.objects

    @operation(READ)
    def has_spare(self) -> bool:
        return self.spare is not None

    @operation(READ)
    def has_rcu_free(self) -> bool:
        return self.rcu_free is not None

    @operation(READ)
    def has_objects(self) -> bool:
        """pcs->main->size, read by another CPU. Main may be in a barn by now, and freed from there."""
        self.main.touch(READ)
        if self.main.freed is not None:
            self.actor.world.report_use_after_free(self.main)
        return bool(self.main.objects)


@attrs.define(eq=False)
class NodeBarn(Shared):
    """struct node_barn: full and empty sheaves of a cache for the CPUs of a node, the next one last. From 7.2 on."""

    cache: KmemCache
    nid: int
    lock: SpinLock = attrs.field(init=False)
    full: list[SlabSheaf] = attrs.field(factory=list, init=False)
    empty: list[SlabSheaf] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(self.actor, "&barn->lock")

    @property
    def label(self) -> str:
        return f"barn {self.nid} of {self.cache.name}"

    @operation(READ, part="full", cost=ATOMIC_NS)
    def read_nr_full(self) -> int:
        return len(self.full)

    @operation(READ, part="empty", cost=ATOMIC_NS)
    def read_nr_empty(self) -> int:
        return len(self.empty)

    @operation(UPDATE, part="full")
    def put_full(self, sheaf: SlabSheaf) -> None:
        self.lock.assert_held()
        self.full.append(sheaf)

    @operation(UPDATE, part="empty")
    def put_empty(self, sheaf: SlabSheaf) -> None:
        self.lock.assert_held()
        self.empty.append(sheaf)

    @operation(UPDATE, part="empty")
    def take_empty(self) -> SlabSheaf | None:
        self.lock.assert_held()
        return self.empty.pop() if self.empty else None

    @operation(UPDATE)
    def swap_for_full(self, empty: SlabSheaf) -> SlabSheaf | None:
        """Exchange an *empty* sheaf for a full one; None if there is none."""
        self.lock.assert_held()
        if not self.full:
            return None
        self.empty.append(empty)
        return self.full.pop()

    @operation(UPDATE)
    def swap_for_empty(self, full: SlabSheaf) -> SlabSheaf | None:
        """Exchange a *full* sheaf for an empty one; None if there is none."""
        self.lock.assert_held()
        if not self.empty:
            return None
        self.full.append(full)
        return self.empty.pop()

    @operation(UPDATE)
    def take_all(self) -> tuple[list[SlabSheaf], list[SlabSheaf]]:
        """Take all sheaves: the full ones and the empty ones."""
        self.lock.assert_held()
        taken = self.full, self.empty
        self.full, self.empty = [], []
        return taken


@attrs.define(eq=False)
class KmemCacheNode(Shared):
    """struct kmem_cache_node of SLUB. `partial` is ordered, head first; `nr_partial` should be its length.

    From 7.2 on a node of a cache with sheaves has a `barn`.
    """

    cache: KmemCache
    nid: int
    barn: NodeBarn | None = None
    list_lock: SpinLock = attrs.field(init=False)
    partial: ListHead[Slab] = attrs.field(init=False)
    nr_partial: int = attrs.field(default=0, init=False)
    nr_slabs: int = attrs.field(default=0, init=False)
    total_objects: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.list_lock = SpinLock(self.actor, "&(&n->list_lock)->rlock")
        self.partial = ListHead(self, "partial")

    @property
    def label(self) -> str:
        return f"kmem_cache_node {self.nid} of {self.cache.name}"

    @operation(READ, part="partial")
    def read_nr_partial(self) -> int:
        return self.nr_partial

    @operation(UPDATE, part="partial")
    def add_partial(self, slab: Slab, *, tail: bool) -> None:
        self.list_lock.assert_held()
        slab.assert_node(self, self.nid)
        slab.list_add(self.partial, tail=tail)
        self.nr_partial += 1

    @operation(UPDATE, part="partial")
    def remove_partial(self, slab: Slab) -> None:
        self.list_lock.assert_held()
        slab.list_del()
        self.nr_partial -= 1

    @operation(READ, part="partial")
    def list_partial(self) -> tuple[Slab, ...]:
        """The list as it is; list_lock keeps it so."""
        return self.partial.walk()

    def has_partial(self, slab: Slab) -> bool:
        """slab_test_node_partial(): *slab* is on this list. Its flag changes, and is read, under list_lock only."""
        self.touch_part("partial", READ)
        return slab.slab_list is not None

    @operation(UPDATE, part="partial")
    def sort_partial(self, order: tuple[Slab, ...]) -> None:
        self.list_lock.assert_held()
        self.partial.reorder(order)

    @operation(UPDATE, part="nr_slabs")
    def add_nr_slabs(self, nr: int, objects: int) -> None:
        self.nr_slabs += nr
        self.total_objects += objects

    @operation(READ, part="nr_slabs")
    def read_nr_slabs(self) -> int:
        return self.nr_slabs

    @operation(READ, part="nr_slabs")
    def read_total_objects(self) -> int:
        return self.total_objects


@attrs.define(eq=False)
class SlubFlushWork(Shared):
    """struct slub_flush_work of one CPU, number `cpu`, from 6.12 on: the flush of cache `s` there; under flush_lock."""

    cpu: int
    s: KmemCache | None = attrs.field(default=None, init=False)
    work: Work = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.work = Work(self.actor, self)

    @property
    def label(self) -> str:
        return f"slub_flush_work of CPU {self.cpu}"


@attrs.define(eq=False)
class MemcgCacheArray(Shared):
    """struct memcg_cache_array of a root cache: its child caches by kmemcg_id. RCU-freed when it is replaced."""

    root: KmemCache
    entries: list[KmemCache | None]

    @property
    def label(self) -> str:
        return f"memcg_caches of {self.root.name}"

    def grown(self, size: int, copied: int) -> MemcgCacheArray:
        """A longer array with the first *copied* entries of this one. An empty array stands for C's NULL."""
        if self.entries:
            self._check(copied - 1)
        return MemcgCacheArray(self.actor, self.root, (self.entries[:copied] + [None] * size)[:size])

    @operation(READ, lifecycle=True)
    def read_entry(self, kmemcg_id: int) -> KmemCache | None:
        self._check(kmemcg_id)
        return self.entries[kmemcg_id]

    @operation(UPDATE, lifecycle=True)
    def set_entry(self, kmemcg_id: int, cache: KmemCache | None) -> None:
        self._check(kmemcg_id)
        self.entries[kmemcg_id] = cache

    def _check(self, kmemcg_id: int) -> None:
        if not 0 <= kmemcg_id < len(self.entries):
            text = f"entries[{kmemcg_id}] of {self.label}, which has {len(self.entries)}"
            raise Oops("bug", "slab-out-of-bounds", f"BUG: KASAN: slab-out-of-bounds: {text}")

    @operation(READ)
    def list_entries(self, count: int) -> tuple[KmemCache | None, ...]:
        """for_each_memcg_cache_index(): the first *count* entries as they are; slab_mutex keeps them so."""
        if count:
            self._check(count - 1)
        return tuple(self.entries[:count])


@attrs.define(eq=False)
class AtomicRef(Shared):
    """v1's atomic_long that counts a cache's pages; each fall to 0 shuts the cache down (KERNEL-v1-v3 2.1)."""

    cache: KmemCache
    release: WorkFn
    count: int = 1

    @property
    def label(self) -> str:
        return f"refcnt of {self.cache.name}"

    @property
    def tally(self) -> tuple[str, int]:
        return "references", self.count

    @operation(UPDATE)
    def add(self, nr: int) -> int:
        """atomic_long_add_return()."""
        old = self.count
        self.count += nr
        if self.count < 0 or (old == 0 and nr > 0):
            self.actor.world.report(
                "refcount", "KmemCache", f"refcount of {self.cache.label} went from {old} to {self.count}"
            )
        return self.count


@attrs.define(eq=False)
class KmemCache(ListEntry):
    """struct kmem_cache with its memcg_params: an actor of its own.

    `object_size` is in bytes; a slab has `objects` objects on 2^`order` pages; `min_objects` and `min_order` are used
    when memory is short. A child cache has a `root_cache`, a `memcg` and, with reparenting, a `refcnt`, which counts
    pages, running allocations (from v2 on) and one initial reference. A root cache has `children`, and its `refcount`
    counts its aliases.
    `rcu_head` and `work` share their storage in C: at most one of them is in use. `has_usercopy`: part of each object
    may be copied to user space (usersize). The allocator's own first caches are not `is_mergeable` (their refcount is
    below zero in C). From 7.2 on, a sheaf has room for `sheaf_capacity` objects; 0: the cache has no sheaves.

    Shadow accounting: `inflight` has the allocations between get and put, with the step of the get; `charged_pages`
    counts pages charged and not yet uncharged; `slabs` has every slab that exists.
    """

    name: str
    object_size: int
    objects: int
    order: int
    flags: SlabFlags
    cpu_partial: LocklessField
    min_partial: LocklessField
    root_cache: KmemCache | None = None
    min_objects: int = 1
    min_order: int = 0
    has_ctor: bool = False
    has_usercopy: bool = False
    refcount: int = 1
    is_mergeable: bool = True
    sheaf_capacity: int = 0
    memcg: Memcg | None = attrs.field(default=None, init=False)
    refcnt: PercpuRef | AtomicRef | None = attrs.field(default=None, init=False)
    memcg_caches: MemcgCacheArray | None = attrs.field(default=None, init=False)
    is_root_cache: bool = attrs.field(init=False)
    children: ListHead[KmemCache] = attrs.field(init=False)
    dying: bool = attrs.field(default=False, init=False)
    work_fn: WorkFn | None = attrs.field(default=None, init=False)
    rcu_head: RcuHead = attrs.field(init=False)
    work: Work = attrs.field(init=False)
    kobj: Kobject | None = attrs.field(default=None, init=False)
    kobj_remove_work: Work = attrs.field(init=False)
    cpu_slab: tuple[KmemCacheCpu, ...] = attrs.field(default=(), init=False)
    cpu_sheaves: tuple[SlubPercpuSheaves, ...] = attrs.field(default=(), init=False)
    sheaf_locks: tuple[LocalTryLock, ...] = attrs.field(default=(), init=False)
    node: tuple[KmemCacheNode, ...] = attrs.field(default=(), init=False)
    cpu_cache: tuple[ArrayCache, ...] = attrs.field(default=(), init=False)
    slab_node: tuple[SlabNode, ...] = attrs.field(default=(), init=False)
    inflight: Mapping[Context, int] = attrs.field(default=_NONE, init=False)
    charged_pages: int = attrs.field(default=0, init=False)
    slabs: dict[Slab, None] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.is_root_cache = self.root_cache is None
        if self.is_root_cache:
            self.children = ListHead(self, "children")
        self.rcu_head = RcuHead(self)
        self.work = Work(self.actor, self)
        self.kobj_remove_work = Work(self.actor, self, name="kobj_remove_work")

    @property
    def label(self) -> str:
        return f"kmem_cache {self.name}"

    @property
    def root(self) -> KmemCache:
        """memcg_root_cache()."""
        return self.root_cache or self

    @property
    def stat_item(self) -> StatItem:
        """cache_vmstat_idx()."""
        reclaimable = SlabFlags.RECLAIM_ACCOUNT in self.flags
        return StatItem.NR_SLAB_RECLAIMABLE if reclaimable else StatItem.NR_SLAB_UNRECLAIMABLE

    @property
    def percpu_refcnt(self) -> PercpuRef:
        """memcg_params.refcnt from v2 on; a root cache has none."""
        return deref(self.refcnt, "s->memcg_params.refcnt")  # type: ignore[return-value]  # no AtomicRef from v2 on

    @property
    def atomic_refcnt(self) -> AtomicRef:
        """memcg_params.refcnt in v1."""
        return deref(self.refcnt, "s->memcg_params.refcnt")  # type: ignore[return-value]  # a PercpuRef from v2 on

    @property
    def slot_size(self) -> int:
        """s->size: the bytes that an object occupies in its slab."""
        return (self.object_size + 7) & ~7

    @property
    def live_objects(self) -> int:
        return sum(slab.live.bit_count() for slab in self.slabs)

    @property
    def slab_pages(self) -> int:
        """The total size of its slabs in 4K pages."""
        return sum(slab.pages for slab in self.slabs)

    def begin_allocation(self, ctx: Context) -> None:
        self.inflight = {**self.inflight, ctx: ctx.world.step}

    def end_allocation(self, ctx: Context) -> None:
        self.inflight = {other: step for other, step in self.inflight.items() if other is not ctx} or _NONE

    def parts(self) -> Iterator[Shared | None]:
        """The struct and all its parts."""
        yield from (self, self.refcnt, self.work, self.kobj, self.kobj_remove_work, self.cpu_partial, self.min_partial)
        yield from self.cpu_slab
        for pcs in self.cpu_sheaves:
            yield from (pcs, pcs.lock)
        for node in self.node:
            yield from (node, node.list_lock)
            if node.barn is not None:
                yield from (node.barn, node.barn.lock)
        yield from self.cpu_cache
        for slab_node in self.slab_node:
            yield from slab_node.parts()

    # -- memcg_params -------------------------------------------------------------------------------------------------

    @operation(READ, part="memcg", lifecycle=True)
    def read_memcg(self) -> Memcg | None:
        return self.memcg

    @operation(UPDATE, part="memcg", lifecycle=True)
    def set_memcg(self, memcg: Memcg | None) -> None:
        self.memcg = memcg

    @operation(READ, part="memcg_caches")
    def read_memcg_caches(self) -> MemcgCacheArray:
        return deref(self.memcg_caches, "s->memcg_params.memcg_caches")

    @operation(UPDATE, part="memcg_caches")
    def set_memcg_caches(self, array: MemcgCacheArray) -> None:
        self.memcg_caches = array

    @operation(READ, part="children")
    def list_children(self) -> tuple[KmemCache, ...]:
        """The list as it is; slab_mutex keeps it so."""
        return self.children.walk()

    @operation(UPDATE, part="children")
    def add_child(self, child: KmemCache) -> None:
        self.children.list_add_tail(child)
        child.recheck()

    @operation(UPDATE, part="children", lifecycle=True)
    def del_child(self, child: KmemCache) -> None:
        self.children.list_del(child)
        child.recheck()

    @operation(READ, part="dying", lifecycle=True)
    def read_dying(self) -> bool:
        return self.dying

    @operation(UPDATE, part="dying", lifecycle=True)
    def set_dying(self, dying: bool) -> None:  # noqa: FBT001 -- the flag's value
        self.dying = dying

    @operation(READ, part="work_fn", lifecycle=True)
    def read_work_fn(self) -> WorkFn | None:
        return self.work_fn

    @operation(UPDATE, part="work_fn", lifecycle=True)
    def set_work_fn(self, work_fn: WorkFn | None) -> None:
        self.work_fn = work_fn

    @operation(READ, part="flags")
    def read_flags(self) -> SlabFlags:
        return self.flags

    @operation(UPDATE, part="flags")
    def set_flag(self, flag: SlabFlags) -> None:
        self.flags |= flag

    @operation(UPDATE, part="refcount", lifecycle=True)
    def add_refcount(self, nr: int) -> int:
        """Add *nr* to the alias count and return it. The caller holds slab_mutex."""
        self.refcount += nr
        return self.refcount


@attrs.define(eq=False)
class CacheList(Shared):
    """slab_caches, slab_root_caches, slab_caches_to_rcu_destroy: protected by slab_mutex, oldest first."""

    name: str
    caches: ListHead[KmemCache] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.caches = ListHead(self)

    @property
    def label(self) -> str:
        return self.name

    @operation(READ)
    def list(self) -> tuple[KmemCache, ...]:
        """The list as it is."""
        return self.caches.walk()

    @operation(UPDATE)
    def add(self, cache: KmemCache) -> None:
        self.caches.list_add_tail(cache)

    @operation(UPDATE, lifecycle=True)
    def delete(self, cache: KmemCache) -> None:
        self.caches.list_del(cache)

    @operation(UPDATE)
    def take_all(self) -> tuple[KmemCache, ...]:
        """list_splice_init(): empty the list and return its caches."""
        return self.caches.take_all()


def cache_of(container: Shared) -> KmemCache:
    """container_of(): the cache that contains an rcu_head, a work or a reference count."""
    assert isinstance(container, KmemCache), f"{container.label} is no cache"
    return container
