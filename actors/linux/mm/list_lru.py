"""LRU lists of objects that a shrinker may free, one for each memcg. mm/list_lru.c, version by version; KERNEL.md 11.

An item is on the list of the memcg that its slab page belongs to, or on the global list. When a memcg goes offline,
its lists are spliced to the parent's. A node's lock protects all lists of the node. An unlink decrements the count of
the list that the item's page selects *now*; the item may be linked to another list (11.3). The array of a node's lists
is replaced by a larger one when needed; the lock or RCU keeps the old one alive.

From 6.12 on the item's memcg is that of its obj_cgroup. The lists of a memcg are made when its first object with an LRU
is allocated, for all nodes at once, and found by kmemcg_id in an xarray (KERNEL-today 12). Removal changes ids, then
splices the lists, then frees them after a grace period. So a look-up finds the old lists before the splice, or the
parent's.

From 7.2 on each list has a lock of its own, and a memcg keeps its id (KERNEL-7.2 N7). Removal splices a list, marks it
dead, and takes it from the xarray when those of all nodes are dead. A look-up that finds a dead list, or none, goes to
the parent. The list_lru of split folios is not modelled: there are no huge pages.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.memcontrol import mem_cgroup_from_slab_obj
from actors.linux.include.rcupdate import kfree_rcu
from actors.linux.include.shrinker import set_shrinker_bit
from actors.linux.include.slab import kmalloc
from actors.linux.kernel.cgroup.cgroup import CssFlags, css_put, css_tryget
from actors.linux.kernel.locking.locks import (
    MutexHeld,
    SpinLock,
    SpinLockHeld,
    SpinLockIrqHeld,
    down_read,
    spin_lock,
    spin_lock_nested,
    spin_unlock,
    up_read,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.mm.kmem_cache import SlabObject
from actors.linux.mm.memcontrol import memcg_cache_id, memcg_set_shrinker_bit
from actors.linux.mm.page_alloc import reclaim
from actors.machine.context import BUG_ON, WARN_ON, Context, bug, deref
from actors.machine.gfp import Gfp, gfpflags_allow_blocking
from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Actor, Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.findings import Oops
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, Access, operation

if TYPE_CHECKING:
    from actors.linux.mm.memcontrol import Memcg
    from actors.linux.mm.vmscan import ShrinkControl

LONG_MIN = -(2**63)


class LruStatus(enum.Enum):
    """enum lru_status: the result of an isolate callback for one item.

    After REMOVED_RETRY and RETRY the walk starts again, because the callback dropped the lock meanwhile. From 7.2 on it
    has not taken the lock again then, nor with STOP, which ends the walk.
    """

    REMOVED = "LRU_REMOVED"
    REMOVED_RETRY = "LRU_REMOVED_RETRY"
    ROTATE = "LRU_ROTATE"
    SKIP = "LRU_SKIP"
    RETRY = "LRU_RETRY"
    STOP = "LRU_STOP"


@attrs.define(eq=False)
class LruItem:
    """struct list_head inside an object: its container, the slab object around it, and the list that it is on."""

    container: ListEntry
    obj: SlabObject
    on: LruList | None = None

    @property
    def memory(self) -> ListEntry:
        """The object that it is embedded in."""
        return self.container


@attrs.define(eq=False)
class LruList:
    """struct list_head as the head of a list: items, oldest first; in `owner`, or private to one execution context."""

    owner: Shared | None = None
    items: ListHead[LruItem] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.items = ListHead(self.owner)

    def add_tail(self, item: LruItem) -> None:
        self.items.list_add_tail(item)
        item.on = self

    def delete(self, item: LruItem) -> None:
        """list_del_init(): unlink the item from the list that it is on, which may be another one."""
        if item.on is not None:
            item.on.items.list_del(item)
            item.on = None


@attrs.define(eq=False)
class ListLruOne(LruList):
    """struct list_lru_one: a list, and the count that is kept of its items."""

    nr_items: int = 0


@attrs.define(eq=False)
class ListLruMemcg(Shared):
    """struct list_lru_memcg: the LRU lists of one node, by kmemcg_id.

    When a longer array replaces it, it is freed after a grace period.
    """

    name: str
    lru: list[ListLruOne]
    rcu: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rcu = RcuHead(self)

    @property
    def label(self) -> str:
        return f"memcg_lrus of {self.name}"

    @operation(READ)
    def read(self, idx: int) -> ListLruOne:
        self._check(idx)
        return self.lru[idx]

    def grown(self, node: ListLruNode, old_size: int, new_size: int) -> ListLruMemcg:
        """A longer array: keep the first *old_size* lists and add new ones."""
        self._check(old_size - 1)
        new = [ListLruOne(node) for _ in range(new_size - old_size)]
        return ListLruMemcg(self.actor, self.name, self.lru[:old_size] + new)

    def _check(self, idx: int) -> None:
        if idx >= len(self.lru):
            text = f"lru[{idx}] of {self.label}, which has {len(self.lru)}"
            raise Oops("bug", "slab-out-of-bounds", f"BUG: KASAN: slab-out-of-bounds: {text}")


@attrs.define(eq=False)
class ListLruMemcgNodes(Shared):
    """struct list_lru_memcg from 6.12 on: the LRU lists of one memcg, by node. Each node's lock protects its list.

    After the memcg's removal it is freed by kfree_rcu(). From 7.2 on its lists are `locked`: they have their own locks.
    """

    name: str
    memcg: str
    node: list[ListLruOne] = attrs.field(init=False)
    locked: list[LockedListLruOne] = attrs.field(factory=list, init=False)

    @classmethod
    def alloc(cls, xa: MemcgListsXarray, memcg: str, nodes: int) -> ListLruMemcgNodes:
        """memcg_init_list_lru_one(): empty lists."""
        mlru = cls(xa.actor, xa.name, memcg)
        mlru.node = [ListLruOne(mlru) for _ in range(nodes)]
        return mlru

    @classmethod
    def alloc_locked(cls, xa: MemcgListsXarray, memcg: str, nodes: int) -> ListLruMemcgNodes:
        """memcg_init_list_lru_one() from 7.2 on: empty lists with locks."""
        mlru = cls(xa.actor, xa.name, memcg)
        mlru.locked = [LockedListLruOne(xa.actor, mlru, nid) for nid in range(nodes)]
        mlru.node = [locked.one for locked in mlru.locked]
        return mlru

    def parts(self) -> tuple[Shared, ...]:
        """The struct with its lists and their locks."""
        return (self, *(part for locked in self.locked for part in (locked, locked.lock)))

    @property
    def label(self) -> str:
        return f"list_lru_memcg of {self.memcg} in {self.name}"

    def use(self, access: Access, nid: int) -> None:
        """Record that this step accesses the list of a node; if this memory is freed, the flow dies."""
        self.touch_part(nid, access)
        if self.freed is not None:
            self.actor.world.raise_use_after_free(self)


@attrs.define(eq=False)
class MemcgListsXarray(Shared):
    """list_lru.xa, from 6.12 on: the lists of each memcg by kmemcg_id; before, it is empty.

    Stores are made under `xa_lock`, with IRQs off. Loads need the lock, a node's lock or RCU.
    """

    name: str
    xa_lock: SpinLock = attrs.field(init=False)
    entries: dict[int, ListLruMemcgNodes] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.xa_lock = SpinLock(self.actor, "&xa->xa_lock")

    @property
    def label(self) -> str:
        return f"xa of {self.name}"

    @operation(READ, lifecycle=True)
    def load(self, idx: int) -> ListLruMemcgNodes | None:
        """xa_load()."""
        return self.entries.get(idx)

    @operation(READ)
    def find_after(self, idx: int) -> int | None:
        """xa_for_each(): the first index above *idx* that has an entry at this moment."""
        return min((other for other in self.entries if other > idx), default=None)

    @operation(UPDATE, lifecycle=True)
    def store(self, idx: int, mlru: ListLruMemcgNodes) -> None:
        """xas_store(), of an index that has a node in the tree."""
        self.xa_lock.assert_held()
        self.entries[idx] = mlru

    @operation(UPDATE, lifecycle=True)
    def erase(self, idx: int) -> ListLruMemcgNodes | None:
        """__xa_erase()."""
        self.xa_lock.assert_held()
        return self.entries.pop(idx, None)


@attrs.define(eq=False)
class ListGuard(Shared):
    """LRU lists with the lock that guards them: those of a node up to 6.12, a single one from 7.2 on."""

    lock: SpinLock = attrs.field(init=False)

    def _use(self, access: Access, *lists: LruList | None) -> None:
        """Record accesses to lists in memory of their own, which may be freed: those of memcgs, from 6.12 on."""

    def _unlink(self, item: LruItem, counted: ListLruOne) -> None:
        """list_del_init(), and one less on *counted*. Only an item at an end of its list has the head as neighbour."""
        on = item.on
        if on is not None and item in (on.items.list_first_entry(), on.items.list_last_entry()):
            self._use(UPDATE, on)
        self._use(UPDATE, counted)
        counted.delete(item)
        counted.nr_items -= 1

    @operation(READ)
    def is_linked(self, item: LruItem) -> bool:
        """!list_empty(item): on this list or on any other; the lock keeps it so."""
        return item.on is not None

    @operation(UPDATE)
    def isolate(self, item: LruItem, counted: ListLruOne) -> None:
        """list_lru_isolate(); the walk adjusts the node's count."""
        self.lock.assert_held()
        self._unlink(item, counted)

    @operation(UPDATE)
    def isolate_move(self, item: LruItem, counted: ListLruOne, target: LruList) -> None:
        """list_lru_isolate_move(): to the private list *target*."""
        self.lock.assert_held()
        self._unlink(item, counted)
        target.add_tail(item)

    @operation(UPDATE)
    def move_tail(self, item: LruItem, one: ListLruOne) -> None:
        """list_move_tail(): the item was used, so it goes to the end of its list."""
        self.lock.assert_held()
        self._use(UPDATE, one)
        one.delete(item)
        one.add_tail(item)

    @operation(UPDATE)
    def splice(self, src: ListLruOne, dst: ListLruOne) -> None:
        """list_splice_init(): move all items of one list to the head of another; the counts do not change."""
        self.lock.assert_held()
        self._use(UPDATE, src, dst)
        for item in src.items:
            item.on = dst
        dst.items.list_splice_init(src.items)

    @operation(READ)
    def read_count(self, one: ListLruOne) -> int:
        self._use(READ, one)
        return one.nr_items

    @operation(UPDATE)
    def move_count(self, src: ListLruOne, dst: ListLruOne) -> None:
        """Add the count of *src* to *dst* and set it to 0."""
        self.lock.assert_held()
        self._use(UPDATE, src, dst)
        dst.nr_items += src.nr_items
        src.nr_items = 0

    @operation(READ)
    def list_items(self, one: ListLruOne) -> tuple[LruItem, ...]:
        """The list as it is; the lock keeps it so."""
        self._use(READ, one)
        return one.items.walk()


@attrs.define(eq=False)
class LockedListLruOne(ListGuard):
    """struct list_lru_one from 7.2 on: `one` list with a lock of its own.

    It is memory of its list_lru_memcg; the global one is memory of the list_lru. It is dead when its items are the
    parent's: then it never gets any again.
    """

    memory: ListLruMemcgNodes | ListLruNode
    nid: int
    one: ListLruOne = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(self.actor, "&l->lock")
        self.one = ListLruOne(self)

    @property
    def label(self) -> str:
        return f"list of node {self.nid} in {self.memory.label}"

    def _use(self, access: Access, *lists: LruList | None) -> None:
        """Record accesses to other lists with locks of their own; T12: whoever changes a list holds its lock."""
        for one in lists:
            if one is not None and one.owner is not self and isinstance(one.owner, LockedListLruOne):
                one.owner.touch(access)
                if one.owner.freed is not None:
                    self.actor.world.raise_use_after_free(one.owner)
                if access is UPDATE:
                    one.owner.lock.assert_held()

    def _unlink(self, item: LruItem, counted: ListLruOne) -> None:
        """list_del_init() from the list that it is on, and one less on *counted*; the links are that list's."""
        self._use(UPDATE, item.on)
        counted.delete(item)
        counted.nr_items -= 1

    @operation(READ)
    def is_linked(self, item: LruItem) -> bool:
        """!list_empty(item): on this list or on any other, which the lock keeps so if all use one lock."""
        if item.on is not None:
            self._use(READ, item.on)
        return item.on is not None

    @operation(READ)
    def is_dead(self) -> bool:
        """Whether its items are the parent's."""
        return self.one.nr_items == LONG_MIN

    @operation(UPDATE)
    def mark_dead(self) -> None:
        self.lock.assert_held()
        self.one.nr_items = LONG_MIN

    @operation(UPDATE)
    def add(self, item: LruItem) -> bool:
        """Link *item* at the end; True if the count was 0."""
        self.lock.assert_held()
        self.one.add_tail(item)
        self.one.nr_items += 1
        return self.one.nr_items == 1

    @operation(UPDATE, lifecycle=True)
    def delete(self, item: LruItem) -> None:
        """Unlink *item*, and decrement the count of this list, which it should be on."""
        self.lock.assert_held()
        self._unlink(item, self.one)


@attrs.define(eq=False)
class ListLruNode(ListGuard):
    """struct list_lru_node: the global list, the lists of memcgs, and the sum of their counts.

    `memcg_lrus` are the lists of memcgs up to 5.4; `xa` is the list_lru's, which has them from 6.12 on. From 7.2 on its
    lock is gone; the global list is `locked`.

    invariant: at quiescence each list counts the items that are on it, and `nr_items` counts all (Q8).
    """

    name: str
    nid: int
    xa: MemcgListsXarray = attrs.field(init=False)
    lru: ListLruOne = attrs.field(init=False)
    locked: LockedListLruOne = attrs.field(init=False)
    memcg_lrus: ListLruMemcg = attrs.field(init=False)
    nr_items: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.xa = MemcgListsXarray(self.actor, self.name)
        self.lock = SpinLock(self.actor, "&nlru->lock")
        self.lru = ListLruOne(self)
        self.memcg_lrus = ListLruMemcg(self.actor, self.label, [])

    @property
    def label(self) -> str:
        return f"{self.name} of node {self.nid}"

    def give_lock_to_list(self) -> None:
        """From 7.2 on the global list has a lock of its own."""
        self.locked = LockedListLruOne(self.actor, self, self.nid)
        self.lru = self.locked.one

    def lists(self) -> list[tuple[int, ListLruOne]]:
        """All lists by kmemcg_id: the global one (-1), then the lists of memcgs."""
        of_memcgs = ((idx, mlru.node[self.nid]) for idx, mlru in sorted(self.xa.entries.items()))
        return [(-1, self.lru), *enumerate(self.memcg_lrus.lru), *of_memcgs]

    def is_locked_by(self, flow: Context) -> bool:
        """Whether *flow* holds a lock of any list of this node."""
        owners = (one.owner for _, one in self.lists())
        guards = (self, *(owner for owner in owners if isinstance(owner, LockedListLruOne)))
        return any(guard.lock.holder is flow for guard in guards)

    def _use(self, access: Access, *lists: LruList | None) -> None:
        for one in lists:
            if one is not None and isinstance(one.owner, ListLruMemcgNodes):
                one.owner.use(access, self.nid)

    @operation(READ)
    def read_memcg_lrus(self) -> ListLruMemcg:
        return self.memcg_lrus

    @operation(UPDATE)
    def set_memcg_lrus(self, memcg_lrus: ListLruMemcg) -> None:
        self.memcg_lrus = memcg_lrus

    @operation(READ)
    def read_nr_items(self) -> int:
        return self.nr_items

    @operation(COMMUTE, cost=ATOMIC_NS)
    def add_nr_items(self, nr: int) -> None:
        """atomic_long_add(nr, &nlru->nr_items), from 7.2 on."""
        self.nr_items += nr

    @operation(UPDATE)
    def add(self, item: LruItem, target: ListLruOne) -> bool:
        """Link *item* at the end; True if the list's count was 0."""
        self.lock.assert_held()
        self._use(UPDATE, target)
        target.add_tail(item)
        target.nr_items += 1
        self.nr_items += 1
        return target.nr_items == 1

    @operation(UPDATE, lifecycle=True)
    def delete(self, item: LruItem, counted: ListLruOne) -> None:
        """Unlink *item* from the list that it is on, and decrement the count of the list that it should be on."""
        self.lock.assert_held()
        self._unlink(item, counted)
        self.nr_items -= 1

    @operation(UPDATE)
    def count_isolated(self) -> None:
        self.nr_items -= 1


@attrs.define(eq=False)
class ListLru:
    """struct list_lru: one for each kind of object of a filesystem; `shrinker_id` is its bit in the memcgs' maps."""

    name: str
    nodes: list[ListLruNode]
    shrinker_id: int
    xa: MemcgListsXarray = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.xa = self.nodes[0].xa
        for node in self.nodes:
            node.xa = self.xa

    @classmethod
    def alloc(cls, actor: Actor, name: str, nodes: int, shrinker_id: int) -> ListLru:
        """An empty list_lru."""
        return cls(name, [ListLruNode(actor, name, nid) for nid in range(nodes)], shrinker_id)


@attrs.define(eq=False)
class ListLruWalk:
    """State shared by a walk and its callback: the node, the memcg's list, and the list for isolated items.

    From 6.12 on the walk looks `one` up itself, again after each RETRY. `nr_to_walk` is the number of items that the
    walk may still visit. `guard` has the lock that is held, and the operations for a callback.
    """

    node: ListLruNode
    one: ListLruOne
    freeable: LruList
    nr_to_walk: int
    guard: ListGuard = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.guard = self.node


Isolate = Callable[[Context, LruItem, ListLruWalk], Awaitable[LruStatus]]
"""list_lru_walk_cb: called for one item with the guard's lock held; returns its result as an LruStatus."""


# -- registering a list_lru -------------------------------------------------------------------------------------------


@kernel_fn("__list_lru_init", "mm/list_lru.c", profiles="..5.4-fixed")
async def __list_lru_init(ctx: Context, actor: Actor, name: str, shrinker_id: int) -> ListLru:
    """list_lru_init_memcg(): a memcg-aware list_lru, with arrays for the present memcg_nr_cache_ids."""
    machine = ctx.machine
    await down_read(ctx, machine.memcg_cache_ids_sem)
    lru = ListLru.alloc(actor, name, machine.config.nodes, shrinker_id)
    for node in lru.nodes:
        await ctx.ask(node.set_memcg_lrus, node.memcg_lrus.grown(node, 0, machine.memcg_nr_cache_ids))
    await list_lru_register(ctx, lru)
    await up_read(ctx, machine.memcg_cache_ids_sem)
    return lru


@kernel_fn("__list_lru_init", "mm/list_lru.c", profiles="7.2..")
async def __list_lru_init_7_2(ctx: Context, actor: Actor, name: str, shrinker_id: int) -> ListLru:
    """[7.2] list_lru_init_memcg(): a memcg-aware list_lru, whose global list has its own lock. KERNEL-today 12.6."""
    lru = ListLru.alloc(actor, name, ctx.machine.config.nodes, shrinker_id)
    for node in lru.nodes:
        node.give_lock_to_list()
    await list_lru_register(ctx, lru)
    return lru


@kernel_fn("__list_lru_init", "mm/list_lru.c", profiles="6.12")
async def __list_lru_init_6_12(ctx: Context, actor: Actor, name: str, shrinker_id: int) -> ListLru:
    """[6.12] list_lru_init_memcg(): a memcg-aware list_lru, without lists of memcgs. KERNEL-today 12.1."""
    lru = ListLru.alloc(actor, name, ctx.machine.config.nodes, shrinker_id)
    await list_lru_register(ctx, lru)
    return lru


@kernel_fn("list_lru_register", "mm/list_lru.c")
async def list_lru_register(ctx: Context, lru: ListLru) -> None:
    """list_add(): the newest list_lru is the first."""
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        ctx.machine.list_lrus.insert(0, lru)


# -- choice of the list -----------------------------------------------------------------------------------------------


@kernel_fn("list_lru_from_memcg_idx", "mm/list_lru.c", profiles="..5.4-fixed")
async def list_lru_from_memcg_idx(ctx: Context, node: ListLruNode, idx: int) -> ListLruOne:
    """The list of a kmemcg_id, where -1 is the global list; the lock or RCU protects the array."""
    memcg_lrus = await ctx.ask(node.read_memcg_lrus)
    return node.lru if idx < 0 else await ctx.ask(memcg_lrus.read, idx)


@kernel_fn("list_lru_from_memcg_idx", "mm/list_lru.c", profiles="7.2..")
async def list_lru_from_memcg_idx_7_2(ctx: Context, node: ListLruNode, idx: int) -> LockedListLruOne | None:
    """[7.2] The list of a kmemcg_id, with its lock; None if the id has no lists. -1 is the global list."""
    if idx < 0:
        return node.locked
    mlru = await ctx.ask(node.xa.load, idx)
    return None if mlru is None else mlru.locked[node.nid]


@kernel_fn("lock_list_lru_of_memcg", "mm/list_lru.c", profiles="7.2..")
async def lock_list_lru_of_memcg(
    ctx: Context, node: ListLruNode, memcg: Memcg | None, *, skip_empty: bool = False
) -> tuple[LockedListLruOne, Memcg | None] | None:
    """KERNEL-today 12.6: lock the list of *memcg*, or of the first ancestor whose list is not dead; and whose it is.

    With *skip_empty* there is no second look: None. RCU keeps a list until it is locked; a locked one cannot die.
    """
    with ctx.rcu_read_section:
        while True:
            locked = await list_lru_from_memcg_idx_7_2(ctx, node, await memcg_cache_id(ctx, memcg))
            if locked is not None and await lock_list_lru(ctx, locked):
                return locked, memcg
            if skip_empty:
                return None
            memcg = deref(memcg, "lock_list_lru_of_memcg(): memcg->css")
            is_dying = await css_is_dying(ctx, memcg)
            WARN_ON(ctx, not is_dying, "lock_list_lru_of_memcg: VM_WARN_ON(!css_is_dying(&memcg->css))")
            memcg = memcg.parent or ctx.machine.root_mem_cgroup


@kernel_fn("lock_list_lru", "mm/list_lru.c", profiles="7.2..")
async def lock_list_lru(ctx: Context, locked: LockedListLruOne) -> bool:
    """Lock a list, unless it is dead."""
    await spin_lock(ctx, locked.lock)
    if not await ctx.ask(locked.is_dead):
        return True
    await spin_unlock(ctx, locked.lock)
    return False


async def lock_list(ctx: Context, node: ListLruNode, memcg: Memcg | None) -> tuple[LockedListLruOne, Memcg | None]:
    """Lock the list where items of *memcg* are; there is always one, at last the global list."""
    return deref(await lock_list_lru_of_memcg(ctx, node, memcg), "lock_list_lru_of_memcg(): l->list")


async def css_is_dying(ctx: Context, memcg: Memcg) -> bool:
    return CssFlags.DYING in await ctx.ask(memcg.css.read_flags)


@kernel_fn("list_lru_from_memcg_idx", "mm/list_lru.c", profiles="6.12")
async def list_lru_from_memcg_idx_6_12(ctx: Context, node: ListLruNode, idx: int) -> ListLruOne | None:
    """[6.12] The list of a kmemcg_id, None if the id has no lists; -1 is the global list. KERNEL-today 12.1."""
    if idx < 0:
        return node.lru
    mlru = await ctx.ask(node.xa.load, idx)
    return None if mlru is None else mlru.node[node.nid]


@kernel_fn("mem_cgroup_from_kmem", "mm/list_lru.c", profiles="v6..5.4-fixed")
async def mem_cgroup_from_kmem(ctx: Context, item: LruItem) -> Memcg | None:
    """The memcg that the item's slab cache belongs to; None for a root cache, or without kmem accounting."""
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return None
    cache = item.obj.slab.slab_cache
    return None if cache.is_root_cache else await ctx.ask(cache.read_memcg)


@kernel_fn("mem_cgroup_from_kmem", "mm/list_lru.c", profiles="..v5")
async def mem_cgroup_from_kmem_until_v5(ctx: Context, item: LruItem) -> Memcg | None:
    """Reads page.mem_cgroup, which from v1 on is not set for slabs: there all items are on the global list."""
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return None
    return item.obj.slab.memcg


@kernel_fn("list_lru_from_kmem", "mm/list_lru.c", profiles="..5.4-fixed")
async def list_lru_from_kmem(ctx: Context, node: ListLruNode, item: LruItem) -> tuple[ListLruOne, Memcg | None]:
    """The list that *item* belongs to at this moment, and its memcg; the node's lock is held."""
    memcg = await mem_cgroup_from_kmem(ctx, item)
    if memcg is None:
        return node.lru, None
    return await list_lru_from_memcg_idx(ctx, node, await memcg_cache_id(ctx, memcg)), memcg


# -- add, delete, count (11.2) ----------------------------------------------------------------------------------------


@kernel_fn("list_lru_add", "mm/list_lru.c", profiles="..5.4-fixed")
async def list_lru_add(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """Link *item* at the end, unless it is linked. The first item of a list sets the memcg's shrinker bit."""
    node = lru.nodes[item.obj.slab.nid]
    async with SpinLockHeld(ctx, node.lock):
        if await ctx.ask(node.is_linked, item):
            return False
        one, memcg = await list_lru_from_kmem(ctx, node, item)
        if await ctx.ask(node.add, item, one):
            await memcg_set_shrinker_bit(ctx, memcg, node.nid, lru.shrinker_id)
        return True


@kernel_fn("list_lru_del", "mm/list_lru.c", profiles="..5.4-fixed")
async def list_lru_del(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """Unlink *item*, if it is linked."""
    node = lru.nodes[item.obj.slab.nid]
    async with SpinLockHeld(ctx, node.lock):
        if not await ctx.ask(node.is_linked, item):
            return False
        one, _ = await list_lru_from_kmem(ctx, node, item)
        await ctx.ask(node.delete, item, one)
        return True


@kernel_fn("list_lru_add", "mm/list_lru.c", profiles="6.12..", known_as="list_lru_add_obj")
async def list_lru_add_obj(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """[6.12] Link *item*, unless it is linked, to the list of the memcg that it is charged to. KERNEL-today 12.2.

    The item holds no reference to that memcg, so only RCU keeps the memcg from being freed meanwhile.
    """
    nid = item.obj.slab.nid
    with ctx.rcu_read_section:
        memcg = await mem_cgroup_from_slab_obj(ctx, item.obj)
        return await list_lru_add_memcg(ctx, lru, item, nid, memcg)


@kernel_fn("list_lru_add_memcg", "mm/list_lru.c", profiles="7.2..", known_as="list_lru_add")
async def list_lru_add_memcg_7_2(ctx: Context, lru: ListLru, item: LruItem, nid: int, memcg: Memcg | None) -> bool:
    """KERNEL-7.2 N7.2: link *item* at the end of the list of *memcg* or of an ancestor, and set that one's bit."""
    node = lru.nodes[nid]
    locked, owner = await lock_list(ctx, node, memcg)
    is_new = not await ctx.ask(locked.is_linked, item)
    if is_new:
        if await ctx.ask(locked.add, item):
            await set_shrinker_bit(ctx, owner, nid, lru.shrinker_id)
        await ctx.ask(node.add_nr_items, 1)
    await spin_unlock(ctx, locked.lock)
    return is_new


@kernel_fn("list_lru_add_memcg", "mm/list_lru.c", profiles="6.12", known_as="list_lru_add")
async def list_lru_add_memcg(ctx: Context, lru: ListLru, item: LruItem, nid: int, memcg: Memcg | None) -> bool:
    """list_lru_add(): link *item* at the end of the list of *memcg*, which the caller keeps from being freed.

    The id is read under the node's lock. So it is read before the splice of this node, or it is the parent's.
    """
    node = lru.nodes[nid]
    async with SpinLockHeld(ctx, node.lock):
        if await ctx.ask(node.is_linked, item):
            return False
        found = await list_lru_from_memcg_idx_6_12(ctx, node, await memcg_cache_id(ctx, memcg))
        if await ctx.ask(node.add, item, deref(found, "list_lru_add(): l->list")):
            await set_shrinker_bit(ctx, memcg, nid, lru.shrinker_id)
        return True


@kernel_fn("list_lru_del", "mm/list_lru.c", profiles="6.12..", known_as="list_lru_del_obj")
async def list_lru_del_obj(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """[6.12] Unlink *item*, if it is linked. KERNEL-today 12.2."""
    nid = item.obj.slab.nid
    with ctx.rcu_read_section:
        memcg = await mem_cgroup_from_slab_obj(ctx, item.obj)
        return await list_lru_del_memcg(ctx, lru, item, nid, memcg)


@kernel_fn("list_lru_del_memcg", "mm/list_lru.c", profiles="7.2..", known_as="list_lru_del")
async def list_lru_del_memcg_7_2(ctx: Context, lru: ListLru, item: LruItem, nid: int, memcg: Memcg | None) -> bool:
    """KERNEL-7.2 N7.2: unlink *item* from the list of *memcg* or of an ancestor, whose lock is held."""
    node = lru.nodes[nid]
    locked, _ = await lock_list(ctx, node, memcg)
    is_linked = await ctx.ask(locked.is_linked, item)
    if is_linked:
        await ctx.ask(locked.delete, item)
        await ctx.ask(node.add_nr_items, -1)
    await spin_unlock(ctx, locked.lock)
    return is_linked


@kernel_fn("list_lru_del_memcg", "mm/list_lru.c", profiles="6.12", known_as="list_lru_del")
async def list_lru_del_memcg(ctx: Context, lru: ListLru, item: LruItem, nid: int, memcg: Memcg | None) -> bool:
    """list_lru_del(): unlink *item* from its list, and decrement the count of the present list of *memcg*.

    Between the change of the id and the splice these are two lists; the splice repairs the sum.
    """
    node = lru.nodes[nid]
    async with SpinLockHeld(ctx, node.lock):
        if not await ctx.ask(node.is_linked, item):
            return False
        found = await list_lru_from_memcg_idx_6_12(ctx, node, await memcg_cache_id(ctx, memcg))
        await ctx.ask(node.delete, item, deref(found, "list_lru_del(): l->nr_items"))
        return True


@kernel_fn("list_lru_count_one", "mm/list_lru.c", profiles="..5.4-fixed")
async def list_lru_count_one(ctx: Context, lru: ListLru, nid: int, memcg: Memcg | None) -> int:
    """The count of *memcg*'s list, read without the lock: it may even be negative (11.3)."""
    node = lru.nodes[nid]
    with ctx.rcu_read_section:
        one = await list_lru_from_memcg_idx(ctx, node, await memcg_cache_id(ctx, memcg))
        return await ctx.ask(node.read_count, one)


@kernel_fn("list_lru_count_one", "mm/list_lru.c", profiles="7.2..")
async def list_lru_count_one_7_2(ctx: Context, lru: ListLru, nid: int, memcg: Memcg | None) -> int:
    """[7.2] The count of *memcg*'s list, read without the lock: 0 without a list, or if it is dead."""
    with ctx.rcu_read_section:
        locked = await list_lru_from_memcg_idx_7_2(ctx, lru.nodes[nid], await memcg_cache_id(ctx, memcg))
        return 0 if locked is None else max(await ctx.ask(locked.read_count, locked.one), 0)


@kernel_fn("list_lru_count_one", "mm/list_lru.c", profiles="6.12")
async def list_lru_count_one_6_12(ctx: Context, lru: ListLru, nid: int, memcg: Memcg | None) -> int:
    """[6.12] The count of *memcg*'s list, read without the lock: 0 without a list, or if it is negative now."""
    node = lru.nodes[nid]
    with ctx.rcu_read_section:
        one = await list_lru_from_memcg_idx_6_12(ctx, node, await memcg_cache_id(ctx, memcg))
        return 0 if one is None else max(await ctx.ask(node.read_count, one), 0)


# -- walk -------------------------------------------------------------------------------------------------------------


@kernel_fn("list_lru_walk_one", "mm/list_lru.c", profiles="..5.4-fixed")
async def list_lru_walk_one(ctx: Context, lru: ListLru, sc: ShrinkControl, isolate: Isolate, freeable: LruList) -> int:
    """list_lru_shrink_walk(): call *isolate* for items of sc->memcg's list, oldest first; return the number removed."""
    node = lru.nodes[sc.nid]
    async with SpinLockHeld(ctx, node.lock):
        one = await list_lru_from_memcg_idx(ctx, node, await memcg_cache_id(ctx, sc.memcg))
        return await __list_lru_walk_one(ctx, ListLruWalk(node, one, freeable, sc.nr_to_scan), isolate)


@kernel_fn("list_lru_walk_one", "mm/list_lru.c", profiles="7.2..")
async def list_lru_walk_one_7_2(
    ctx: Context, lru: ListLru, sc: ShrinkControl, isolate: Isolate, freeable: LruList
) -> int:
    """[7.2] list_lru_shrink_walk(): walk the list of sc->memcg; return the number removed. KERNEL-today 12.6."""
    node = lru.nodes[sc.nid]
    walk = ListLruWalk(node, node.lru, freeable, sc.nr_to_scan)
    return await __list_lru_walk_one_7_2(ctx, walk, sc.memcg, isolate)


@kernel_fn("list_lru_walk_one", "mm/list_lru.c", profiles="6.12")
async def list_lru_walk_one_6_12(
    ctx: Context, lru: ListLru, sc: ShrinkControl, isolate: Isolate, freeable: LruList
) -> int:
    """[6.12] list_lru_shrink_walk(): walk the list of sc->memcg; return the number removed. KERNEL-today 12.5."""
    node = lru.nodes[sc.nid]
    async with SpinLockHeld(ctx, node.lock):
        memcg_idx = await memcg_cache_id(ctx, sc.memcg)
        walk = ListLruWalk(node, node.lru, freeable, sc.nr_to_scan)
        return await __list_lru_walk_one_6_12(ctx, walk, memcg_idx, isolate)


@kernel_fn("list_lru_walk_node", "mm/list_lru.c", profiles="..5.4-fixed")
async def list_lru_walk_node(
    ctx: Context, node: ListLruNode, isolate: Isolate, freeable: LruList, nr_to_walk: int
) -> int:
    """Call *isolate* for up to *nr_to_walk* items of a node: the global list, then every memcg's.

    Returns the rest of the budget, for the next node.
    """
    for idx in range(-1, ctx.machine.memcg_nr_cache_ids):
        if not nr_to_walk:
            break
        async with SpinLockHeld(ctx, node.lock):
            walk = ListLruWalk(node, await list_lru_from_memcg_idx(ctx, node, idx), freeable, nr_to_walk)
            await __list_lru_walk_one(ctx, walk, isolate)
        nr_to_walk = walk.nr_to_walk
    return nr_to_walk


@kernel_fn("list_lru_walk_node", "mm/list_lru.c", profiles="7.2..")
async def list_lru_walk_node_7_2(
    ctx: Context, node: ListLruNode, isolate: Isolate, freeable: LruList, nr_to_walk: int
) -> int:
    """[7.2] Walk the global list of a node, then those of each memcg that has some, pinned. KERNEL-today 12.6."""
    walk = ListLruWalk(node, node.lru, freeable, nr_to_walk)
    await __list_lru_walk_one_7_2(ctx, walk, None, isolate)
    idx = await ctx.ask(node.xa.find_after, -1) if walk.nr_to_walk else None
    while idx is not None:
        memcg = await tryget_memcg_of_id(ctx, idx)
        if memcg is not None:
            await __list_lru_walk_one_7_2(ctx, walk, memcg, isolate)
            await css_put(ctx, memcg.css)
        idx = await ctx.ask(node.xa.find_after, idx) if walk.nr_to_walk else None
    return walk.nr_to_walk


async def tryget_memcg_of_id(ctx: Context, idx: int) -> Memcg | None:
    """mem_cgroup_from_private_id() and mem_cgroup_tryget(): the memcg that has the id now, pinned, if it is alive."""
    with ctx.rcu_read_section:
        if not await ctx.ask(ctx.machine.mem_cgroup_ids.is_used, idx):
            return None
        memcg = next((memcg for memcg in ctx.machine.memcgs() if memcg.id == idx and memcg.id_ref), None)
        return memcg if memcg is not None and await css_tryget(ctx, memcg.css) else None


@kernel_fn("list_lru_walk_node", "mm/list_lru.c", profiles="6.12")
async def list_lru_walk_node_6_12(
    ctx: Context, node: ListLruNode, isolate: Isolate, freeable: LruList, nr_to_walk: int
) -> int:
    """[6.12] Walk the global list of a node, then the list of each id that has one; return the rest of the budget."""
    walk = ListLruWalk(node, node.lru, freeable, nr_to_walk)
    idx: int | None = -1
    while idx is not None:
        async with SpinLockHeld(ctx, node.lock):
            await __list_lru_walk_one_6_12(ctx, walk, idx, isolate)
        idx = await ctx.ask(node.xa.find_after, idx) if walk.nr_to_walk else None
    return walk.nr_to_walk


@kernel_fn("list_lru_count_node", "mm/list_lru.c")
async def list_lru_count_node(ctx: Context, node: ListLruNode) -> int:
    """The sum of the counts of all lists of the node."""
    return await ctx.ask(node.read_nr_items)


@kernel_fn("__list_lru_walk_one", "mm/list_lru.c", profiles="..5.4-fixed")
async def __list_lru_walk_one(ctx: Context, walk: ListLruWalk, isolate: Isolate) -> int:
    """The walk itself, which starts again after the callback dropped the lock."""
    isolated, must_restart = 0, True
    while must_restart:
        removed, must_restart = await walk_items(ctx, walk, isolate)
        isolated += removed
    return isolated


@kernel_fn("__list_lru_walk_one", "mm/list_lru.c", profiles="7.2..")
async def __list_lru_walk_one_7_2(ctx: Context, walk: ListLruWalk, memcg: Memcg | None, isolate: Isolate) -> int:
    """[7.2] The walk over the list of a memcg, unless it is dead; return the number removed. KERNEL-today 12.6.

    It starts again with a look-up, without the lock that the callback has dropped.
    """
    isolated, status = 0, LruStatus.RETRY
    while status in (LruStatus.RETRY, LruStatus.REMOVED_RETRY):
        found = await lock_list_lru_of_memcg(ctx, walk.node, memcg, skip_empty=True)
        if found is None:
            break
        walk.guard = locked = found[0]
        walk.one = locked.one
        removed, status = await walk_locked_list(ctx, walk, isolate)
        isolated += removed
        if status in HOLDS_LOCK:
            await spin_unlock(ctx, locked.lock)
    return isolated


HOLDS_LOCK = (LruStatus.REMOVED, LruStatus.ROTATE, LruStatus.SKIP)
"""After these, a callback of 7.2 still has the lock of the list."""


async def walk_locked_list(ctx: Context, walk: ListLruWalk, isolate: Isolate) -> tuple[int, LruStatus]:
    """list_for_each_safe() from 7.2 on: visit items until a callback has dropped the lock; return the last result.

    As in `walk_items`, a rotated item is visited again behind the others.
    """
    isolated, status = 0, LruStatus.SKIP
    items = deque(await ctx.ask(walk.guard.list_items, walk.one))
    while items and walk.nr_to_walk and status in HOLDS_LOCK:
        item = items.popleft()
        walk.nr_to_walk -= 1
        status = await isolate(ctx, item, walk)
        if status in (LruStatus.REMOVED, LruStatus.REMOVED_RETRY):
            isolated += 1
            await ctx.ask(walk.node.add_nr_items, -1)
        elif status is LruStatus.ROTATE:
            await ctx.ask(walk.guard.move_tail, item, walk.one)
            if items:
                items.append(item)
    return isolated, status


@kernel_fn("__list_lru_walk_one", "mm/list_lru.c", profiles="6.12")
async def __list_lru_walk_one_6_12(ctx: Context, walk: ListLruWalk, memcg_idx: int, isolate: Isolate) -> int:
    """[6.12] The walk itself, over the list of an id; return the number of items removed. KERNEL-today 12.5.

    After the callback dropped the lock, the walk starts again with a look-up: the list may have gone.
    """
    isolated, must_restart = 0, True
    while must_restart:
        one = await list_lru_from_memcg_idx_6_12(ctx, walk.node, memcg_idx)
        if one is None:
            break
        walk.one = one
        removed, must_restart = await walk_items(ctx, walk, isolate)
        isolated += removed
    return isolated


async def walk_items(ctx: Context, walk: ListLruWalk, isolate: Isolate) -> tuple[int, bool]:
    """list_for_each_safe(): visit items until the callback has dropped the lock; return the number removed, and that.

    It keeps the next item. A rotated item is visited again behind the others, if the budget suffices. If the rotated
    item was the last one, the walk ends.
    """
    isolated = 0
    items = deque(await ctx.ask(walk.node.list_items, walk.one))
    while items and walk.nr_to_walk:
        item = items.popleft()
        walk.nr_to_walk -= 1
        status = await isolate(ctx, item, walk)
        if status in (LruStatus.REMOVED, LruStatus.REMOVED_RETRY):
            isolated += 1
            await ctx.ask(walk.node.count_isolated)
        elif status is LruStatus.ROTATE:
            await ctx.ask(walk.node.move_tail, item, walk.one)
            if items:
                items.append(item)
        elif status not in (LruStatus.SKIP, LruStatus.RETRY):
            bug(ctx, "__list_lru_walk_one: unknown lru_status")
        if status in (LruStatus.REMOVED_RETRY, LruStatus.RETRY):
            BUG_ON(ctx, walk.node.lock.holder is not ctx, "__list_lru_walk_one: assert_spin_locked(&nlru->lock)")
            return isolated, True
    return isolated, False


# -- growth of the arrays, offline (11.3) -----------------------------------------------------------------------------


@kernel_fn("memcg_drain_all_list_lrus", "mm/list_lru.c", profiles="..5.4-fixed")
async def memcg_drain_all_list_lrus(ctx: Context, src_idx: int, dst_memcg: Memcg) -> None:
    """KERNEL.md 3.3.6: move all items from the lists of a kmemcg_id to the parent's lists, before the id is freed."""
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            for node in lru.nodes:
                await memcg_drain_list_lru_node(ctx, lru, node, src_idx, dst_memcg)


@kernel_fn("memcg_drain_list_lru_node", "mm/list_lru.c", profiles="..5.3")
async def memcg_drain_list_lru_node(
    ctx: Context, lru: ListLru, node: ListLruNode, src_idx: int, dst_memcg: Memcg
) -> None:
    """The parent's shrinker bit is set only if its list's count was 0 before."""
    dst_idx = await memcg_cache_id(ctx, dst_memcg)
    async with SpinLockIrqHeld(ctx, node.lock):
        src = await list_lru_from_memcg_idx(ctx, node, src_idx)
        dst = await list_lru_from_memcg_idx(ctx, node, dst_idx)
        await ctx.ask(node.splice, src, dst)
        had_none = not await ctx.ask(node.read_count, dst)
        is_first = had_none and bool(await ctx.ask(node.read_count, src))
        await ctx.ask(node.move_count, src, dst)
        if is_first:
            await memcg_set_shrinker_bit(ctx, dst_memcg, node.nid, lru.shrinker_id)


@kernel_fn("memcg_drain_list_lru_node", "mm/list_lru.c", profiles="5.4-fixed")
async def memcg_drain_list_lru_node_fixed(
    ctx: Context, lru: ListLru, node: ListLruNode, src_idx: int, dst_memcg: Memcg
) -> None:
    """[54]: the parent's shrinker bit is set whenever items arrive (8199be001a47, Dec 2020)."""
    dst_idx = await memcg_cache_id(ctx, dst_memcg)
    async with SpinLockIrqHeld(ctx, node.lock):
        src = await list_lru_from_memcg_idx(ctx, node, src_idx)
        dst = await list_lru_from_memcg_idx(ctx, node, dst_idx)
        await ctx.ask(node.splice, src, dst)
        if await ctx.ask(node.read_count, src):
            await ctx.ask(node.move_count, src, dst)
            await memcg_set_shrinker_bit(ctx, dst_memcg, node.nid, lru.shrinker_id)


@kernel_fn("memcg_update_all_list_lrus", "mm/list_lru.c", profiles="..5.4-fixed")
async def memcg_update_all_list_lrus(ctx: Context, num_memcgs: int) -> None:
    """Grow the arrays of every list_lru from memcg_nr_cache_ids to *num_memcgs* lists."""
    old_size = ctx.machine.memcg_nr_cache_ids
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            for node in lru.nodes:
                await memcg_update_list_lru_node(ctx, node, old_size, num_memcgs)


@kernel_fn("memcg_update_list_lru_node", "mm/list_lru.c", profiles="..5.4-fixed")
async def memcg_update_list_lru_node(ctx: Context, node: ListLruNode, old_size: int, new_size: int) -> None:
    """Replace a node's array by a larger one with the same lists; readers without the lock are RCU readers."""
    BUG_ON(ctx, old_size > new_size, "memcg_update_list_lru_node: old_size > new_size")
    old = await ctx.ask(node.read_memcg_lrus)
    new = old.grown(node, old_size, new_size)
    async with SpinLockIrqHeld(ctx, node.lock):
        await ctx.ask(node.set_memcg_lrus, new)
    await call_rcu(ctx, old.rcu, kvfree_rcu)


@kernel_fn("kvfree_rcu", "mm/list_lru.c", profiles="..5.4-fixed")
async def kvfree_rcu(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free an array that was replaced; it has no readers any more."""
    ctx.kfree(head.container)


# -- the lists of a memcg from 6.12 on: made on demand, given to the parent (KERNEL-today 12.3, 12.4) -----------------


@kernel_fn("memcg_list_lru_allocated", "mm/list_lru.c", profiles="6.12..")
async def memcg_list_lru_allocated(ctx: Context, memcg: Memcg, lru: ListLru) -> bool:
    """Whether the present id of *memcg* has lists; the root's, -1, needs none."""
    idx = await memcg_cache_id(ctx, memcg)
    return idx < 0 or await ctx.ask(lru.xa.load, idx) is not None


@kernel_fn("memcg_list_lru_alloc", "mm/list_lru.c", profiles="7.2..")
async def memcg_list_lru_alloc_7_2(ctx: Context, memcg: Memcg, lru: ListLru, gfp: Gfp) -> bool:
    """KERNEL-7.2 N7.4: make the lists of *memcg* and of its ancestors, unless it has some; False is -ENOMEM."""
    return await memcg_list_lru_allocated(ctx, memcg, lru) or await __memcg_list_lru_alloc(ctx, memcg, lru, gfp)


@kernel_fn("__memcg_list_lru_alloc", "mm/list_lru.c", profiles="7.2..")
async def __memcg_list_lru_alloc(ctx: Context, memcg: Memcg, lru: ListLru, gfp: Gfp) -> bool:
    """KERNEL-7.2 N7.4: make the lists of *memcg*, after those of its ancestors, one memcg a round.

    Lists that were not needed, since another task was first, are kept for the next round. A dying memcg gets none: its
    items go to the lists of an ancestor.
    """
    mlru: ListLruMemcgNodes | None = None
    pos: Memcg | None = None
    while pos is None or (pos is not memcg and not await css_is_dying(ctx, pos)):
        pos = await topmost_without_lists(ctx, memcg, lru)
        if mlru is None:
            if not await kmalloc_lists(ctx, gfp):
                return False
            mlru = ListLruMemcgNodes.alloc_locked(lru.xa, pos.name, len(lru.nodes))
        result = await store_if_empty(ctx, lru, pos, mlru, has_node=False)
        if result is Stored.NO_NODE:
            if not await kmalloc_lists(ctx, gfp):
                ctx.kfree(*mlru.parts())
                return False
            result = await store_if_empty(ctx, lru, pos, mlru, has_node=True)
        mlru = None if result is Stored.YES else mlru
    if mlru is not None:
        ctx.kfree(*mlru.parts())
    return True


async def topmost_without_lists(ctx: Context, memcg: Memcg, lru: ListLru) -> Memcg:
    """*memcg*, or its farthest ancestor such that all below it have no lists."""
    pos = memcg
    while pos.parent is not None and not await memcg_list_lru_allocated(ctx, pos.parent, lru):
        pos = pos.parent
    return pos


class Stored(enum.Enum):
    """Whether lists were stored: not if the id has lists or its memcg is dying, nor if the tree lacks a node."""

    YES = "stored"
    NO = "not needed"
    NO_NODE = "-ENOMEM"


@kernel_fn("store_if_empty", "mm/list_lru.c", profiles="7.2..", known_as="__memcg_list_lru_alloc")
async def store_if_empty(ctx: Context, lru: ListLru, pos: Memcg, mlru: ListLruMemcgNodes, *, has_node: bool) -> Stored:
    """Store the lists of *pos*; the tree may need a node that cannot be had under the lock (xas_nomem())."""
    idx = await memcg_cache_id(ctx, pos)
    async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
        if await ctx.ask(lru.xa.load, idx) is not None or await css_is_dying(ctx, pos):
            return Stored.NO
        if not has_node and ctx.world.should_fail("xarray"):
            return Stored.NO_NODE
        mlru.memcg = pos.name
        await ctx.ask(lru.xa.store, idx, mlru)
        return Stored.YES


@kernel_fn("memcg_list_lru_alloc", "mm/list_lru.c", profiles="6.12")
async def memcg_list_lru_alloc(ctx: Context, memcg: Memcg, lru: ListLru, gfp: Gfp) -> bool:
    """KERNEL-today 12.4: make the lists of *memcg* and of its ancestors, so that removal finds the parent's.

    The ids are read a second time under the lock: any of these memcgs may have been removed since. Then its id is that
    of an ancestor, which has lists.
    """
    if await memcg_list_lru_allocated(ctx, memcg, lru):
        return True
    if not await kmalloc_lists(ctx, gfp):
        return False
    table: list[tuple[Memcg, ListLruMemcgNodes]] = []
    level: Memcg | None = memcg
    while level is not None and not await memcg_list_lru_allocated(ctx, level, lru):
        if not await kmalloc_lists(ctx, gfp):
            return no_memory(ctx, table)
        table.append((level, ListLruMemcgNodes.alloc(lru.xa, level.name, len(lru.nodes))))
        level = level.parent
    has_node = False
    while table:
        async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
            await store_lists(ctx, lru, table, has_node=has_node)
        has_node = True
        if table and not await kmalloc_lists(ctx, gfp):
            return no_memory(ctx, table)
    return True


async def kmalloc_lists(ctx: Context, gfp: Gfp) -> bool:
    """kmalloc() of lists, or of a node of their tree: it reclaims and sleeps if memory is short. False is -ENOMEM."""
    if not kmalloc(ctx, gfp, "list_lru"):
        return False
    if ctx.machine.buddy.is_short and gfpflags_allow_blocking(gfp):
        await reclaim(ctx)
    return True


def no_memory(ctx: Context, table: list[tuple[Memcg, ListLruMemcgNodes]]) -> bool:
    """Free the lists that are not stored, and return False: -ENOMEM."""
    ctx.kfree(*(mlru for _, mlru in table))
    return False


async def store_lists(
    ctx: Context, lru: ListLru, table: list[tuple[Memcg, ListLruMemcgNodes]], *, has_node: bool
) -> None:
    """Store the lists of *table*, the topmost memcg's (the last) first; xa_lock is held.

    The tree may need a node that cannot be had under the lock (xas_nomem()). Then the rest of *table* is left: the
    caller allocates the node, and calls again. The id is read again as well, for the memcg may have been removed.
    """
    while table:
        memcg, mlru = table[-1]
        idx = await memcg_cache_id(ctx, memcg)
        if idx < 0 or await ctx.ask(lru.xa.load, idx) is not None:
            ctx.kfree(mlru)
        elif not has_node and ctx.world.should_fail("xarray"):
            return
        else:
            await ctx.ask(lru.xa.store, idx, mlru)
            has_node = False
        table.pop()


@kernel_fn("memcg_reparent_list_lrus", "mm/list_lru.c", profiles="7.2..")
async def memcg_reparent_list_lrus_7_2(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """KERNEL-7.2 N7.3: give the items of *memcg* to *parent*, while *memcg* keeps its id."""
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            mlru = await ctx.ask(lru.xa.load, await memcg_cache_id(ctx, memcg))
            if mlru is not None:
                await reparent_lists(ctx, lru, mlru, memcg, parent)


async def reparent_lists(ctx: Context, lru: ListLru, mlru: ListLruMemcgNodes, memcg: Memcg, parent: Memcg) -> None:
    """Empty the lists of all nodes; only then take them from the xarray, for they guard their items until then.

    An add or a delete that finds a list before its splice comes first. Any other finds a dead list, or none.
    """
    for nid in range(len(lru.nodes)):
        await memcg_reparent_list_lru_one(ctx, lru, nid, mlru.locked[nid], parent)
    async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
        await ctx.ask(lru.xa.erase, await memcg_cache_id(ctx, memcg))
    await kfree_rcu(ctx, *mlru.parts())


@kernel_fn("memcg_reparent_list_lru_one", "mm/list_lru.c", profiles="7.2..")
async def memcg_reparent_list_lru_one(
    ctx: Context, lru: ListLru, nid: int, child: LockedListLruOne, dst_memcg: Memcg
) -> None:
    """Splice a list to the head of the parent's, with the count, and mark it dead; both locks are held."""
    async with SpinLockIrqHeld(ctx, child.lock):
        dst_idx = await memcg_cache_id(ctx, dst_memcg)
        found = await list_lru_from_memcg_idx_7_2(ctx, lru.nodes[nid], dst_idx)
        dst = deref(found, "memcg_reparent_list_lru_one(): dst->lock")
        await spin_lock_nested(ctx, dst.lock)
        await ctx.ask(child.splice, child.one, dst.one)
        nr_items = await ctx.ask(child.read_count, child.one)
        if nr_items:
            WARN_ON(ctx, nr_items < 0, "memcg_reparent_list_lru_one: src->nr_items < 0")
            await ctx.ask(child.move_count, child.one, dst.one)
            await set_shrinker_bit(ctx, dst_memcg, nid, lru.shrinker_id)
        await ctx.ask(child.mark_dead)
        await spin_unlock(ctx, dst.lock)


@kernel_fn("memcg_reparent_list_lrus", "mm/list_lru.c", profiles="6.12")
async def memcg_reparent_list_lrus(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """KERNEL-today 12.3: give the items of *memcg* to *parent*. The ids come first.

    An add that reads the old id under a node's lock precedes the splice of that node. A later one reads the new id.
    """
    src_idx = await memcg_cache_id(ctx, memcg)
    with ctx.rcu_read_section:
        for child in await ctx.ask(memcg.list_subtree):
            await ctx.ask(child.set_kmemcg_id, await memcg_cache_id(ctx, parent))
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            await memcg_reparent_list_lru(ctx, lru, src_idx, parent)


@kernel_fn("memcg_reparent_list_lru", "mm/list_lru.c", profiles="6.12")
async def memcg_reparent_list_lru(ctx: Context, lru: ListLru, src_idx: int, dst_memcg: Memcg) -> None:
    """Move the items of an id on each node to the parent's lists, then free the lists of the id."""
    for nid in range(len(lru.nodes)):
        await memcg_reparent_list_lru_node(ctx, lru, nid, src_idx, dst_memcg)
    await memcg_list_lru_free(ctx, lru, src_idx)


@kernel_fn("memcg_reparent_list_lru_node", "mm/list_lru.c", profiles="6.12")
async def memcg_reparent_list_lru_node(ctx: Context, lru: ListLru, nid: int, src_idx: int, dst_memcg: Memcg) -> None:
    """Splice the list of an id to the head of the parent's, with the count; reclaim of the parent finds the items."""
    node = lru.nodes[nid]
    dst_idx = await memcg_cache_id(ctx, dst_memcg)
    async with SpinLockIrqHeld(ctx, node.lock):
        src = await list_lru_from_memcg_idx_6_12(ctx, node, src_idx)
        if src is None:
            return
        found = await list_lru_from_memcg_idx_6_12(ctx, node, dst_idx)
        dst = deref(found, "memcg_reparent_list_lru_node(): dst->list")
        await ctx.ask(node.splice, src, dst)
        if await ctx.ask(node.read_count, src):
            await ctx.ask(node.move_count, src, dst)
            await set_shrinker_bit(ctx, dst_memcg, nid, lru.shrinker_id)


@kernel_fn("memcg_list_lru_free", "mm/list_lru.c", profiles="6.12")
async def memcg_list_lru_free(ctx: Context, lru: ListLru, src_idx: int) -> None:
    """Take the lists of an id from the xarray. Look-ups under RCU may still have them."""
    async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
        mlru = await ctx.ask(lru.xa.erase, src_idx)
    if mlru is not None:
        await kfree_rcu(ctx, mlru)
