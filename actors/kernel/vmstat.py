"""Statistics of nodes and memcgs, batched on each CPU. mm/vmstat.c, mm/memcontrol.c @5.3; KERNEL.md 9.4.

A change is added to this CPU's delta; only when that gets too large is it added to the real counters: of the node, or
of the memcg and all its ancestors. So a counter that somebody reads may lag behind; what is pending on the CPUs of a
memcg that goes away has to be flushed, or is lost.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.system.actor import Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.kernel.memcontrol import Memcg
    from actors.system.actor import Actor

MEMCG_CHARGE_BATCH = 32
NODE_STAT_THRESHOLD = 32

THIS_CPU_STAT = OperationInfo("this_cpu_stat", cost=ATOMIC_NS)


class StatItem(enum.Enum):
    """enum node_stat_item: the two that count slab pages."""

    NR_SLAB_RECLAIMABLE = "slab_reclaimable"
    NR_SLAB_UNRECLAIMABLE = "slab_unreclaimable"


@attrs.define(eq=False)
class VmStats(Shared):
    """A set of counters (4K pages): `total` is what readers see, `percpu` what is not yet in there."""

    name: str
    percpu: list[Counter[StatItem]]
    total: Counter[StatItem] = attrs.field(factory=Counter, init=False)

    @classmethod
    def alloc(cls, actor: Actor, name: str, cpus: int) -> VmStats:
        """alloc_percpu(): counters of zero."""
        return cls(actor, name, [Counter() for _ in range(cpus)])

    @property
    def label(self) -> str:
        return f"vmstats of {self.name}"

    def pending(self, item: StatItem) -> int:
        """What the CPUs have not yet added to the total."""
        return sum(delta[item] for delta in self.percpu)

    @operation(UPDATE)
    def add(self, item: StatItem, nr_pages: int) -> None:
        """atomic_long_add()."""
        self.total[item] += nr_pages

    @operation(READ, cost=ATOMIC_NS)
    def read_total(self, item: StatItem) -> int:
        """memcg_page_state(): what is below zero counts as nothing."""
        return max(self.total[item], 0)

    @operation(READ)
    def read_percpu(self, cpu: int) -> Counter[StatItem]:
        """What one CPU has not yet added."""
        self.touch_part(cpu, READ)
        return Counter(self.percpu[cpu])

    def batch(self, ctx: Context, item: StatItem, nr_pages: int, limit: int) -> int:
        """Add to this CPU's delta; return what has to be added to the total, if the delta exceeds *limit*."""
        ctx.use_part(self)
        delta = self.percpu[ctx.smp_processor_id]
        delta[item] += nr_pages
        if abs(delta[item]) <= limit:
            return 0
        return delta.pop(item)


@kernel_fn("mod_node_page_state", "mm/vmstat.c")
async def mod_node_page_state(ctx: Context, nid: int, item: StatItem, nr_pages: int) -> None:
    """Count slab pages of the node."""
    stats = ctx.machine.node_stats[nid]
    with ctx.irq_section:
        await ctx.this_cpu(stats, THIS_CPU_STAT)
        overflow = stats.batch(ctx, item, nr_pages, NODE_STAT_THRESHOLD)
        if overflow:
            await ctx.ask(stats.add, item, overflow)


@kernel_fn("mod_lruvec_state", "mm/memcontrol.c")
async def mod_lruvec_state(ctx: Context, memcg: Memcg, nid: int, item: StatItem, nr_pages: int) -> None:
    """Count slab pages of the node, of *memcg* and of its part of the node, in one section with IRQs off."""
    stats = ctx.machine.node_stats[nid]
    with ctx.irq_section:
        await ctx.this_cpu(memcg.vmstats, THIS_CPU_STAT)
        of_node = stats.batch(ctx, item, nr_pages, NODE_STAT_THRESHOLD)
        of_memcg = memcg.vmstats.batch(ctx, item, nr_pages, MEMCG_CHARGE_BATCH)
        of_lruvec = memcg.lruvec_stats[nid].batch(ctx, item, nr_pages, MEMCG_CHARGE_BATCH)
        if of_node:
            await ctx.ask(stats.add, item, of_node)
        if of_memcg:
            for level in (memcg, *memcg.ancestors()):
                await ctx.ask(level.vmstats.add, item, of_memcg)
        if of_lruvec:
            for level in (memcg, *memcg.ancestors()):
                await ctx.ask(level.lruvec_stats[nid].add, item, of_lruvec)


@kernel_fn("memcg_flush_percpu_vmstats", "mm/memcontrol.c", profiles="5.3..")
async def memcg_flush_percpu_vmstats(ctx: Context, memcg: Memcg, *, slab_only: bool) -> None:
    """Add what is pending to the memcg and all its ancestors. It stays pending, though, and may be added again.

    *slab_only* leaves out the last item that it means: the upper bound of the loop is exclusive.
    """
    items = [StatItem.NR_SLAB_RECLAIMABLE] if slab_only else list(StatItem)
    await flush_items(ctx, [level.vmstats for level in (memcg, *memcg.ancestors())], items)
    for nid in range(len(memcg.lruvec_stats)):
        await flush_items(ctx, [level.lruvec_stats[nid] for level in (memcg, *memcg.ancestors())], items)


async def flush_items(ctx: Context, levels: list[VmStats], items: list[StatItem]) -> None:
    """Sum up the deltas of the first level, then add the sum to every level."""
    pending: Counter[StatItem] = Counter()
    for cpu in range(len(levels[0].percpu)):
        pending.update(await ctx.ask(levels[0].read_percpu, cpu))
    for item in items:
        for level in levels:
            await ctx.ask(level.add, item, pending[item])
