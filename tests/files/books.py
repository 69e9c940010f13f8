"""Shadow accounting at any step: KERNEL.md 13 as equations, with an extra term for operations under way.

At quiescence each of the kernel's counts equals the number of things that it counts. In the middle of a run some flows
have done only one half of a change: pages are charged but do not belong to a slab yet, or a reference for a page is
taken before the page is counted. So for every count K of the kernel, and the shadow count B that explains it, at every
step

    K = B + the sum over all flows of the amount that the flow has in hand

A flow has an amount in hand only while it is inside the few functions that change both sides (`MOVERS`). A flow must
not return to user space, go idle, or end with a difference. The amounts in hand are found by attribution: no other flow
runs in a step, so the change of K - B in the step belongs to its flow. Amounts that a queued callback or a work holds
are terms of B.

    pages      buddy.allocated            = pages of all slabs + pages of tasks
    slabs      slabs that nodes count     = slabs that exist, without those that only wait for a grace period
    objects    objects that nodes count   = objects of those slabs
    node       node statistics + pending  = pages of all slabs                                                  Q6
    refcnt     refcnt of a child cache    = charged pages + running allocations + its own references            I1
    memory     memory.usage of a memcg    = charged pages of the subtree's caches + tasks' pages + stocks       I10
    kmem       kmem.usage of a memcg (v1) = charged pages of the subtree's caches                               I10
    css        references of a memcg      = its own + id + children + caches + stock + pages + queued works     I6, 3.6

memory and kmem hold for memcgs below the root that were never killed (7.5), with a hierarchy; refcnt holds from v2 on.
The accounting stops when a cache with charged pages loses its memcg (H5, v3 to 5.3): the owner of these pages is not
known any more, and the kernel crashes on the next access to one of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import attrs

from actors.linux.init.machine import Machine
from actors.linux.kernel.cgroup.cgroup import CssFlags
from actors.linux.lib.percpu_refcount import PercpuRef
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.memcontrol import KmemState, Memcg
from actors.linux.mm.vmstat import StatItem
from actors.system.flow import Flow
from actors.system.world import call_stack
from scenarios.stage import Stage

Key = tuple[str, Any]
"""A kind of count, and the object that it belongs to."""

ALLOCATE = {"kmem_cache_alloc", "kmem_cache_alloc_bulk"}
FREE_SLABS = {
    "__slab_free",
    "put_cpu_partial",
    "deactivate_slab",
    "flush_cpu_slab",
    "__kmem_cache_shrink",
    "free_partial",
    "rcu_free_slab",
    "cache_flusharray",
    "cache_free_alien",
    "do_drain",
    "drain_cpu_caches",
    "drain_freelist",
    "drain_array",
    "reap_alien",
    "kmem_rcu_free",
    "kmem_cache_free_bulk",
    "slabs_destroy",
}
CHARGE_TASKS = {
    "mem_cgroup_try_charge",
    "mem_cgroup_uncharge",
    "add_to_page_cache_lru",
    "__put_page",
    "touch_pages",
    "shrink_page_list",
}
DRAIN = {"drain_local_stock", "drain_all_stock"}
KILL = {"percpu_ref_kill", "percpu_ref_kill_and_confirm", "percpu_ref_switch_to_atomic_rcu"}
CACHES = {"memcg_kmem_cache_create_func", "shutdown_cache", "slab_kmem_cache_release"}
DEFERRED = {"kmemcg_deactivate_rcufn", "kmemcg_deactivate_workfn"}
WALK = {"mem_cgroup_iter", "drop_slab_node", "shrink_node", "slabinfo_full_show"}
CGROUPS = {
    "cgroup_mkdir",
    "cgroup_destroy_locked",
    "css_killed_work_fn",
    "css_release_work_fn",
    "css_free_rwork_fn",
}

MOVERS: dict[str, set[str]] = {
    "pages": ALLOCATE | FREE_SLABS | CHARGE_TASKS,
    "slabs": ALLOCATE | FREE_SLABS,
    "objects": ALLOCATE | FREE_SLABS,
    "node": ALLOCATE | FREE_SLABS,
    "refcnt": ALLOCATE | FREE_SLABS | KILL,
    "memory": ALLOCATE | FREE_SLABS | CHARGE_TASKS | DRAIN,
    "kmem": ALLOCATE | FREE_SLABS,
    "css": ALLOCATE | FREE_SLABS | CHARGE_TASKS | DRAIN | CGROUPS | KILL | CACHES | DEFERRED | WALK,
}
"""The functions inside which a flow may have an amount in hand, by kind of count."""


@attrs.define(repr=False)
class Books:
    """The shadow accounting of one run: `differences` are the violated equations, each with its step and flow."""

    stage: Stage
    in_hand: dict[Flow, Counter[Key]] = attrs.field(factory=lambda: defaultdict(Counter))
    last: dict[Key, int] = attrs.field(factory=dict)
    differences: list[str] = attrs.field(factory=list)
    steps: int = 0
    is_closed: bool = False

    @property
    def machine(self) -> Machine:
        return self.stage.machine

    def check(self, flow: Flow) -> None:
        """After a step of *flow*, attribute all changes to it, and check that it may have these amounts in hand."""
        self.is_closed = self.is_closed or any(map(has_lost_memcg, self.machine.child_caches))
        if self.is_closed:
            return
        now = dict(self.residuals())
        mine = self.in_hand[flow]
        for key in now.keys() | self.last.keys():
            if key in now:
                mine[key] += now[key] - self.last.get(key, 0)
            else:
                self._forget(key)
        self.last = now
        self.steps += 1
        self._check_hands(flow)

    def _forget(self, key: Key) -> None:
        """Drop a count whose object is gone, or is not accounted any more."""
        for hand in self.in_hand.values():
            hand.pop(key, None)

    def _check_hands(self, flow: Flow) -> None:
        hand = {key: value for key, value in self.in_hand.pop(flow).items() if value}
        if not hand:
            return
        self.in_hand[flow] = Counter(hand)
        functions = set() if flow.finished else {code.co_name for code in call_stack(flow)}
        for (kind, owner), value in hand.items():
            if not functions & MOVERS[kind]:
                name = getattr(owner, "label", owner)
                where = " < ".join(code.co_name for code in call_stack(flow)) if not flow.finished else "its end"
                self.differences.append(f"step {self.steps}: {flow.name} in {where}: {kind} of {name} off by {value}")

    # -- the equations ------------------------------------------------------------------------------------------------

    def residuals(self) -> Iterator[tuple[Key, int]]:
        """K - B for every count."""
        machine = self.machine
        pages = sum(cache.slab_pages for cache in machine.all_caches)
        memcgs = self._memcgs()
        tasks = sum(memcg.user_pages for memcg in (*memcgs, machine.root_mem_cgroup))
        yield ("pages", "buddy allocator"), machine.buddy.allocated - pages - tasks
        counted = sum(stats.total[item] + stats.pending(item) for stats in machine.node_stats for item in StatItem)
        yield ("node", "node statistics"), counted - pages
        for cache in machine.all_caches:
            yield from self._of_cache(cache)
        stocks = self._stocks()
        for memcg in memcgs:
            yield ("css", memcg), self._css(memcg, stocks)
            if memcg.kmem_state is KmemState.ONLINE and CssFlags.DYING not in memcg.css.flags:
                yield from self._of_memcg(memcg, stocks)

    def _of_cache(self, s: KmemCache) -> Iterator[tuple[Key, int]]:
        slabs = [slab for slab in s.slabs if not slab.rcu_head.queued]
        nr_slabs = sum(n.nr_slabs for n in s.node) + sum(n.total_slabs for n in s.slab_node)
        yield ("slabs", s), nr_slabs - len(slabs)
        objects = sum(n.total_objects for n in s.node) + sum(n.total_slabs * s.objects for n in s.slab_node)
        yield ("objects", s), objects - sum(slab.objects for slab in slabs)
        if isinstance(s.refcnt, PercpuRef) and s.freed is None:
            yield ("refcnt", s), s.refcnt.value - s.charged_pages - len(s.inflight) - s.refcnt.own_refs

    def _of_memcg(self, memcg: Memcg, stocks: Counter[Memcg]) -> Iterator[tuple[Key, int]]:
        subtree = memcg.subtree() if self.machine.config.use_hierarchy else [memcg]
        members = set(subtree)
        charged = sum(s.charged_pages for s in self.machine.child_caches if s.memcg in members)
        tasks = sum(member.user_pages + stocks[member] for member in subtree)
        yield ("memory", memcg), memcg.memory.usage - charged - tasks
        if memcg.kmem is not None:
            yield ("kmem", memcg), memcg.kmem.usage - charged

    def _memcgs(self) -> list[Memcg]:
        """All memcgs below the root that can be found and are not freed; a new one can be found before it is online."""
        linked = self.machine.root_mem_cgroup.subtree()[1:]
        return list(dict.fromkeys([*linked, *self.machine.memcgs()]))

    def _stocks(self) -> Counter[Memcg]:
        pages: Counter[Memcg] = Counter()
        for stock in self.machine.stocks:
            if stock.cached is not None:
                pages[stock.cached] += stock.nr_pages
        return pages

    def _css(self, memcg: Memcg, stocks: Counter[Memcg]) -> int:
        """KERNEL.md 3.6. From kill_css() to the end of offline the pending offlining holds one reference."""
        css = memcg.css
        assert css.refcnt is not None
        held = css.refcnt.own_refs + (memcg.id_ref > 0) + stocks[memcg] + memcg.user_pages
        held += sum(child.memcg is not None and child.memcg.freed is None for child in self._child_csses(memcg))
        held += sum(work.memcg is memcg for work in self.machine.pending_creations)
        held += CssFlags.DYING in css.flags and CssFlags.ONLINE in css.flags
        return css.refcnt.value - held - self._held_by_caches(memcg)

    def _child_csses(self, memcg: Memcg) -> list[Any]:
        return [child.css for child in memcg.css.cgroup.children if child.has_css]

    def _held_by_caches(self, memcg: Memcg) -> int:
        """[O]: one for each page, and one until the deferred deactivation is done. Later: one for each cache."""
        kernel = self.machine.config.kernel
        caches = [s for s in self.machine.child_caches if s.memcg is memcg]
        if kernel == "original":
            return sum(s.charged_pages + (s.rcu_head.queued or s.work.pending) for s in caches)
        return len(caches) if kernel == "5.4-fixed" else len(memcg.kmem_caches)


def has_lost_memcg(s: KmemCache) -> bool:
    """H5: the cache is unlinked while charged slabs of it still wait for a grace period."""
    return s.memcg is None and s.charged_pages > 0
