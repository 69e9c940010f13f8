"""LRU checks at quiescence: the list of each item, and the item count of each list.

Like the rest of the oracles they observe from outside; KERNEL.md 11 and 13 have the rules. An item belongs to the list
of its slab's present memcg, on the slab's node. When a memcg goes offline, its caches and list items move to its
parent; before the series the page still points to the old memcg, which by then has its parent's id. So no list of an
unused id may hold items, and no item may have moved further up.

From 6.12 on an item belongs to the memcg of its object's obj_cgroup, and an id that no online memcg has, has no lists
(KERNEL-today 20: T12 to T14, U4). From 7.2 on a list whose items are the parent's is dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from actors.linux.mm.list_lru import LONG_MIN
from actors.versions.profiles import WITHOUT_CHILD_CACHES, declared_range

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.mm.list_lru import ListLru, ListLruNode, ListLruOne, LruItem
    from actors.linux.mm.memcontrol import Memcg

BY_PAGE = declared_range("..v5")
"""The profiles that find an item's memcg by page.mem_cgroup. v1 to v5, and v4#5 to v4#7, set it for no
slab: they use the global list.
"""


def lru_wrongs(machine: Machine) -> Iterator[tuple[str, str]]:
    """All violations in the LRU lists at any quiescence, by number and text."""
    for lru in machine.list_lrus:
        for node in lru.nodes:
            yield from check_counts(node)
            yield from check_places(machine, node)
            yield from check_finders(machine, lru, node)
        yield from check_slots(machine, lru)


def check_counts(node: ListLruNode) -> Iterator[tuple[str, str]]:
    """Q8, T13: each list counts its items, and each node counts the items of all its lists."""
    for _, one in node.lists():
        if count_of(one) != len(one.items):
            yield "Q8", f"a list of {node.label} counts {one.nr_items} items and has {len(one.items)}"
    counts = sum(count_of(one) for _, one in node.lists())
    if counts != node.nr_items:
        yield "Q8", f"the lists of {node.label} count {counts} items, the node {node.nr_items}"


def count_of(one: ListLruOne) -> int:
    """The items that a list counts; none if it is dead, which its count says from 7.2 on."""
    return 0 if one.nr_items == LONG_MIN else one.nr_items


def check_places(machine: Machine, node: ListLruNode) -> Iterator[tuple[str, str]]:
    """T12: each item is on the list of its memcg and its slab's node."""
    for kmemcg_id, one in node.lists():
        for item in one.items:
            slab = item.obj.slab
            if slab.freed is not None:
                continue  # check_freed_on_lists() reports it
            memcg = memcg_of_item(machine, item)
            wanted = memcg.kmemcg_id if memcg is not None else -1
            if wanted != kmemcg_id or slab.nid != node.nid:
                owner = memcg.name if memcg is not None else "no memcg"
                place = f"is on the list of id {kmemcg_id} of {node.label}"
                text = f"{item.memory.label} {place}; it belongs to {owner}, id {wanted}, on node {slab.nid}"
                yield "LRU list", text


def memcg_of_item(machine: Machine, item: LruItem) -> Memcg | None:
    """The memcg of an item, by the rule of this kernel (11.1); None for items of root caches, or without obj_cgroup."""
    slab = item.obj.slab
    if machine.config.kernel in WITHOUT_CHILD_CACHES:
        objcg = slab.obj_exts.slots[item.obj.at] if slab.obj_exts is not None else None
        return None if objcg is None else objcg.memcg
    if machine.config.kernel in BY_PAGE:
        return slab.memcg
    return None if slab.slab_cache.is_root_cache else slab.slab_cache.memcg


def check_finders(machine: Machine, lru: ListLru, node: ListLruNode) -> Iterator[tuple[str, str]]:
    """Q8, T14: only lists of online memcgs have items, and reclaim can find these lists."""
    online = online_by_id(machine)
    for kmemcg_id, one in node.lists():
        if kmemcg_id >= 0 and one.items:
            yield from check_finder(lru, node, kmemcg_id, one, online.get(kmemcg_id))


def online_by_id(machine: Machine) -> dict[int, Memcg]:
    """The memcgs whose kmemcg_id is their own."""
    return {memcg.kmemcg_id: memcg for memcg in machine.memcgs() if memcg.is_kmem_online}


def check_slots(machine: Machine, lru: ListLru) -> Iterator[tuple[str, str]]:
    """U4: only ids of online memcgs have lists; the lists of all others are freed."""
    for kmemcg_id in sorted(lru.xa.entries.keys() - online_by_id(machine).keys()):
        yield "U4", f"{lru.name} has lists for id {kmemcg_id}, which no online memcg has"


def check_finder(
    lru: ListLru, node: ListLruNode, kmemcg_id: int, one: ListLruOne, memcg: Memcg | None
) -> Iterator[tuple[str, str]]:
    """Reclaim finds the items of one memcg's list."""
    if memcg is None:
        yield "Q8", f"{node.label} has {len(one.items)} items for id {kmemcg_id}, which no online memcg has"
    elif lru.shrinker_id not in memcg.shrinker_maps[node.nid]:
        yield "Q8-shrinker-bit", f"no shrinker will find the items of {memcg.name} on {node.label}"
