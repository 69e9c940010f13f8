"""Memcg checks at quiescence: page counters and statistics of live memcgs and of the root, by node too.

Like the rest of the oracles they observe from outside; KERNEL.md 9 and 13 have the rules. A page counts for the memcg
of its cache and for all ancestors. Pending per-CPU deltas count as added, so batches need no tolerance. A killed memcg
may keep its charge (7.5). The root has a rule of its own. From 5.3 on, pages of caches that were moved to the root are
not uncharged, so the root may still count them after they are freed; the statistics of 5.3 itself count them a second
time. The check accepts both, because no file shows the root's numbers.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from actors.linux.mm.memcontrol import KmemState, Memcg, memcg_offline_kmem
from actors.linux.mm.slab_h import memcg_uncharge_slab
from actors.linux.mm.vmstat import StatItem, VmStats

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.versions.kernel_fn import KernelFn

SPARE_ROOT = ("5.3", "5.4-fixed")
"""The profiles that neither charge nor uncharge the root for slab pages (4.4)."""

Pages = dict[Memcg, Counter[tuple[int, StatItem]]]
"""The pages of each memcg itself, by node and item."""


@attrs.frozen
class Expected:
    """The pages that a counter must show: `pages`, or up to `more` pages above it."""

    pages: int
    more: float = 0

    def error(self, counted: int) -> str:
        """`low`, `high`, or nothing if the count is right."""
        if counted < self.pages:
            return "low"
        return "high" if counted > self.pages + self.more else ""

    def __str__(self) -> str:
        if not self.more:
            return str(self.pages)
        return f"{self.pages}, and up to {self.more} of caches that were moved to it"


@attrs.define
class MemcgBooks:
    """The checks of one machine at quiescence. `stock` is the number of pages in the CPUs' stocks, by memcg.

    `moved` counts the pages of the caches that were moved to the root, by item, including allocations that were running
    then; None if the machine was not watched.
    """

    machine: Machine
    stock: Counter[Memcg]
    moved: Counter[StatItem] | None
    slab_pages: Pages = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.slab_pages = defaultdict(Counter)
        for cache in self.machine.child_caches:
            for slab in cache.slabs:
                owner = slab.memcg or cache.memcg
                if owner is not None:
                    self.slab_pages[owner][slab.nid, cache.stat_item] += slab.pages

    def wrongs(self) -> Iterator[tuple[str, str]]:
        """All violations: a name and the details."""
        root = self.machine.root_mem_cgroup
        for memcg in (root, *self.machine.memcgs()):
            if memcg.is_root or memcg.kmem_state is KmemState.ONLINE:
                members = self.members(memcg)
                yield from self.check_usage(memcg, members)
                yield from self.check_statistics(memcg, members)

    def members(self, memcg: Memcg) -> list[Memcg]:
        """The memcgs whose charges reach *memcg*."""
        return memcg.subtree() if memcg.is_root or self.machine.config.use_hierarchy else [memcg]

    # -- page counters (I10) ------------------------------------------------------------------------------------------

    def check_usage(self, memcg: Memcg, members: list[Memcg]) -> Iterator[tuple[str, str]]:
        """I10: the charge equals the existing pages, and the root itself is never charged.

        memsw equals memory, because the model has no swap.
        """
        others = sum(self.stock[member] + member.user_pages for member in members if not member.is_root)
        slabs = self._charged_slabs(memcg, members)
        with_others = attrs.evolve(slabs, pages=slabs.pages + others)
        where = " of the root" if memcg.is_root else ""
        for what, counter, expected in (
            ("memory", memcg.memory, with_others),
            ("memsw", memcg.memsw, with_others),
            ("kmem", memcg.kmem, slabs),
        ):
            how = "" if counter is None else expected.error(counter.usage)
            if counter is not None and how:
                text = f"{counter.label} is {counter.usage} pages, too {how}; shadow accounting explains {expected}"
                yield f"{what} usage{where}", text

    def _charged_slabs(self, memcg: Memcg, members: list[Memcg]) -> Expected:
        charged = {member: sum(cache.charged_pages for cache in member.kmem_caches) for member in members}
        return self._with_rule_of_root(memcg, charged, None)

    def _with_rule_of_root(self, memcg: Memcg, pages: dict[Memcg, int], item: StatItem | None) -> Expected:
        """The expected count of *memcg*, from the *pages* of each member."""
        if not memcg.is_root or not self.spares_root:
            return Expected(sum(pages.values()))
        return Expected(sum(pages.values()) - pages.get(memcg, 0), self._moved(item))

    def _moved(self, item: StatItem | None) -> float:
        if self.moved is None:
            return math.inf
        if item is None:
            return self.moved.total()
        return self.moved[item] * (2 if self.flushes_twice else 1)

    @property
    def spares_root(self) -> bool:
        """Whether pages of caches that were moved to the root are not uncharged; a fix can change this, too."""
        return self.machine.config.kernel in SPARE_ROOT or self._has_body_of_5_3(memcg_uncharge_slab)

    @property
    def flushes_twice(self) -> bool:
        """Whether statistics flushed at offline stay pending and are flushed again with the memcg (9.4)."""
        return self._has_body_of_5_3(memcg_offline_kmem)

    def _has_body_of_5_3(self, function: KernelFn[..., Any]) -> bool:
        functions = self.machine.functions
        wanted = function.body("5.3", functions.allocator)
        return any(wanted is not None and body.code is wanted.code for body in functions.bodies(function))

    # -- statistics (Q6) ----------------------------------------------------------------------------------------------

    def check_statistics(self, memcg: Memcg, members: list[Memcg]) -> Iterator[tuple[str, str]]:
        """Q6: a memcg's count, with its subtree's pending deltas, equals the pages of the subtree; by node, too."""
        where = " of the root" if memcg.is_root else ""
        nodes = range(self.machine.config.nodes)
        for item in StatItem:
            there = {member: sum(self.slab_pages[member][nid, item] for nid in nodes) for member in members}
            expected = self._with_rule_of_root(memcg, there, item)
            counted = count(memcg.vmstats, (member.vmstats for member in members), item)
            how = expected.error(counted)
            if how:
                text = f"memory.stat {item.value} of {memcg.name} adds up to {counted} pages, but it has {expected}"
                yield f"{item.value}{where} too {how}", text
            yield from self._check_nodes(memcg, members, item, counted - expected.pages)

    def _check_nodes(self, memcg: Memcg, members: list[Memcg], item: StatItem, error: int) -> Iterator[tuple[str, str]]:
        """Each lruvec counts its node's part. If the memcg is wrong, the errors of its lruvecs add up to its error.

        The same functions change both, so a common error is one violation, reported for the memcg.
        """
        errors = []
        for nid in range(self.machine.config.nodes):
            counted = count(memcg.lruvec_stats[nid], (member.lruvec_stats[nid] for member in members), item)
            spared = memcg.is_root and self.spares_root
            owners = [member for member in members if not (spared and member is memcg)]
            errors.append(counted - sum(self.slab_pages[owner][nid, item] for owner in owners))
        if sum(errors) != error or (not error and any(errors)):
            off = ", ".join(f"{wrong:+} on node {nid}" for nid, wrong in enumerate(errors))
            text = f"{item.value} of {memcg.name} is off by {error:+} pages, its lruvecs by {off}"
            yield f"{item.value} of a lruvec", text


def count(total: VmStats, parts: Iterable[VmStats], item: StatItem) -> int:
    """The value of *total* with the pending per-CPU deltas of *parts*."""
    return total.total[item] + sum(stats.pending(item) for stats in parts)
