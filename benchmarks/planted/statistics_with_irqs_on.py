"""mm/vmstat.c: the per-CPU delta of a node statistic is read and written back with interrupts on."""

from actors.api import kernel_fn
from actors.linux.mm.vmstat import NODE_STAT_THRESHOLD, THIS_CPU_STAT, StatItem
from actors.machine.context import Context


@kernel_fn("mod_node_page_state", "mm/vmstat.c")
async def mod_state(ctx: Context, nid: int, item: StatItem, nr_pages: int) -> None:
    """An addition by an interrupt in between is lost."""
    stats = ctx.machine.node_stats[nid]
    cpu = ctx.smp_processor_id
    ctx.use_part(stats)
    old = stats.percpu[cpu][item]
    await ctx.this_cpu(stats, THIS_CPU_STAT)
    ctx.use_part(stats)
    delta = stats.percpu[cpu]
    delta[item] = old + nr_pages
    if abs(delta[item]) > NODE_STAT_THRESHOLD:
        await ctx.ask(stats.add, item, delta.pop(item))
