"""The ledger, the central oracle: the invariants of KERNEL.md 13, shadow accounting, and leaks at quiescence.

It observes the machine from outside. It compares the kernel's own counts (page counters, statistics, reference counts,
lists) with shadow accounting (live objects, charged pages, running allocations). During the run it checks only the
cache that a step accessed, before the flow resumes, so a violation is reported at the step that caused it. State that
slab_mutex protects may be inconsistent while the mutex is held; it is checked at the release. Shadow accounting books a
reference after the get and before the put. So in between, a count may exceed its booked value but never fall below it;
at quiescence they are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from actors.linux.lib.percpu_refcount import PercpuRef
from actors.linux.mm.kmem_cache import AtomicRef, KmemCache, Slab, SlabObject
from actors.linux.mm.memcontrol import KmemState, Memcg
from actors.linux.mm.vmstat import StatItem
from actors.oracles.folio import folio_pages, folio_wrongs, resting_folio_wrongs, watch_lruvecs
from actors.oracles.lifecycle import above, check_cgroups, lifecycle_wrongs
from actors.oracles.lru import lru_wrongs
from actors.oracles.memcg import MemcgBooks
from actors.oracles.objcg import ObjcgBooks
from actors.oracles.objects import object_wrongs
from actors.oracles.stocks import page_slots
from actors.oracles.vfs import resting_wrongs, vfs_wrongs
from actors.versions.profiles import PAGES_PIN_MEMCG, WITHOUT_CHILD_CACHES, WITHOUT_REPARENTING

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.kernel.cgroup.cgroup import Css
    from actors.system.flow import Flow


@attrs.define(eq=False)
class Ledger:
    """Compares one machine with shadow accounting; a difference is an `invariant`, `accounting` or `leak` finding.

    `unsettled` are the caches accessed while slab_mutex was held, in order of access. `touched` are the caches accessed
    by the current step, for checks at the end of the step. `known` are the violations that exist now, by name and
    cache: only the step that causes one is reported, not later steps. `owners` maps each cache to its memcg at the last
    check. `moved` counts the pages of caches that were moved to the root, by item, including pages that running
    allocations may add; None until `watch`.
    """

    machine: Machine
    unsettled: dict[KmemCache, None] = attrs.field(factory=dict)
    touched: dict[KmemCache, None] = attrs.field(factory=dict)
    known: set[tuple[str, KmemCache]] = attrs.field(factory=set)
    owners: dict[KmemCache, Memcg | None] = attrs.field(factory=dict)
    moved: Counter[StatItem] | None = None
    objcgs: ObjcgBooks | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        is_today = self.machine.config.kernel in WITHOUT_CHILD_CACHES
        self.objcgs = ObjcgBooks(self.machine) if is_today else None

    # -- each step ----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Check every new child cache after each request from now on, and state under slab_mutex at each release."""
        self.moved = Counter()
        self.machine.check_child = self.check_child
        self.machine.check_forgotten = self.check_forgotten
        self.machine.slab_mutex.actor.check = self.check_settled
        if self.objcgs is not None:
            self.objcgs.watch()
            watch_lruvecs(self.machine)
        if self.machine.config.nodes > 1 and self.machine.config.allocator == "slab":
            self.machine.world.checks.append(self.check_arrays)

    def check_child(self, s: KmemCache) -> None:
        """Check a child cache after a request to it."""
        if s.freed is None and s.root_cache is not None:
            self._check_references(s)
            self._check_deferred(s)
            self._check_partial(s)
            if len(s.slab_node) > 1:
                self.touched[s] = None
            if s.memcg is not self.owners.get(s):
                self._check_move(s, s.root_cache)
            if self.machine.slab_mutex.holder is None:
                self._check_lists(s, s.root_cache)
            else:
                self.unsettled[s] = None

    def check_forgotten(self, s: KmemCache) -> None:
        """I7: nothing of a cache is left or still running when its struct is freed. T18: nor an object in a sheaf."""
        self.owners.pop(s, None)
        left = sum(1 for _ in parked_in_sheaves(s))
        left += sum(len(pcs.rcu_free.objects) for pcs in s.cpu_sheaves if pcs.rcu_free is not None)
        if left:
            self._violated("T18", f"{s.name} is freed; its sheaves have {left} objects")
        what = [slab.label for slab in s.slabs] + [f"an allocation of {ctx.name}" for ctx in s.inflight]
        what += ["its rcu_head"] * s.rcu_head.queued + ["its work"] * s.work.pending
        if isinstance(s.refcnt, PercpuRef) and s.refcnt.confirm_switch is not None:
            what.append("the switch of its reference count")
        if what and not s.is_root_cache:
            self._violated("I7", f"{s.name} is freed; there is still {' and '.join(what)}")

    def check_settled(self) -> None:
        """When slab_mutex is released, the lists of the caches accessed under it must be consistent."""
        if self.machine.slab_mutex.holder is None:
            for s in self.unsettled:
                if s.freed is None and s.root_cache is not None:
                    self._check_lists(s, s.root_cache)
            self.unsettled.clear()

    def _check_references(self, s: KmemCache) -> None:
        """I1, I2: the reference count covers every held reference."""
        ref = s.refcnt
        if isinstance(ref, PercpuRef):
            held = s.charged_pages + len(s.inflight) + ref.own_refs
            is_wrong = ref.value < held
            if is_wrong or self.known:
                self._judge("I1", s, is_wrong, f"{ref.label} is {ref.value}, but {held} references are held")

    def _check_deferred(self, s: KmemCache) -> None:
        """I8: at most one of rcu_head and work is in use, and a queued work has a function."""
        is_wrong = s.work.pending and (s.rcu_head.queued or s.work_fn is None)
        if is_wrong or self.known:
            self._judge("I8", s, is_wrong, f"a work of {s.name} is queued: rcu_head queued, or no work_fn")

    def _check_partial(self, s: KmemCache) -> None:
        """I12, unless list_lock is held."""
        wrong = [
            slab.label
            for node in s.node
            if node.list_lock.holder is None
            for slab in node.partial
            if slab.frozen or slab.inuse >= slab.objects
        ]
        if wrong or self.known:
            self._judge("I12", s, bool(wrong), f"{' and '.join(wrong)} on the node's partial list: frozen or full")

    def check_arrays(self, _flow: Flow) -> None:
        """The shared array of a node holds objects of that node only.

        This is checked after each step, because the array changes between two requests.
        """
        for s in self.touched:
            wrong = list(arrays_off_node(s))
            if wrong or self.known:
                self._judge("node", s, bool(wrong), " and ".join(wrong))
        self.touched.clear()

    def _check_lists(self, s: KmemCache, root: KmemCache) -> None:
        """I3 and I6, while slab_mutex is not held."""
        if s.memcg is None or s not in self.machine.slab_caches.caches:
            return
        is_lost = s not in s.memcg.kmem_caches or s not in root.children
        self._judge("I6", s, is_lost, f"{s.name} is not on the lists of its memcg and its root")
        is_killed = isinstance(s.refcnt, PercpuRef) and s.refcnt.is_dying
        is_late = is_published(s) and (is_killed or s.memcg.kmem_state is KmemState.NONE)
        self._judge("I3", s, is_late, f"{s.name} can still be found, but is on its way out")

    def _check_move(self, s: KmemCache, root: KmemCache) -> None:
        """I5: the memcg of a cache changes only under slab_mutex and only to its parent, and to none once unlinked."""
        memcg, last = s.memcg, self.owners.get(s)
        self.owners[s] = memcg
        if memcg is not None and memcg.is_root and self.moved is not None:
            self.moved[s.stat_item] += s.charged_pages + (len(s.inflight) << s.order)
        if memcg is None:
            is_right = s not in root.children
        else:
            is_locked = self.machine.slab_mutex.holder is not None
            is_right = is_locked and (last is None or above(self.machine, last) is memcg)
        if not is_right:
            names = [owner.name if owner is not None else "none" for owner in (last, memcg)]
            self._violated("I5", f"the memcg of {s.name} was {names[0]}, and is {names[1]}")

    def _judge(self, number: str, s: KmemCache, is_wrong: bool, text: str) -> None:  # noqa: FBT001 -- the verdict
        """Report a violation that is new; remember it until it is over."""
        if not is_wrong:
            self.known.discard((number, s))
        elif (number, s) not in self.known:
            self.known.add((number, s))
            self._violated(number, text)

    # -- quiescence ---------------------------------------------------------------------------------------------------

    def check_at_rest(self) -> None:
        """Invariants of every quiescence; a violation may be gone again at the final one."""
        self._all_violated(lru_wrongs(self.machine))
        self._all_violated(resting_wrongs(self.machine))
        if self.objcgs is not None:
            self._all_violated(resting_folio_wrongs(self.machine))
        self._all_violated(check_cgroups(self.machine))
        for cache in self.machine.all_caches:
            self._all_violated(("node", text) for text in arrays_off_node(cache))

    def check_quiescent(self) -> None:
        """All checks, at the final quiescence."""
        machine = self.machine
        owned = self._owned_slabs()
        self.check_at_rest()
        for kind, name, text, details in object_wrongs(machine.objects, machine.all_caches):
            what = "leaked" if kind == "leak" else kind
            machine.world.report(kind, name, f"{what} {name}: {text}", *details)
        for cache in machine.all_caches:
            self._check_slabs(cache, owned)
            if cache.cpu_sheaves:
                self._check_sheaves(cache)
            if cache not in machine.slab_caches.caches and cache.kobj is not None:
                text = f"{cache.name} is off all lists, yet it is not released"
                self._leak(
                    "kmem_cache held by its kobject", text, f"{cache.kobj.label} has {cache.kobj.refs} references"
                )
        for cache in machine.child_caches:
            self._check_child_at_rest(cache)
        self._check_tree()
        stock = self._stock_pages()
        for memcg in machine.memcgs():
            self._check_css(memcg, stock[memcg])
        if self.objcgs is None:
            for what, text in MemcgBooks(machine, stock, self.moved).wrongs():
                self._wrong_account(what, text)
        else:
            for kind, name, text in (*self.objcgs.wrongs(), *folio_wrongs(machine)):
                machine.world.report(kind, name, f"{kind} {name}: {text}")
        self._check_machine()

    def _owned_slabs(self) -> set[Slab]:
        """The slabs that a CPU or a partial list refers to; any other slab must be full."""
        owned: set[Slab] = set()
        for cache in self.machine.all_caches:
            for node in cache.node:
                owned.update(node.partial)
            for c in cache.cpu_slab:
                owned.update(c.partial)
                if c.page is not None:
                    owned.add(c.page)
            for slab_node in cache.slab_node:
                owned.update(slab_node.all_slabs())
        return owned

    def _check_sheaves(self, s: KmemCache) -> None:
        """T17: an object is in one place; a slab knows how many of its objects are elsewhere, and its flag is right.

        From 7.2 on. Objects in an rcu sheaf are not free yet, and nothing is in transit at quiescence.
        """
        places = Counter(parked_in_sheaves(s))
        for slab in s.slabs:
            places.update(SlabObject(slab, at) for at in free_objects(s, slab))
            free = len(list(free_objects(s, slab)))
            if slab.inuse != slab.objects - free:
                self._violated(
                    "T17", f"{slab.label} has {free} of {slab.objects} objects; {slab.inuse} count as in use"
                )
            is_listed = any(slab in n.partial for n in s.node)
            if is_listed != (slab.slab_list is not None) or (is_listed and not free):
                self._violated("T17", f"{slab.label} has {free} free objects; listed: {is_listed}, by another flag")
        for obj, count in places.items():
            if count > 1 or obj.slab.freed is not None or obj.slab.live >> obj.at & 1:
                self._violated("T17", f"{obj.label} is in {count} places as a free object, and in use or gone")

    def _check_slabs(self, s: KmemCache, owned: set[Slab]) -> None:
        """I12: every slab is in one place, free and used objects add up, and no CPU has a freelist without a slab."""
        for c in s.cpu_slab:
            if c.page is None and c.freelist is not None:
                self._violated("I12", f"{c.label} has a freelist, and no slab")
        counted = sum(node.nr_slabs for node in s.node) + sum(len(node.all_slabs()) for node in s.slab_node)
        if counted != len(s.slabs):
            self._violated("I12", f"{s.name} counts {counted} slabs and has {len(s.slabs)}")
        parked = Counter(obj.slab for cache in s.slab_node for obj in cache.parked())
        parked.update(obj.slab for cache in s.cpu_cache for obj in cache.entries)
        parked.update(obj.slab for obj in parked_in_sheaves(s))
        for slab in s.slabs:
            free = slab.objects - slab.live.bit_count()
            on_lists = len(list(free_objects(s, slab))) + parked[slab]
            if on_lists != free:
                self._violated("I12", f"{slab.label} has {free} free objects, but {on_lists} are on freelists")
            has_free = slab.freelist is not None if s.cpu_sheaves else free
            if has_free and slab not in owned:
                self._leak("slab", f"{slab.label} has {free} free objects, and no CPU or list has it")

    def _check_child_at_rest(self, s: KmemCache) -> None:
        """I1 as an equation; Q3: an unpublished cache exists only as long as it has objects."""
        if s.charged_pages != s.slab_pages:
            self._violated("I1", f"{s.name} has {s.slab_pages} pages, {s.charged_pages} are charged")
        for ctx, since in s.inflight.items():
            self._violated("I1", f"{s.name} is held by an allocation of {ctx.name} since step {since}, at quiescence")
        ref = s.refcnt
        if isinstance(ref, PercpuRef) and ref.value != s.charged_pages + ref.own_refs:
            flow, step = ref.last_get
            self._leak(
                "kmem_cache reference",
                f"{ref.label} is {ref.value}; shadow accounting explains {s.charged_pages + ref.own_refs}",
                f"the last get was by {flow}, step {step}",
            )
        is_listed = s in self.machine.slab_caches.caches
        if is_listed and ref is not None and not is_published(s) and not s.live_objects:
            holder, details = cache_holder(s)
            self._leak(f"kmem_cache held by {holder}", f"{s.name} has no object, yet it is not released", *details)

    def _check_css(self, memcg: Memcg, stock_pages: int) -> None:
        """Q1, Q2: each reference to a css has a holder (KERNEL.md 3.6; from 6.12 on, KERNEL-today 19)."""
        ref = memcg.css.refcnt
        assert ref is not None
        children = sum(child.freed is None for child in self._child_csses(memcg))
        creations = sum(work.memcg is memcg for work in self.machine.pending_creations)
        charged = self._references_of_caches(memcg)
        stocks = stock_pages if self.objcgs is None else sum(slot.memcg is memcg for slot in page_slots(self.machine))
        folios = memcg.user_pages if self.objcgs is None else memcg.folios
        held = ref.own_refs + (memcg.id_ref > 0) + children + charged + stocks + folios + creations
        held += self._references_of_removal(memcg.css)
        if ref.value != held:
            flow, step = ref.last_get
            text = f"{ref.label} is {ref.value}; shadow accounting explains {held}"
            self._leak("css reference", text, f"the last get was by {flow}, step {step}")
        if memcg.css.cgroup.is_dead and not (children or folios or self._pins_by_objects(memcg)):
            holders = [memcg_holder(cache) for cache in memcg.kmem_caches if cache.slabs or self._keeps_memcg(cache)]
            holders += [("a stock", [line]) for line in self._stocks_of(memcg)]
            holder = holders[0][0] if holders else "nobody"
            text = f"{memcg.label} is dead, and nothing lives in it, yet it is not released"
            self._leak(f"mem_cgroup held by {holder}", text, *(line for _, details in holders for line in details))

    def _references_of_removal(self, css: Css) -> int:
        """KERNEL-7.2 N3: a queued kill_finish_work has a reference, and from the kill to the offline there is another.

        Before 7.2, nothing but a kill leads to the offline, so neither is left at quiescence. In 7.2 it may be, if a
        child is not killed.
        """
        if css.kill_finish_work is None or css.refcnt is None:
            return 0
        return css.kill_finish_work.pending + (css.refcnt.is_dying and css.is_online)

    def _pins_by_objects(self, memcg: Memcg) -> bool:
        """Whether objects in its caches pin the memcg, which is correct only without reparenting (Q1, Q2)."""
        return not self._is_reparenting and any(cache.live_objects for cache in memcg.kmem_caches)

    def _keeps_memcg(self, cache: KmemCache) -> bool:
        """Whether the cache itself keeps its first memcg for life: it has references, but is not moved ([v4#5])."""
        return cache.refcnt is not None and not self._is_reparenting

    @property
    def _is_reparenting(self) -> bool:
        return self.machine.config.kernel not in WITHOUT_REPARENTING

    def _stocks_of(self, memcg: Memcg) -> Iterator[str]:
        """The stocks that hold pages of *memcg*; each keeps them until its CPU charges another memcg (9.3)."""
        others = "seven others" if self.machine.memcg_stocks else "another memcg"
        for slot in page_slots(self.machine):
            if slot.memcg is memcg and (slot.nr or self.objcgs is not None):
                yield f"{slot.label} holds {slot.nr} pages, until that CPU charges {others}"

    def _child_csses(self, memcg: Memcg) -> Iterator[Memcg]:
        for child in memcg.css.cgroup.children:
            if child.has_css and child.css.memcg is not None:
                yield child.css.memcg

    def _references_of_caches(self, memcg: Memcg) -> int:
        """The references that caches hold on *memcg*: one each; one a page in profiles without a cache refcount."""
        if self.machine.config.kernel in PAGES_PIN_MEMCG:
            return sum(cache.charged_pages for cache in memcg.kmem_caches)
        return len(memcg.kmem_caches)

    def _check_tree(self) -> None:
        """I13: ids of online memcgs are unique. I14: the root counts its descendants correctly."""
        root = self.machine.root_cgroup
        cgroups = root.descendants()
        if root.nr_descendants + root.nr_dying_descendants != len(cgroups):
            self._violated("I14", f"{len(cgroups)} cgroups are left below the root, which counts another number")
        online = (memcg for memcg in self.machine.memcgs() if memcg.is_kmem_online)
        ids = Counter(memcg.kmemcg_id for memcg in online)
        for kmemcg_id, users in ids.items():
            if users > 1:
                self._violated("I13", f"{users} online memcgs have kmemcg_id {kmemcg_id}")

    def _check_machine(self) -> None:
        """Q8, Q10, I11, and the allocated pages of the whole machine."""
        machine = self.machine
        memcgs = machine.memcgs()
        key = machine.kmem_enabled.usage - machine.kmem_enabled.kept
        if self.objcgs is None and key != len(memcgs):
            self._violated("Q10", f"memcg_kmem_enabled_key is {key}, memcgs: {len(memcgs)}")
        for lock in (machine.slab_mutex, machine.cgroup_mutex, machine.percpu_charge_mutex, machine.list_lrus_mutex):
            if lock.holder is not None:
                self._violated("I11", f"{lock.name} is held by {lock.holder.name} at quiescence")
        pages = sum(cache.slab_pages for cache in machine.all_caches)
        if self.objcgs is None:
            pages += sum(memcg.user_pages for memcg in (*memcgs, machine.root_mem_cgroup))
        else:
            pages += folio_pages(machine)
        if machine.buddy.allocated != pages:
            self._leak("page", f"{machine.buddy.allocated} pages are allocated; shadow accounting explains {pages}")
        self._check_node_statistics()
        self._all_violated(lifecycle_wrongs(machine))
        for kind, name, text in vfs_wrongs(machine):
            machine.world.report(kind, name, f"{kind} {name}: {text}")

    def _check_node_statistics(self) -> None:
        """The count of each node, with the pending per-CPU deltas, equals its slab pages."""
        expected: Counter[tuple[int, StatItem]] = Counter()
        for cache in self.machine.all_caches:
            for slab in cache.slabs:
                expected[slab.nid, cache.stat_item] += slab.pages
        for nid, stats in enumerate(self.machine.node_stats):
            for item in StatItem:
                counted = stats.total[item] + stats.pending(item)
                if counted != expected[nid, item]:
                    text = f"{item.value} of node {nid} adds up to {counted} pages, but it has {expected[nid, item]}"
                    self._wrong_account(f"{item.value} of a node", text)

    def _stock_pages(self) -> Counter[Memcg]:
        pages: Counter[Memcg] = Counter()
        for slot in page_slots(self.machine):
            pages[slot.memcg] += slot.nr
        return pages

    def _all_violated(self, wrongs: Iterable[tuple[str, str]]) -> None:
        for number, text in wrongs:
            self._violated(number, text)

    def _violated(self, number: str, text: str) -> None:
        self.machine.world.report("invariant", number, f"invariant {number}: {text}")

    def _wrong_account(self, what: str, text: str) -> None:
        self.machine.world.report("accounting", what, f"accounting: {text}")

    def _leak(self, what: str, text: str, *details: str) -> None:
        self.machine.world.report("leak", what, f"leaked {what}: {text}", *details)

    def is_anything_left(self) -> bool:
        """Whether an unpublished cache without objects or a dead memcg without objects still exists."""
        empty_caches = (s for s in self.machine.child_caches if not is_published(s) and not s.live_objects)
        dead = (memcg for memcg in self.machine.memcgs() if memcg.css.cgroup.is_dead)
        empty_memcgs = (memcg for memcg in dead if not any(cache.live_objects for cache in memcg.kmem_caches))
        return any(True for _ in empty_caches) or any(True for _ in empty_memcgs)

    # -- figures ------------------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, int]:
        """The present counts of the machine; `zombie_caches` are the child caches of removed cgroups."""
        machine = self.machine
        children = machine.child_caches
        return {
            "nr_descendants": machine.root_cgroup.nr_descendants,
            "nr_dying_descendants": machine.root_cgroup.nr_dying_descendants,
            "kmem_caches": len(machine.all_caches),
            "child_caches": len(children),
            "zombie_caches": sum(not is_published(cache) for cache in children),
            "slab_pages": sum(cache.slab_pages for cache in machine.all_caches),
            "live_objects": sum(cache.live_objects for cache in machine.all_caches),
            "allocated_pages": machine.buddy.allocated,
            "grace_periods": machine.rcu.completed,
        }


def is_published(s: KmemCache) -> bool:
    """Whether an allocation of a task in its memcg would find the child cache *s* in its root's array."""
    if s.memcg is None or s.root.memcg_caches is None:
        return False
    entries = s.root.memcg_caches.entries
    return 0 <= s.memcg.kmemcg_id < len(entries) and entries[s.memcg.kmemcg_id] is s


def arrays_off_node(s: KmemCache) -> Iterator[str]:
    """The shared arrays of SLAB that hold objects of another node (KERNEL.md 4.7)."""
    for n in s.slab_node:
        if n.shared is not None:
            strangers = [obj for obj in n.shared.entries if obj.slab.nid != n.nid]
            if strangers:
                yield f"{n.shared.label} has {len(strangers)} objects of other nodes"


def free_objects(s: KmemCache, slab: Slab) -> Iterator[int]:
    """The free objects of *slab*, on its own freelist and on the freelists of the CPUs that have it."""
    chains = [slab.freelist, *(c.freelist for c in s.cpu_slab if c.page is slab)]
    for chain in chains:
        rest = chain
        while rest is not None:
            index, rest = rest
            yield index


def parked_in_sheaves(s: KmemCache) -> Iterator[SlabObject]:
    """The free objects of a cache in the sheaves of CPUs and in barns, from 7.2 on."""
    for pcs in s.cpu_sheaves:
        yield from pcs.parked
    for n in s.node:
        if n.barn is not None:
            for sheaf in n.barn.full:
                yield from sheaf.objects


def memcg_holder(s: KmemCache) -> tuple[str, list[str]]:
    """The reason why a cache keeps a dead memcg: it was not moved to the parent, or the holder of the cache itself."""
    if s.live_objects and s.refcnt is not None:
        return "a cache that was not moved up", [f"{s.name} has {s.live_objects} objects"]
    holder, details = cache_holder(s)
    return (holder, details) if s.slabs else ("a cache without slabs", [f"{s.name} is held by {holder}", *details])


def cache_holder(s: KmemCache) -> tuple[str, list[str]]:
    """The holder of a cache without objects: a role for the signature, and a line for each holder with its step."""
    kept = [(c.page, "an empty cpu slab", c.label) for c in s.cpu_slab if c.page is not None]
    kept += [(slab, "an empty cpu partial slab", c.label) for c in s.cpu_slab for slab in c.partial]
    kept += [(slab, "an empty slab of the node", node.label) for node in s.node for slab in node.partial]
    kept += [
        (obj.slab, "a free object of a CPU's array", array.label) for array in s.cpu_cache for obj in array.entries
    ]
    if kept:
        return kept[0][1], [
            f"{where} holds {slab.label}, which {slab.made_by[0]} allocated at step {slab.made_by[1]}"
            for slab, _, where in kept
        ]
    if s.slabs:
        return "a lost slab", [f"{slab.label}, allocated at step {slab.made_by[1]}" for slab in s.slabs]
    return reference_holder(s)


def reference_holder(s: KmemCache) -> tuple[str, list[str]]:
    """The holder of a cache without slabs."""
    if s.root.dying:
        return "its root, which is marked as dying", [f"{s.root.name} has {s.root.refcount} users"]
    if isinstance(s.refcnt, AtomicRef):
        return "its reference count", [f"{s.refcnt.label} is {s.refcnt.count}"]
    if s.refcnt is None:
        return "nobody", []
    flow, step = s.refcnt.last_get
    return "a reference", [f"{s.refcnt.label} is {s.refcnt.value}; the last get was by {flow}, step {step}"]
