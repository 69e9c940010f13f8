"""Checks of obj_cgroups, from 6.12 on: references, bytes, pages, and the obj_cgroup of each task. KERNEL-today 20.

Like the rest of the oracles they observe from outside. A reference is booked after the get and before the put; so a
count never falls below what is booked, and equals it at quiescence. At quiescence the bytes that were charged through
an obj_cgroup lie in its objects, in the stocks, or in its rest; and a memcg's counter is the sum of what was charged
through the obj_cgroups, for the folios, and for the stocks of its subtree. A flush of the statistics would then show
these objects and pages, but for the bytes that the stocks have not counted yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.cgroup.rstat import BYTE_ITEMS, ITEMS
from actors.linux.mm.memcg_memory import ITEM
from actors.linux.mm.obj_cgroup import OBJ_EXT_SIZE, PAGE_SIZE, ObjCgroup
from actors.linux.mm.vmstat import stats_of
from actors.oracles.folio import mapped_pages, memcg_of
from actors.oracles.stocks import StockRules, byte_slots, page_slots

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.mm.kmem_cache import KmemCache, Slab
    from actors.linux.mm.memcontrol import Memcg
    from actors.machine.context import Context

Wrong = tuple[str, str, str]
"""A violation: its kind, its name, and the details."""

Sizes = Counter[tuple[ObjCgroup, str]]
"""The bytes of the accounted objects, by obj_cgroup and by the item of memory.stat that counts them."""


@attrs.define(eq=False)
class ObjcgBooks:
    """The checks of one machine. `owners` has the memcg of each obj_cgroup at the last check."""

    machine: Machine
    owners: dict[ObjCgroup, Memcg] = attrs.field(factory=dict)

    # -- each step ----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Check each obj_cgroup after each request to it, the tasks when cgroup_mutex is released, and the stocks."""
        StockRules(self.machine).watch()
        self.machine.check_objcg = self.check_objcg
        self.machine.cgroup_mutex.actor.check = self.check_tasks

    def check_objcg(self, objcg: ObjCgroup) -> None:
        """T2, T3, T4: the memcg of *objcg* moves upwards only; its references cover all that is booked."""
        held = objcg.refcnt.own_refs + objcg.booked
        if objcg.freed is None and objcg.refcnt.value < held:
            self.violated("T3", f"{objcg.refcnt.label} is {objcg.refcnt.value}, but {held} references are held")
        last = self.owners.get(objcg, objcg.memcg)
        if objcg.memcg is not last and (last.parent is not objcg.memcg or not self.are_lists_locked()):
            self.violated("T2", f"{objcg.label} was charged to {last.name}, and is to {objcg.memcg.name}")
        self.owners[objcg] = objcg.memcg
        if objcg not in self.machine.objcgs:
            del self.owners[objcg]

    def are_lists_locked(self) -> bool:
        """Whether this flow holds the lock of the lists of obj_cgroups: css_set_lock up to 5.16, then their own."""
        locks = (self.machine.objcg_lock, self.machine.css_set_lock)
        return any(lock.holder is self.machine.world.current for lock in locks)

    def check_tasks(self) -> None:
        """T20: once a move is complete, each task knows that its obj_cgroup is an old one."""
        if self.machine.cgroup_mutex.holder is None:
            for task in self.machine.charged_tasks:
                self._check_task(task)

    def _check_task(self, task: Context) -> None:
        current = task.objcg
        if current is None or current.objcg is None or current.is_stale or task.is_exiting:
            return
        charged, memcg = current.objcg.made_for, task.memcg or self.machine.root_mem_cgroup
        is_offline = memcg.objcg_owner(current.objcg.nid).objcg is None
        if charged is not memcg and not (is_offline and memcg.is_descendant_of(charged)):
            name = "the root" if memcg.is_root else memcg.name
            self.violated("T20", f"{task.name} is in {name}, and charges {current.objcg.label}")

    def violated(self, number: str, text: str) -> None:
        self.machine.world.report("invariant", number, f"invariant {number}: {text}")

    # -- quiescence ---------------------------------------------------------------------------------------------------

    def wrongs(self) -> Iterator[Wrong]:
        """All violations at quiescence."""
        objects = Counter[ObjCgroup]()
        sizes: Sizes = Counter()
        for cache in self.machine.all_caches:
            yield from self._count_objects(cache, objects, sizes)
        for objcg in self.machine.objcgs:
            yield from self._check_references(objcg, objects[objcg])
            yield from self._check_bytes(objcg, sum(sizes[objcg, item] for item in BYTE_ITEMS))
        sizes.update(self._own_sizes())
        for memcg in (self.machine.root_mem_cgroup, *self.machine.memcgs()):
            yield from self._check_usage(memcg)
            yield from self._check_statistics(memcg, sizes)
        for text in StockRules(self.machine).wrongs():
            yield "invariant", "T9", text
        for task in self.machine.charged_tasks:
            self._check_task(task)

    def _count_objects(self, cache: KmemCache, objects: Counter[ObjCgroup], sizes: Sizes) -> Iterator[Wrong]:
        """T6, and the accounted objects of each obj_cgroup: their number, and their bytes."""
        for slab in cache.slabs:
            for at, objcg in enumerate(slots_of(slab)):
                if objcg is None:
                    continue
                objects[objcg] += 1
                sizes[objcg, cache.stat_item.value] += cache.slot_size + OBJ_EXT_SIZE
                if not slab.live >> at & 1:
                    yield "invariant", "T6", f"object {at} of {slab.label} is free, and charged to {objcg.label}"

    def _own_sizes(self) -> Sizes:
        """The same of the memcgs' own objects, which are in no modelled cache: `other_bytes` are charged for them."""
        own: Sizes = Counter()
        for memcg in self.machine.memcgs():
            for memory in memcg.statistics:
                if memory.objcg is not None and not memory.is_percpu:
                    own[memory.objcg, ITEM] += memory.size
        return own

    def _check_references(self, objcg: ObjCgroup, objects: int) -> Iterator[Wrong]:
        """T3, U5: each reference has a holder."""
        machine = self.machine
        tasks = sum(task.objcg is not None and task.objcg.objcg is objcg for task in machine.charged_tasks)
        stocks = sum(slot.objcg is objcg for slot in byte_slots(machine))
        memcgs = sum(objcg is owner.orig_objcg for memcg in machine.memcgs() for owner in memcg.objcg_owners())
        allocations = objects + objcg.kmem_allocations + objcg.other_allocations + objcg.folios
        held = objcg.refcnt.own_refs + allocations + tasks + stocks + memcgs
        if objcg.refcnt.value != held:
            flow, step = objcg.refcnt.last_get
            text = f"{objcg.refcnt.label} is {objcg.refcnt.value}; shadow accounting explains {held}"
            yield "leak", "obj_cgroup reference", f"{text}; the last get was by {flow}, step {step}"

    def _check_bytes(self, objcg: ObjCgroup, in_objects: int) -> Iterator[Wrong]:
        """T7: the pages charged through *objcg* are its objects, what the stocks have of them, and the rest."""
        in_stocks = sum(slot.nr for slot in byte_slots(self.machine) if slot.objcg is objcg)
        explained = in_objects + objcg.other_bytes + in_stocks + objcg.nr_charged_bytes
        charged = PAGE_SIZE * (objcg.charged - objcg.kmem_pages)
        if charged != explained:
            how = "low" if charged < explained else "high"
            text = f"{objcg.label} has {charged} bytes charged, too {how}; shadow accounting explains {explained}"
            yield "accounting", f"bytes of an obj_cgroup too {how}", text

    def _check_usage(self, memcg: Memcg) -> Iterator[Wrong]:
        """T8: for a memcg that is not offline: nothing is moved from its counter when it goes offline.

        From 7.2 on the root's counter is not exact: what the root has inherited is not uncharged.
        """
        if not (memcg.is_kmem_online or memcg.is_root) or (memcg.is_root and memcg.has_objcg_per_node):
            return
        members = {*memcg.subtree()}
        pages = sum(objcg.charged for objcg in self.machine.objcgs if objcg.memcg in members)
        pages += sum(objcg.folio_pages for objcg in self.machine.objcgs if objcg.memcg in members)
        pages += sum(member.folio_pages for member in members if not member.is_root)
        pages += sum(slot.nr for slot in page_slots(self.machine) if slot.memcg in members)
        if memcg.memory.usage != pages:
            how = "low" if memcg.memory.usage < pages else "high"
            where = " of the root" if memcg.is_root else ""
            text = f"{memcg.memory.label} is {memcg.memory.usage} pages; shadow accounting explains {pages}"
            yield "accounting", f"memory usage{where} too {how}", text

    def _check_statistics(self, memcg: Memcg, sizes: Sizes) -> Iterator[Wrong]:
        """U3: for a memcg that is not offline: what a flush would show is what its subtree has."""
        if not (memcg.is_kmem_online or memcg.is_root):
            return
        members = {*memcg.subtree()}
        for item in ITEMS:
            shown, wanted = flushed(memcg, item), self._counted(members, item, sizes)
            if shown != wanted:
                how = "low" if shown < wanted else "high"
                where = " of the root" if memcg.is_root else ""
                text = f"{item} of {memcg.name} adds up to {shown}; shadow accounting explains {wanted}"
                yield "accounting", f"{item}{where} too {how}", text

    def _counted(self, members: set[Memcg], item: str, sizes: Sizes) -> int:
        """What a subtree has of an item: bytes of objects, pages of the kernel, or pages of files and tasks."""
        objcgs = [objcg for objcg in self.machine.objcgs if objcg.memcg in members]
        if item == "kernel":
            return sum(objcg.charged for objcg in objcgs)
        if item in BYTE_ITEMS:
            slots = (slot for slot in byte_slots(self.machine) if slot.objcg in objcgs)
            uncounted = sum(slot.uncounted.get(item, 0) for slot in slots)
            return sum(sizes[objcg, item] for objcg in objcgs) - uncounted
        pages = (page for page in mapped_pages(self.machine) if item in page.counted_as)
        return sum(page.nr_pages for page in pages if memcg_of(page) in members)


def flushed(memcg: Memcg, item: str) -> int:
    """The total of *item* after a flush of the subtree; what a released memcg has counted since its last is lost."""
    below = sum(stats.pending[None, item] + stats.unflushed((None, item)) for stats in map(stats_of, memcg.subtree()))
    return stats_of(memcg).state[None, item] + below


def slots_of(slab: Slab) -> list[ObjCgroup | None]:
    """The obj_cgroup of each object of a slab; empty if no object was ever accounted."""
    return slab.obj_exts.slots if slab.obj_exts is not None else []
