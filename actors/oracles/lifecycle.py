"""Lifecycle checks at quiescence: the lists of each cache, the owners of ids, and the slab pages that nodes count.

Like the rest of the oracles they observe from outside; KERNEL.md 13 has the numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from actors.linux.mm.memcontrol import KmemState
from actors.linux.mm.vmstat import StatItem
from actors.versions.profiles import KEEPS_KMEMCG_ID, PAGES_PIN_MEMCG

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.kernel.cgroup.cgroup import Cgroup
    from actors.linux.mm.kmem_cache import KmemCache
    from actors.linux.mm.memcontrol import Memcg


def lifecycle_wrongs(machine: Machine) -> Iterator[tuple[str, str]]:
    """All violations in the lists, ids and node statistics of *machine* at quiescence, by number and text."""
    yield from check_kept_ids(machine) if machine.config.kernel in KEEPS_KMEMCG_ID else check_ids(machine)
    yield from check_idas(machine)
    yield from check_objcgs(machine)
    yield from check_list_of_all(machine)
    for s in machine.child_caches:
        if s in machine.slab_caches.caches:
            yield from check_owner(machine, s)
    if machine.config.kernel in PAGES_PIN_MEMCG:
        yield from check_page_owners(machine)
    yield from check_node_statistics(machine)
    yield from check_freed_on_lists(machine)
    if machine.has_css_rstat:
        yield from check_populated(machine)
        yield from check_rstat_lists(machine)


def check_populated(machine: Machine) -> Iterator[tuple[str, str]]:
    """KERNEL-7.2 N3.0: the counts of each css are those of the tasks in its subtree."""
    for cgroup in machine.root_cgroup.descendants():
        css = cgroup.css if cgroup.has_css else None
        if css is None or css.freed is not None:
            continue
        children = sum(child.css.freed is None and child.css.is_populated for child in with_css(cgroup))
        wanted, counted = (int(cgroup.tasks > 0), children), (css.nr_populated_csets, css.nr_populated_children)
        if counted != wanted:
            what = "(css_sets, children) that are populated"
            yield "populated", f"{css.label} counts {counted} {what}; its tasks and children make {wanted}"


def with_css(cgroup: Cgroup) -> list[Cgroup]:
    """The children that have, or had, a memory css."""
    return [child for child in cgroup.children if child.has_css]


def check_rstat_lists(machine: Machine) -> Iterator[tuple[str, str]]:
    """KERNEL-7.2 N4.4: the next flush would go through every css that is on the list of a CPU."""
    for cpu, lhead in enumerate(machine.memory_rstat.lheads):
        for rstat in lhead:
            if rstat.freed is not None:
                yield "rstat", f"{rstat.label} is on the list of CPU {cpu}; it was freed by {rstat.freed}"


def check_freed_on_lists(machine: Machine) -> Iterator[tuple[str, str]]:
    """No live list holds a freed element: the next operation beside it would be a use-after-free."""
    for entry in machine.freed_on_lists:
        for head in entry.on_lists:
            if head.owner is not None and head.owner.freed is None:
                yield "list", f"{entry.label} is still on {head.label}; it was freed by {entry.freed}"


def check_cgroups(machine: Machine) -> Iterator[tuple[str, str]]:
    """A cgroup that is not removed has its css: mkdir fails without one, and must then remove the cgroup again.

    A cgroup left behind cannot be reached, and its parent can never be removed (KERNEL.md 3.1).
    """
    for cgroup in machine.root_cgroup.descendants():
        if not (cgroup.is_dead or cgroup.has_css):
            yield "cgroup", f"{cgroup.label} is not removed, and has no css: its mkdir has failed"


def check_ids(machine: Machine) -> Iterator[tuple[str, str]]:
    """I13: an offline memcg has its parent's id; without a parent it has the root's, -1."""
    for memcg in machine.memcgs():
        wanted = above(machine, memcg).kmemcg_id
        owners = memcg.objcg_owners()
        has_lost_objcgs = any(owner.orig_objcg and not owner.objcg for owner in owners)
        is_offline = memcg.kmem_state is KmemState.ALLOCATED or has_lost_objcgs
        if is_offline and memcg.kmemcg_id != wanted:
            yield "I13", f"{memcg.label} is offline with kmemcg_id {memcg.kmemcg_id}; its parent's is {wanted}"


def check_kept_ids(machine: Machine) -> Iterator[tuple[str, str]]:
    """I13 from 7.2 on: a memcg has its own id from the time it goes online, and keeps it (KERNEL-7.2, row 14)."""
    for memcg in machine.memcgs():
        is_new = memcg.kmemcg_id == -1 and not memcg.is_kmem_online
        if memcg.kmemcg_id != memcg.id and not is_new:
            yield "I13", f"{memcg.label} has kmemcg_id {memcg.kmemcg_id}; its own id is {memcg.id}"


def check_idas(machine: Machine) -> Iterator[tuple[str, str]]:
    """Every allocated id has an owner: a memcg until it is offline, a css until it is freed."""
    csses = [cgroup.css for cgroup in machine.root_cgroup.descendants() if cgroup.has_css]
    memcgs = machine.memcgs()
    for ida, wanted in (
        (machine.memcg_cache_ida, [memcg.kmemcg_id for memcg in memcgs if memcg.kmem_state is KmemState.ONLINE]),
        (machine.mem_cgroup_ids, [memcg.id for memcg in memcgs if memcg.id and memcg.id_ref]),
        (machine.cgroup_tree.css_idr, [css.id for css in csses if css.freed is None]),
    ):
        lost, missing = sorted(ida.used.difference(wanted)), sorted(set(wanted) - ida.used)
        if lost or missing:
            yield "ids", f"{ida.label}: {lost} are allocated without an owner; {missing} have an owner, but are free"


def above(machine: Machine, memcg: Memcg) -> Memcg:
    """The memcg that inherits the state of *memcg* when it goes offline."""
    return memcg.parent or machine.root_mem_cgroup


def check_objcgs(machine: Machine) -> Iterator[tuple[str, str]]:
    """U5: an obj_cgroup that new objects can find, is that of a memcg; otherwise it is killed, and lives by its users.

    The root's are never killed, and their references are not counted.
    """
    for objcg in machine.objcgs:
        if objcg.is_root or not objcg.refcnt.own_refs:
            continue
        memcg = objcg.made_for
        if memcg.freed is not None or memcg.objcg_owner(objcg.nid).objcg is not objcg:
            yield "U5", f"{objcg.label} is not killed, so nobody will free it; no memcg has it for new objects"


def check_list_of_all(machine: Machine) -> Iterator[tuple[str, str]]:
    """Q4: slab_caches holds exactly the root caches and their children."""
    roots = machine.slab_root_caches.caches
    expected = dict.fromkeys([*roots, *(child for root in roots for child in root.children)])
    listed = machine.slab_caches.caches
    for s in [*(s for s in listed if s not in expected), *(s for s in expected if s not in listed)]:
        yield "Q4", f"{s.name} is on slab_caches, or on the lists of roots and children, but not on both"


def check_owner(machine: Machine, s: KmemCache) -> Iterator[tuple[str, str]]:
    """Q5: a cache is on the list of its memcg, and on no other."""
    owners = [memcg for memcg in (*machine.memcgs(), machine.root_mem_cgroup) if s in memcg.kmem_caches]
    if owners != [s.memcg]:
        names = " and ".join(memcg.name for memcg in owners) or "no memcg"
        yield "Q5", f"{s.name} is on the list of {names}; its memcg is {s.memcg.name if s.memcg else None}"


def check_page_owners(machine: Machine) -> Iterator[tuple[str, str]]:
    """I16: [O] to [v4#4] a page of a child cache points to the memcg that it pins."""
    for s in machine.child_caches:
        for slab in s.slabs:
            if slab.memcg is None:
                yield "I16", f"page.mem_cgroup of {slab.label} is NULL"


def check_node_statistics(machine: Machine) -> Iterator[tuple[str, str]]:
    """Q6: the count of a node, with the pending per-CPU deltas, covers all its slab pages, of any cache."""
    pages: Counter[tuple[int, StatItem]] = Counter()
    for s in machine.all_caches:
        for slab in s.slabs:
            pages[slab.nid, s.stat_item] += slab.pages
    for nid, stats in enumerate(machine.node_stats):
        for item in StatItem:
            counted, there = stats.total[item] + stats.pending(item), pages[nid, item]
            if counted != there:
                yield "Q6", f"node {nid} counts {counted} pages as {item.value}, it has {there}"
