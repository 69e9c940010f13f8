"""The ledger: the invariants of KERNEL.md 13, and what is left at quiescence.

It looks at the machine from outside, at the counts that the kernel keeps (page counters, reference counts, lists)
and at the model's own books (live objects, charged pages, running allocations), and compares. Per step it looks only at
the cache that the step touched. References are booked after a get and before a put, so in between a count may
exceed its ledger, never fall below it; at quiescence they are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from actors.kernel.memcontrol import KmemState, Memcg
from actors.kernel.slab import KmemCache, Slab, SlabFlags

if TYPE_CHECKING:
    from actors.kernel.machine import Machine
    from actors.system.flow import Flow


@attrs.define(eq=False)
class Ledger:
    """Compares the books of one machine; every difference is an `invariant` or a `leak` finding."""

    machine: Machine

    # -- each step ------------------------------------------------------------------------------------------------

    def check_touched(self, flow: Flow) -> None:
        """Check the child cache that the step asked something of, if it did."""
        actor = flow.request.actor
        if actor is None:
            return
        s = actor.state
        if isinstance(s, KmemCache) and s.freed is None and s.root_cache is not None:
            self._check_references(s)
            self._check_deferred(s)
            self._check_lists(s, s.root_cache)

    def _check_references(self, s: KmemCache) -> None:
        """I1, I2: the reference count covers all that is held."""
        ref = s.refcnt
        if ref is not None:
            held = s.charged_pages + s.inflight + ref.own_refs
            if ref.value < held:
                self._violated("I1", f"{ref.label} is {ref.value}, but {held} references are held")

    def _check_deferred(self, s: KmemCache) -> None:
        """I8: at most one of rcu_head and work is in use, and a queued work knows what to do."""
        if s.work.pending and (s.rcu_head.queued or s.work_fn is None):
            self._violated("I8", f"a work of {s.name} is queued: rcu_head queued, or no work_fn")

    def _check_lists(self, s: KmemCache, root: KmemCache) -> None:
        """I12 unless list_lock is held; I3 and I6 unless slab_mutex is."""
        if s.node.list_lock.holder is None:
            for slab in s.node.partial:
                if slab.frozen or slab.inuse >= slab.objects:
                    self._violated("I12", f"{slab.label} is on the node's partial list, frozen or full")
        if self.machine.slab_mutex.holder is not None or s.memcg is None:
            return
        if s not in s.memcg.kmem_caches or s not in root.children:
            self._violated("I6", f"{s.name} is not on the lists of its memcg and its root")
        if root.memcg_caches is not None and s in root.memcg_caches.entries:
            killed = s.refcnt is not None and s.refcnt.is_dying
            if killed or s.memcg.kmem_state is KmemState.NONE or s not in self.machine.slab_caches:
                self._violated("I3", f"{s.name} can still be found, but is on its way out")

    # -- quiescence -----------------------------------------------------------------------------------------------

    def check_quiescent(self) -> None:
        """All books at once, when nothing can happen any more."""
        for cache in self.machine.slab_caches:
            self._check_cache_books(cache)
            if not cache.is_root_cache:
                self._check_child_at_rest(cache)
        memcgs = self.machine.memcgs()
        self._check_tree()
        stock = self._stock_pages()
        for memcg in memcgs:
            self._check_css(memcg, stock[memcg])
            if memcg.kmem_state is KmemState.ONLINE:
                self._check_usage(memcg, stock)
        self._check_machine(memcgs)

    def _check_cache_books(self, s: KmemCache) -> None:
        """I12: every slab is somewhere, and free and used objects add up."""
        if s.node.nr_slabs != len(s.slabs):
            self._violated("I12", f"{s.name} counts {s.node.nr_slabs} slabs and has {len(s.slabs)}")
        owned = s.owned_slabs()
        for slab in s.slabs:
            free = slab.objects - slab.live.bit_count()
            if len(list(self._free_objects(s, slab))) != free:
                self._violated("I12", f"the freelists of {slab.label} do not add up to its {free} free objects")
            if free and slab not in owned:
                self._leak("slab", f"{slab.label} has {free} free objects, and nobody knows it")

    def _free_objects(self, s: KmemCache, slab: Slab) -> Iterator[int]:
        chains = [slab.freelist, *(c.freelist for c in s.cpu_slab if c.page is slab)]
        for chain in chains:
            rest = chain
            while rest is not None:
                index, rest = rest
                yield index

    def _check_child_at_rest(self, s: KmemCache) -> None:
        """I1 as an equation; Q3: a deactivated cache is there only for the objects that live in it."""
        if s.charged_pages != len(s.slabs) * s.pages:
            self._violated("I1", f"{s.name} has {len(s.slabs) * s.pages} pages, {s.charged_pages} are charged")
        if s.inflight:
            self._violated("I1", f"{s.name} has {s.inflight} running allocations at quiescence")
        ref = s.refcnt
        if ref is None:
            return
        held = s.charged_pages + ref.own_refs
        if ref.value != held:
            self._leak("kmem_cache reference", f"{ref.label} is {ref.value}; the ledger explains {held}")
        if SlabFlags.DEACTIVATED in s.flags and not s.live_objects:
            holder, details = slab_holder(s)
            text = f"{s.name} is deactivated and has no object, yet it is not released"
            self._leak(f"kmem_cache held by {holder}", text, *details)

    def _check_css(self, memcg: Memcg, stock_pages: int) -> None:
        """Q1, Q2: each reference to a css has a holder (KERNEL.md 3.6)."""
        ref = memcg.css.refcnt
        assert ref is not None
        children = sum(child.css.freed is None for child in memcg.css.cgroup.children)
        charged = (
            len(memcg.kmem_caches)
            if self._caches_pin_memcg
            else sum(cache.charged_pages for cache in memcg.kmem_caches)
        )
        held = ref.own_refs + (memcg.id_ref > 0) + children + charged + stock_pages
        if ref.value != held:
            self._leak("css reference", f"{ref.label} is {ref.value}; the ledger explains {held}")
        objects = sum(cache.live_objects for cache in memcg.kmem_caches)
        if memcg.css.cgroup.is_dead and not (children or stock_pages or objects):
            holders = [slab_holder(cache) for cache in memcg.kmem_caches if cache.slabs]
            holder = holders[0][0] if holders else "nobody"
            text = f"{memcg.label} is dead, and nothing lives in it, yet it is not released"
            self._leak(f"mem_cgroup held by {holder}", text, *(line for _, details in holders for line in details))

    @property
    def _caches_pin_memcg(self) -> bool:
        """Child caches with a reference count of their own hold one css reference each; others' pages do."""
        return any(cache.refcnt is not None for cache in self.machine.slab_caches)

    def _check_usage(self, memcg: Memcg, stock: Counter[Memcg]) -> None:
        """I10: what is charged to a live memcg is what its subtree has."""
        subtree = set(memcg.subtree())
        expected = sum(stock[member] for member in subtree) + sum(
            cache.charged_pages for member in subtree for cache in member.kmem_caches
        )
        if memcg.memory.usage != expected:
            self._violated("I10", f"{memcg.memory.label} is {memcg.memory.usage}; the ledger explains {expected}")

    def _check_tree(self) -> None:
        """I13, I14."""
        root = self.machine.root_cgroup
        cgroups = root.descendants()
        if root.nr_descendants + root.nr_dying_descendants != len(cgroups):
            self._violated("I14", f"{len(cgroups)} cgroups are left below the root, it counts otherwise")
        online = (memcg for memcg in self.machine.memcgs() if memcg.kmem_state is KmemState.ONLINE)
        ids = Counter(memcg.kmemcg_id for memcg in online)
        for kmemcg_id, users in ids.items():
            if users > 1:
                self._violated("I13", f"{users} online memcgs have kmemcg_id {kmemcg_id}")

    def _check_machine(self, memcgs: list[Memcg]) -> None:
        """Q10, I11, and the pages of the whole machine."""
        machine = self.machine
        if machine.kmem_enabled.usage != len(memcgs):
            self._violated("Q10", f"memcg_kmem_enabled_key is {machine.kmem_enabled.usage}, memcgs: {len(memcgs)}")
        for lock in (machine.slab_mutex, machine.cgroup_mutex, machine.percpu_charge_mutex):
            if lock.holder is not None:
                self._violated("I11", f"{lock.name} is held by {lock.holder.name} at quiescence")
        pages = sum(len(cache.slabs) * cache.pages for cache in machine.slab_caches)
        if machine.buddy.allocated != pages:
            self._leak("page", f"{machine.buddy.allocated} pages are allocated; the ledger explains {pages}")

    def _stock_pages(self) -> Counter[Memcg]:
        pages: Counter[Memcg] = Counter()
        for stock in self.machine.stocks:
            if stock.cached is not None:
                pages[stock.cached] += stock.nr_pages
        return pages

    def _violated(self, number: str, text: str) -> None:
        self.machine.world.report("invariant", number, f"invariant {number}: {text}")

    def _leak(self, what: str, text: str, *details: str) -> None:
        self.machine.world.report("leak", what, f"leaked {what}: {text}", *details)

    # -- figures --------------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, int]:
        """What the machine counts now; `zombie_caches` are the child caches of removed cgroups."""
        machine = self.machine
        children = machine.child_caches
        return {
            "nr_descendants": machine.root_cgroup.nr_descendants,
            "nr_dying_descendants": machine.root_cgroup.nr_dying_descendants,
            "kmem_caches": len(machine.slab_caches),
            "child_caches": len(children),
            "zombie_caches": sum(is_zombie(cache) for cache in children),
            "slab_pages": sum(len(cache.slabs) * cache.pages for cache in machine.slab_caches),
            "live_objects": sum(cache.live_objects for cache in machine.slab_caches),
            "allocated_pages": machine.buddy.allocated,
            "grace_periods": machine.rcu.completed,
        }


def slab_holder(s: KmemCache) -> tuple[str, list[str]]:
    """What keeps the slabs of a cache without objects: a role for the signature, and a line for each of them."""
    kept = [(c.page, "an empty cpu slab", c.label) for c in s.cpu_slab if c.page is not None]
    kept += [(slab, "an empty cpu partial slab", c.label) for c in s.cpu_slab for slab in c.partial]
    kept += [(slab, "an empty slab of the node", s.node.label) for slab in s.node.partial]
    if not kept:
        return "nobody", [f"{s.name} has {len(s.slabs)} slabs that nobody knows, and {s.charged_pages} pages charged"]
    return kept[0][1], [f"{where} holds {slab.label}" for slab, _, where in kept]


def is_zombie(cache: KmemCache) -> bool:
    """Whether the cgroup that *cache* was made for is gone: it was deactivated, or its memcg is offline."""
    if SlabFlags.DEACTIVATED in cache.flags:
        return True
    return cache.memcg is not None and not cache.memcg.css.is_online
