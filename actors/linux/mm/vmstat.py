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

from actors.machine.context import Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
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


async def flush_items(ctx: Context, levels: list[VmStats], items: list[StatItem]) -> None:
    """Sum up the deltas of the first level, then add the sum to every level."""
    pending: Counter[StatItem] = Counter()
    for cpu in range(len(levels[0].percpu)):
        pending.update(await ctx.ask(levels[0].read_percpu, cpu))
    for item in items:
        for level in levels:
            await ctx.ask(level.add, item, pending[item])
