"""LRU lists of objects that a shrinker may free, one for each memcg. mm/list_lru.c, version by version; KERNEL.md 11.

An item is on the list of the memcg that its slab page belongs to, or on the global list. When a memcg goes offline,
its lists are spliced to the parent's. A node's lock protects all lists of the node. An unlink decrements the count of
the list that the item's page selects *now*; the item may be linked to another list (11.3). The array of a node's lists
is replaced by a larger one when needed; the lock or RCU keeps the old one alive.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.locking.locks import MutexHeld, SpinLock, SpinLockHeld, SpinLockIrqHeld, down_read, up_read
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.mm.kmem_cache import SlabObject
from actors.linux.mm.memcontrol import memcg_cache_id, memcg_set_shrinker_bit
from actors.machine.context import BUG_ON, Context, bug
from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Actor, Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.findings import Oops
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.mm.memcontrol import Memcg
    from actors.linux.mm.vmscan import ShrinkControl


class LruStatus(enum.Enum):
    """enum lru_status: the result of an isolate callback for one item.

    After REMOVED_RETRY and RETRY the walk starts again, because the callback dropped the lock meanwhile.
    """

    REMOVED = "LRU_REMOVED"
    REMOVED_RETRY = "LRU_REMOVED_RETRY"
    ROTATE = "LRU_ROTATE"
    SKIP = "LRU_SKIP"
    RETRY = "LRU_RETRY"


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
class ListLruNode(Shared):
    """struct list_lru_node: the global list, the lists of memcgs, and the sum of their counts.

    invariant: at quiescence each list counts the items that are on it, and `nr_items` counts all (Q8).
    """

    name: str
    nid: int
    lock: SpinLock = attrs.field(init=False)
    lru: ListLruOne = attrs.field(init=False)
    memcg_lrus: ListLruMemcg = attrs.field(init=False)
    nr_items: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(self.actor, "&nlru->lock")
        self.lru = ListLruOne(self)
        self.memcg_lrus = ListLruMemcg(self.actor, self.label, [])

    @property
    def label(self) -> str:
        return f"{self.name} of node {self.nid}"

    def lists(self) -> list[ListLruOne]:
        """All lists: the global one, then the lists of memcgs."""
        return [self.lru, *self.memcg_lrus.lru]

    @operation(READ)
    def read_memcg_lrus(self) -> ListLruMemcg:
        return self.memcg_lrus

    @operation(UPDATE)
    def set_memcg_lrus(self, memcg_lrus: ListLruMemcg) -> None:
        self.memcg_lrus = memcg_lrus

    @operation(READ)
    def read_nr_items(self) -> int:
        return self.nr_items

    @operation(READ)
    def is_linked(self, item: LruItem) -> bool:
        """!list_empty(item): on this list or on any other; the lock keeps it so."""
        return item.on is not None

    @operation(UPDATE)
    def add(self, item: LruItem, target: ListLruOne) -> bool:
        """Link *item* at the end; True if the list's count was 0."""
        self.lock.assert_held()
        target.add_tail(item)
        target.nr_items += 1
        self.nr_items += 1
        return target.nr_items == 1

    @operation(UPDATE, lifecycle=True)
    def delete(self, item: LruItem, counted: ListLruOne) -> None:
        """Unlink *item* from the list that it is on, and decrement the count of the list that it should be on."""
        self.lock.assert_held()
        counted.delete(item)
        counted.nr_items -= 1
        self.nr_items -= 1

    @operation(UPDATE)
    def isolate(self, item: LruItem, counted: ListLruOne) -> None:
        """list_lru_isolate(); the walk adjusts the node's count."""
        self.lock.assert_held()
        counted.delete(item)
        counted.nr_items -= 1

    @operation(UPDATE)
    def isolate_move(self, item: LruItem, counted: ListLruOne, target: LruList) -> None:
        """list_lru_isolate_move(): to the private list *target*."""
        self.lock.assert_held()
        counted.delete(item)
        target.add_tail(item)
        counted.nr_items -= 1

    @operation(UPDATE)
    def count_isolated(self) -> None:
        self.nr_items -= 1

    @operation(UPDATE)
    def move_tail(self, item: LruItem, one: ListLruOne) -> None:
        """list_move_tail(): the item was used, so it goes to the end of its list."""
        self.lock.assert_held()
        one.delete(item)
        one.add_tail(item)

    @operation(UPDATE)
    def splice(self, src: ListLruOne, dst: ListLruOne) -> None:
        """list_splice_init(): move all items of one list to the head of another; the counts do not change."""
        self.lock.assert_held()
        for item in src.items:
            item.on = dst
        dst.items.list_splice_init(src.items)

    @operation(READ)
    def read_count(self, one: ListLruOne) -> int:
        return one.nr_items

    @operation(UPDATE)
    def move_count(self, src: ListLruOne, dst: ListLruOne) -> None:
        """Add the count of *src* to *dst* and set it to 0."""
        self.lock.assert_held()
        dst.nr_items += src.nr_items
        src.nr_items = 0

    @operation(READ)
    def list_items(self, one: ListLruOne) -> tuple[LruItem, ...]:
        """The list as it is; the lock keeps it so."""
        return one.items.walk()


@attrs.define(eq=False)
class ListLru:
    """struct list_lru: one for each kind of object of a filesystem; `shrinker_id` is its bit in the memcgs' maps."""

    name: str
    nodes: list[ListLruNode]
    shrinker_id: int


@attrs.define(eq=False)
class ListLruWalk:
    """State shared by a walk and its callback: the node, the memcg's list, and the list for isolated items.

    `nr_to_walk` is the number of items that the walk may still visit.
    """

    node: ListLruNode
    one: ListLruOne
    freeable: LruList
    nr_to_walk: int


Isolate = Callable[[Context, LruItem, ListLruWalk], Awaitable[LruStatus]]
"""list_lru_walk_cb: called for one item with the node's lock held; returns its result as an LruStatus."""


# -- registering a list_lru -------------------------------------------------------------------------------------------


@kernel_fn("__list_lru_init", "mm/list_lru.c")
async def __list_lru_init(ctx: Context, actor: Actor, name: str, shrinker_id: int) -> ListLru:
    """list_lru_init_memcg(): a memcg-aware list_lru, with arrays for the present memcg_nr_cache_ids."""
    machine = ctx.machine
    await down_read(ctx, machine.memcg_cache_ids_sem)
    lru = ListLru(name, [ListLruNode(actor, name, nid) for nid in range(machine.config.nodes)], shrinker_id)
    for node in lru.nodes:
        await ctx.ask(node.set_memcg_lrus, node.memcg_lrus.grown(node, 0, machine.memcg_nr_cache_ids))
    await list_lru_register(ctx, lru)
    await up_read(ctx, machine.memcg_cache_ids_sem)
    return lru


@kernel_fn("list_lru_register", "mm/list_lru.c")
async def list_lru_register(ctx: Context, lru: ListLru) -> None:
    """list_add(): the newest list_lru is the first."""
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        ctx.machine.list_lrus.insert(0, lru)


# -- choice of the list -----------------------------------------------------------------------------------------------


@kernel_fn("list_lru_from_memcg_idx", "mm/list_lru.c")
async def list_lru_from_memcg_idx(ctx: Context, node: ListLruNode, idx: int) -> ListLruOne:
    """The list of a kmemcg_id, where -1 is the global list; the lock or RCU protects the array."""
    memcg_lrus = await ctx.ask(node.read_memcg_lrus)
    return node.lru if idx < 0 else await ctx.ask(memcg_lrus.read, idx)


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


@kernel_fn("list_lru_from_kmem", "mm/list_lru.c")
async def list_lru_from_kmem(ctx: Context, node: ListLruNode, item: LruItem) -> tuple[ListLruOne, Memcg | None]:
    """The list that *item* belongs to at this moment, and its memcg; the node's lock is held."""
    memcg = await mem_cgroup_from_kmem(ctx, item)
    if memcg is None:
        return node.lru, None
    return await list_lru_from_memcg_idx(ctx, node, await memcg_cache_id(ctx, memcg)), memcg


# -- add, delete, count (11.2) ----------------------------------------------------------------------------------------


@kernel_fn("list_lru_add", "mm/list_lru.c")
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


@kernel_fn("list_lru_del", "mm/list_lru.c")
async def list_lru_del(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """Unlink *item*, if it is linked."""
    node = lru.nodes[item.obj.slab.nid]
    async with SpinLockHeld(ctx, node.lock):
        if not await ctx.ask(node.is_linked, item):
            return False
        one, _ = await list_lru_from_kmem(ctx, node, item)
        await ctx.ask(node.delete, item, one)
        return True


@kernel_fn("list_lru_count_one", "mm/list_lru.c")
async def list_lru_count_one(ctx: Context, lru: ListLru, nid: int, memcg: Memcg | None) -> int:
    """The count of *memcg*'s list, read without the lock: it may even be negative (11.3)."""
    node = lru.nodes[nid]
    with ctx.rcu_read_section:
        one = await list_lru_from_memcg_idx(ctx, node, await memcg_cache_id(ctx, memcg))
        return await ctx.ask(node.read_count, one)


# -- walk -------------------------------------------------------------------------------------------------------------


@kernel_fn("list_lru_walk_one", "mm/list_lru.c")
async def list_lru_walk_one(ctx: Context, lru: ListLru, sc: ShrinkControl, isolate: Isolate, freeable: LruList) -> int:
    """list_lru_shrink_walk(): call *isolate* for items of sc->memcg's list, oldest first; return the number removed."""
    node = lru.nodes[sc.nid]
    async with SpinLockHeld(ctx, node.lock):
        one = await list_lru_from_memcg_idx(ctx, node, await memcg_cache_id(ctx, sc.memcg))
        return await __list_lru_walk_one(ctx, ListLruWalk(node, one, freeable, sc.nr_to_scan), isolate)


@kernel_fn("list_lru_walk_node", "mm/list_lru.c")
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


@kernel_fn("list_lru_count_node", "mm/list_lru.c")
async def list_lru_count_node(ctx: Context, node: ListLruNode) -> int:
    """The sum of the counts of all lists of the node."""
    return await ctx.ask(node.read_nr_items)


@kernel_fn("__list_lru_walk_one", "mm/list_lru.c")
async def __list_lru_walk_one(ctx: Context, walk: ListLruWalk, isolate: Isolate) -> int:
    """The walk itself, which keeps the next item, as list_for_each_safe does.

    A rotated item is visited again behind the others, if the budget suffices. If the rotated item was the last one,
    the walk ends.
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
            items = deque(await ctx.ask(walk.node.list_items, walk.one))
    return isolated


# -- growth of the arrays, offline (11.3) -----------------------------------------------------------------------------


@kernel_fn("memcg_drain_all_list_lrus", "mm/list_lru.c")
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


@kernel_fn("memcg_update_all_list_lrus", "mm/list_lru.c")
async def memcg_update_all_list_lrus(ctx: Context, num_memcgs: int) -> None:
    """Grow the arrays of every list_lru from memcg_nr_cache_ids to *num_memcgs* lists."""
    old_size = ctx.machine.memcg_nr_cache_ids
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            for node in lru.nodes:
                await memcg_update_list_lru_node(ctx, node, old_size, num_memcgs)


@kernel_fn("memcg_update_list_lru_node", "mm/list_lru.c")
async def memcg_update_list_lru_node(ctx: Context, node: ListLruNode, old_size: int, new_size: int) -> None:
    """Replace a node's array by a larger one with the same lists; readers without the lock are RCU readers."""
    BUG_ON(ctx, old_size > new_size, "memcg_update_list_lru_node: old_size > new_size")
    old = await ctx.ask(node.read_memcg_lrus)
    new = old.grown(node, old_size, new_size)
    async with SpinLockIrqHeld(ctx, node.lock):
        await ctx.ask(node.set_memcg_lrus, new)
    await call_rcu(ctx, old.rcu, kvfree_rcu)


@kernel_fn("kvfree_rcu", "mm/list_lru.c")
async def kvfree_rcu(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free an array that was replaced; it has no readers any more."""
    ctx.kfree(head.container)
