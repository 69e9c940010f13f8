"""Statistics of nodes and memcgs, counted on each CPU. mm/vmstat.c, mm/memcontrol.c @5.3, @6.12; KERNEL.md 9.4.

Those of nodes, and before 6.12 those of memcgs, are batched: a change is added to this CPU's delta. A delta that
exceeds its limit is added to the shared counters: the node's, or those of the memcg and all its ancestors. So a reader
may see a counter that lags behind. The deltas of a memcg that is freed must be flushed, or they are lost.

From 6.12 on the counters of memcgs are those of kernel/cgroup/rstat.py, which a flush adds up. KERNEL-today 15.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.rstat import cgroup_rstat_flush, cgroup_rstat_updated, css_rstat_flush, css_rstat_updated
from actors.linux.kernel.cgroup.rstat import UPDATES_BATCH, Key, MemcgStats, rstat_of
from actors.machine.context import Context, deref
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.linux.kernel.cgroup.cgroup import Css
    from actors.linux.mm.memcontrol import Memcg
    from actors.system.actor import Actor

MEMCG_CHARGE_BATCH = 32
NODE_STAT_THRESHOLD = 32

FLUSH_TIME = 2_000_000_000
"""Nanoseconds between two periodic flushes of all memcgs."""

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


# -- the counters of memcgs since 6.12 --------------------------------------------------------------------------------


def stats_of(memcg: Memcg) -> MemcgStats:
    """memcg->vmstats and the lruvec_stats of its nodes."""
    return deref(memcg.css.stats, "memcg->vmstats")


@kernel_fn("__mod_memcg_lruvec_state", "mm/memcontrol.c", profiles="6.12")
async def mod_memcg_lruvec_state(ctx: Context, memcg: Memcg, nid: int, item: str, nr: int) -> None:
    """KERNEL-today 15.2: count for the memcg and for its node, whether the memcg lives or is dying."""
    await count(ctx, memcg, ((None, item), (nid, item)), nr)


@kernel_fn("__mod_memcg_state", "mm/memcontrol.c", profiles="6.12")
async def mod_memcg_state(ctx: Context, memcg: Memcg, item: str, nr: int) -> None:
    """KERNEL-today 15.2: count for the memcg alone, for pages without a node."""
    await count(ctx, memcg, ((None, item),), nr)


async def count(ctx: Context, memcg: Memcg, keys: tuple[Key, ...], nr: int) -> None:
    """Count on this CPU, then memcg_rstat_updated(): the next flush looks here, and comes earlier if it must."""
    stats = stats_of(memcg)
    await ctx.this_cpu(stats, THIS_CPU_STAT)
    cpu = ctx.smp_processor_id
    due = stats.count(ctx, keys, nr)
    await cgroup_rstat_updated(ctx, memcg.css.cgroup, cpu)
    for level in due:
        await ctx.ask(level.tell_updates, cpu)


@kernel_fn("__mod_memcg_lruvec_state", "mm/memcontrol.c", profiles="7.2..", known_as="mod_memcg_lruvec_state")
async def mod_memcg_lruvec_state_7_2(ctx: Context, memcg: Memcg, nid: int, item: str, nr: int) -> None:
    """KERNEL-7.2, row 15.2: as before, with preemption off (get_cpu()), and IRQs on."""
    await count_7_2(ctx, memcg, ((None, item), (nid, item)), nr)


@kernel_fn("__mod_memcg_state", "mm/memcontrol.c", profiles="7.2..", known_as="mod_memcg_state")
async def mod_memcg_state_7_2(ctx: Context, memcg: Memcg, item: str, nr: int) -> None:
    """KERNEL-7.2, row 15.2: count for the memcg alone."""
    await count_7_2(ctx, memcg, ((None, item),), nr)


async def count_7_2(ctx: Context, memcg: Memcg, keys: tuple[Key, ...], nr: int) -> None:
    """Count on this CPU, queue the css for the next flush, and let it come earlier if it must."""
    stats = stats_of(memcg)
    with ctx.preempt_section:
        await ctx.this_cpu(stats, THIS_CPU_STAT)
        cpu = ctx.smp_processor_id
        pages = stats.count_here(ctx, keys, nr)
        await css_rstat_updated(ctx, memcg.css, cpu)
        await memcg_rstat_updated(ctx, stats, cpu, pages)


@kernel_fn("memcg_rstat_updated", "mm/memcontrol.c", profiles="7.2..")
async def memcg_rstat_updated(ctx: Context, stats: MemcgStats, cpu: int, pages: int) -> None:
    """KERNEL-7.2, row 15.2: tell the memcg and its ancestors, up to the first that is worth a flush already."""
    level: MemcgStats | None = stats
    while level is not None:
        own = await ctx.ask(level.note_updates, cpu, pages)
        if own is None:
            break
        if own >= UPDATES_BATCH:
            await ctx.ask(level.add_updates, cpu)
        level = level.parent


@kernel_fn("mem_cgroup_css_rstat_flush", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_css_rstat_flush(ctx: Context, css: Css, cpu: int) -> None:
    """KERNEL-today 15.4: all items of one memcg and one CPU, in one step under the lock of the flush."""
    await ctx.ask(deref(css.stats, "memcg->vmstats").flush_cpu, cpu)


@kernel_fn("mem_cgroup_flush_stats", "mm/memcontrol.c", profiles="6.12")
async def mem_cgroup_flush_stats_6_12(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-today 15.3: readers do with totals that lack up to 64 pages for each CPU."""
    if await ctx.ask(stats_of(memcg).needs_flush):
        await cgroup_rstat_flush(ctx, memcg.css.cgroup)


@kernel_fn("mem_cgroup_flush_stats", "mm/memcontrol.c", profiles="7.2..")
async def mem_cgroup_flush_stats_7_2(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-today 15.3: readers do with old totals as in 6.12; the flush is that of the memory controller alone."""
    if await ctx.ask(stats_of(memcg).needs_flush):
        await css_rstat_flush(ctx, memcg.css)


@kernel_fn("flush_memcg_stats_dwork", "mm/memcontrol.c", profiles="6.12")
async def flush_memcg_stats_dwork(ctx: Context) -> None:
    """KERNEL-today 15.3: the periodic flush, of all memcgs and whatever has changed."""
    await cgroup_rstat_flush(ctx, ctx.machine.root_cgroup)


@kernel_fn("flush_memcg_stats_dwork", "mm/memcontrol.c", profiles="7.2..")
async def flush_memcg_stats_dwork_7_2(ctx: Context) -> None:
    """KERNEL-today 15.3: the periodic flush, of all memcgs as in 6.12."""
    await css_rstat_flush(ctx, ctx.machine.root_cgroup.css)


async def flush_periodically(ctx: Context) -> None:
    """Every two seconds, for ever; without an update there is nothing to flush, and the model waits for one.

    The kernel's work runs on an unbound queue; here it is a thread that is bound to no CPU. Quiescence does not wait
    for it.
    """
    while True:
        if ctx.machine.has_css_rstat:
            await ctx.ask(ctx.machine.memory_rstat.wait_until_updated)
        else:
            await ctx.ask(rstat_of(ctx.machine.root_cgroup).wait_until_updated)
        await ctx.sleep_in_background(FLUSH_TIME)
        await flush_memcg_stats_dwork(ctx)
