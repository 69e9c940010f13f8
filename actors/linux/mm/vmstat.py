"""Statistics of nodes and memcgs, batched on each CPU. mm/vmstat.c, mm/memcontrol.c @5.3; KERNEL.md 9.4.

A change is added to this CPU's delta. A delta that exceeds its limit is added to the shared counters: the node's, or
those of the memcg and all its ancestors. So a reader may see a counter that lags behind. The deltas of a memcg that is
freed must be flushed, or they are lost.
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
    """enum node_stat_item: the two items that count slab pages."""

    NR_SLAB_RECLAIMABLE = "slab_reclaimable"
    NR_SLAB_UNRECLAIMABLE = "slab_unreclaimable"


@attrs.define(eq=False)
class VmStats(Shared):
    """A set of counters (4K pages): readers see `total`; `percpu` is not yet added to it."""

    name: str
    percpu: list[Counter[StatItem]]
    total: Counter[StatItem] = attrs.field(factory=Counter, init=False)

    @classmethod
    def alloc(cls, actor: Actor, name: str, cpus: int) -> VmStats:
        """alloc_percpu(): all counters are zero."""
        return cls(actor, name, [Counter() for _ in range(cpus)])

    @property
    def label(self) -> str:
        return f"vmstats of {self.name}"

    def pending(self, item: StatItem) -> int:
        """The sum of the deltas that the CPUs have not yet added to the total."""
        return sum(delta[item] for delta in self.percpu)

    @operation(UPDATE)
    def add(self, item: StatItem, nr_pages: int) -> None:
        """atomic_long_add()."""
        self.total[item] += nr_pages

    @operation(READ, cost=ATOMIC_NS)
    def read_total(self, item: StatItem) -> int:
        """memcg_page_state(): a total below zero reads as 0."""
        return max(self.total[item], 0)

    @operation(READ)
    def read_percpu(self, cpu: int) -> Counter[StatItem]:
        """The deltas that one CPU has not yet added to the total."""
        self.touch_part(cpu, READ)
        return Counter(self.percpu[cpu])

    def batch(self, ctx: Context, item: StatItem, nr_pages: int, limit: int) -> int:
        """Add to this CPU's delta. A delta that exceeds *limit* is cleared and returned, for the total; otherwise 0."""
        ctx.use_part(self)
        delta = self.percpu[ctx.smp_processor_id]
        delta[item] += nr_pages
        if abs(delta[item]) <= limit:
            return 0
        return delta.pop(item)


@kernel_fn("mod_node_page_state", "mm/vmstat.c")
async def mod_node_page_state(ctx: Context, nid: int, item: StatItem, nr_pages: int) -> None:
    """Add *nr_pages* to the node's count of slab pages."""
    stats = ctx.machine.node_stats[nid]
    with ctx.irq_section:
        await ctx.this_cpu(stats, THIS_CPU_STAT)
        overflow = stats.batch(ctx, item, nr_pages, NODE_STAT_THRESHOLD)
        if overflow:
            await ctx.ask(stats.add, item, overflow)


async def flush_items(ctx: Context, levels: list[VmStats], items: list[StatItem]) -> None:
    """Sum up the per-CPU deltas of the first level, then add the sum to every level."""
    pending: Counter[StatItem] = Counter()
    for cpu in range(len(levels[0].percpu)):
        pending.update(await ctx.ask(levels[0].read_percpu, cpu))
    for item in items:
        for level in levels:
            await ctx.ask(level.add, item, pending[item])
