"""LRU lists of objects that a shrinker may free, one for each memcg. mm/list_lru.c, version by version; KERNEL.md 11.

An item is on the list of the memcg that its slab page belongs to, or on the global one. When a memcg goes offline its
lists are spliced to the parent's. The lock of a node protects all its lists; a count is changed on the list that the
item's page says *now*, which may be another one than it is linked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import SlabObject
from actors.kernel.locks import MutexHeld, SpinLock, SpinLockHeld, SpinLockIrqHeld
from actors.system.actor import Actor, Shared
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.kernel.memcontrol import Memcg


@attrs.define(eq=False)
class LruItem:
    """What is linked into a list: an object of a slab, and the list it is on."""

    obj: SlabObject
    on: ListLruOne | None = None


@attrs.define(eq=False)
class ListLruOne:
    """struct list_lru_one: items, oldest first, and how many there should be."""

    items: dict[LruItem, None] = attrs.field(factory=dict)
    nr_items: int = 0


@attrs.define(eq=False)
class ListLruNode(Shared):
    """struct list_lru_node: the global list, those of the memcgs by kmemcg_id, and the sum of their counts."""

    name: str
    nid: int
    lock: SpinLock = attrs.field(init=False)
    lru: ListLruOne = attrs.field(factory=ListLruOne, init=False)
    memcg_lrus: list[ListLruOne] = attrs.field(factory=list, init=False)
    nr_items: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(self.actor, "&nlru->lock")

    @property
    def label(self) -> str:
        return f"{self.name} of node {self.nid}"

    def list_of(self, kmemcg_id: int) -> ListLruOne:
        """list_lru_from_memcg_idx()."""
        return self.memcg_lrus[kmemcg_id] if 0 <= kmemcg_id < len(self.memcg_lrus) else self.lru

    @operation(UPDATE)
    def grow(self, size: int) -> None:
        """Room for more memcgs; the old array is freed after a grace period, and not read any more meanwhile."""
        self.memcg_lrus += [ListLruOne() for _ in range(size - len(self.memcg_lrus))]

    @operation(UPDATE)
    def add(self, item: LruItem, kmemcg_id: int) -> bool:
        """Link *item*; True if it is the first of its list."""
        target = self.list_of(kmemcg_id)
        item.on = target
        target.items[item] = None
        target.nr_items += 1
        self.nr_items += 1
        return target.nr_items == 1

    @operation(UPDATE)
    def delete(self, item: LruItem, kmemcg_id: int) -> None:
        """Unlink *item* from wherever it is, and count one less on the list that it should be on."""
        if item.on is not None:
            item.on.items.pop(item, None)
            item.on = None
        self.list_of(kmemcg_id).nr_items -= 1
        self.nr_items -= 1

    @operation(UPDATE)
    def splice(self, src_idx: int, dst_idx: int) -> bool:
        """Move all of one list to another; True if that one was empty before."""
        src, dst = self.list_of(src_idx), self.list_of(dst_idx)
        first = not dst.nr_items and src.nr_items > 0
        for item in src.items:
            item.on = dst
        dst.items.update(src.items)
        dst.nr_items += src.nr_items
        src.items, src.nr_items = {}, 0
        return first

    @operation(READ)
    def count(self, kmemcg_id: int) -> int:
        """list_lru_count_one()."""
        return max(0, self.list_of(kmemcg_id).nr_items)

    @operation(READ)
    def oldest(self, kmemcg_id: int) -> tuple[LruItem, ...]:
        """The list as it is; the lock keeps it so."""
        return tuple(self.list_of(kmemcg_id).items)

    @operation(UPDATE)
    def rotate(self, item: LruItem) -> None:
        """list_move_tail(): the item has been used, and gets another round."""
        if item.on is not None:
            del item.on.items[item]
            item.on.items[item] = None


@attrs.define(eq=False)
class ListLru:
    """struct list_lru: one per shrinker of a filesystem. `shrinker_bits` are the memcgs that may have items here."""

    name: str
    nodes: list[ListLruNode]
    shrinker_bits: set[Memcg] = attrs.field(factory=set, init=False)

    @classmethod
    def boot(cls, actor: Actor, name: str, nodes: int, size: int) -> ListLru:
        """list_lru_init_memcg(), with room for *size* memcgs."""
        lru = cls(name, [ListLruNode(actor, name, nid) for nid in range(nodes)])
        for node in lru.nodes:
            node.grow(size)
        return lru


@kernel_fn("mem_cgroup_from_kmem", "mm/list_lru.c", profiles="v6..")
async def mem_cgroup_from_kmem(ctx: Context, item: LruItem) -> Memcg | None:
    """The memcg that the item's slab belongs to, by its cache; None for a root cache."""
    cache = item.obj.slab.slab_cache
    return None if cache.is_root_cache else await ctx.ask(cache.read_memcg)


@kernel_fn("mem_cgroup_from_kmem", "mm/list_lru.c", profiles="..v5")
async def mem_cgroup_from_kmem_until_v5(ctx: Context, item: LruItem) -> Memcg | None:
    """By page.mem_cgroup, which from v1 on is not set for slabs."""
    return item.obj.slab.memcg


async def list_lru_from_kmem(ctx: Context, item: LruItem) -> int:
    """The kmemcg_id of the list to use: -1 is the global one."""
    memcg = await mem_cgroup_from_kmem(ctx, item)
    return -1 if memcg is None else await ctx.ask(memcg.read_kmemcg_id)


@kernel_fn("list_lru_add", "mm/list_lru.c")
async def list_lru_add(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """Link *item* at the end, unless it is linked."""
    node = lru.nodes[item.obj.slab.nid]
    async with SpinLockHeld(ctx, node.lock):
        if item.on is not None:
            return False
        memcg = await mem_cgroup_from_kmem(ctx, item)
        kmemcg_id = -1 if memcg is None else await ctx.ask(memcg.read_kmemcg_id)
        if await ctx.ask(node.add, item, kmemcg_id) and memcg is not None:
            lru.shrinker_bits.add(memcg)
        return True


@kernel_fn("list_lru_del", "mm/list_lru.c")
async def list_lru_del(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """Unlink *item*, if it is linked."""
    node = lru.nodes[item.obj.slab.nid]
    async with SpinLockHeld(ctx, node.lock):
        if item.on is None:
            return False
        await ctx.ask(node.delete, item, await list_lru_from_kmem(ctx, item))
        return True


@kernel_fn("memcg_drain_all_list_lrus", "mm/list_lru.c")
async def memcg_drain_all_list_lrus(ctx: Context, src_idx: int, dst_memcg: Memcg) -> None:
    """3.3.6: what is on the lists of an id that is given up goes to the parent's."""
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            for node in lru.nodes:
                await memcg_drain_list_lru_node(ctx, lru, node, src_idx, dst_memcg)


@kernel_fn("memcg_drain_list_lru_node", "mm/list_lru.c")
async def memcg_drain_list_lru_node(
    ctx: Context, lru: ListLru, node: ListLruNode, src_idx: int, dst_memcg: Memcg
) -> None:
    async with SpinLockIrqHeld(ctx, node.lock):
        dst_idx = await ctx.ask(dst_memcg.read_kmemcg_id)
        if await ctx.ask(node.splice, src_idx, dst_idx):
            lru.shrinker_bits.add(dst_memcg)


@kernel_fn("memcg_update_all_list_lrus", "mm/list_lru.c")
async def memcg_update_all_list_lrus(ctx: Context, num_memcgs: int) -> None:
    """Make room for more memcgs on every list."""
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            for node in lru.nodes:
                async with SpinLockIrqHeld(ctx, node.lock):
                    await ctx.ask(node.grow, num_memcgs)
