"""mm/memcontrol.c: mod_lruvec_state() counts for the node of the CPU, not for the node of the page."""

from actors.api import kernel_fn
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.vmstat import MEMCG_CHARGE_BATCH, NODE_STAT_THRESHOLD, THIS_CPU_STAT, StatItem
from actors.machine.context import Context


@kernel_fn("mod_lruvec_state", "mm/memcontrol.c")
async def mod_state(ctx: Context, memcg: Memcg, nid: int, item: StatItem, nr_pages: int) -> None:
    """numa_node_id() instead of the page's nid for the node's own counters."""
    with ctx.irq_section:
        await ctx.this_cpu(memcg.vmstats, THIS_CPU_STAT)
        stats = ctx.machine.node_stats[ctx.numa_node]
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
