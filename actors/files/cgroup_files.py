"""The cgroup files about slabs and dying cgroups: cgroup.stat, memory.stat, usage, /proc/cgroups.

kernel/cgroup/cgroup.c, kernel/cgroup/cgroup-v1.c, mm/memcontrol.c @5.3.1, @6.12; KERNEL.md 10.5 and 10.7, KERNEL-today
23. Most reads take no lock: each number is read separately and may lag behind (every CPU batches statistics, KERNEL.md
9.4; those of 6.12 are of the last flush, KERNEL-today 15.3).
"""

from __future__ import annotations

from actors.files.seq_file import SeqFile, Whole
from actors.linux.include.rstat import mem_cgroup_flush_stats
from actors.linux.kernel.cgroup.cgroup import Cgroup
from actors.linux.kernel.cgroup.rstat import BYTE_ITEMS, ITEMS
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.vmstat import StatItem, stats_of
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.cgroup_files import SLAB_KEYS, CgroupsRow, render_cgroups, render_flat_keyed, render_u64
from protocol.formats.slabinfo import PAGE_SIZE

MEMORY_HIERARCHY_V1 = 1
"""The number of the one cgroup v1 hierarchy; cgroup v2 has number 0."""


@kernel_fn("cgroup_stat_show", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def cgroup_stat_show(ctx: Context, m: SeqFile[Whole], cgroup: Cgroup) -> None:
    """cgroup.stat: live and dying descendants, read one after the other."""
    counts = {
        "nr_descendants": await ctx.ask(cgroup.read_nr_descendants),
        "nr_dying_descendants": await ctx.ask(cgroup.read_nr_dying_descendants),
    }
    m.seq_puts(render_flat_keyed(counts))


@kernel_fn("cgroup_stat_show", "kernel/cgroup/cgroup.c", profiles="6.12..")
async def cgroup_stat_show_6_12(ctx: Context, m: SeqFile[Whole], cgroup: Cgroup) -> None:
    """KERNEL-today 23: also the csses of the one controller in the subtree, its own included, and the dying ones.

    The numbers of dying csses are read with those of the living, and shown at the end.
    """
    counts = {"nr_descendants": await ctx.ask(cgroup.read_nr_descendants)}
    with ctx.rcu_read_section:
        nr_dying_subsys = await ctx.ask(cgroup.read_nr_dying_subsys)
        counts["nr_subsys_memory"] = await ctx.ask(cgroup.css.read_nr_descendants) + 1 if cgroup.has_css else 0
        counts["nr_dying_descendants"] = await ctx.ask(cgroup.read_nr_dying_descendants)
        counts["nr_dying_subsys_memory"] = nr_dying_subsys
    m.seq_puts(render_flat_keyed(counts))


@kernel_fn("memory_stat_show", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memory_stat_show(ctx: Context, m: SeqFile[Whole], memcg: Memcg) -> None:
    """memory.stat of cgroup v2: the slab lines for the whole subtree, in bytes."""
    total = sum([await ctx.ask(memcg.vmstats.read_total, item) for item in StatItem])
    reclaimable = await ctx.ask(memcg.vmstats.read_total, StatItem.NR_SLAB_RECLAIMABLE)
    unreclaimable = await ctx.ask(memcg.vmstats.read_total, StatItem.NR_SLAB_UNRECLAIMABLE)
    pages = dict(zip(SLAB_KEYS, (total, reclaimable, unreclaimable), strict=True))
    m.seq_puts(render_flat_keyed({key: nr * PAGE_SIZE for key, nr in pages.items()}))


@kernel_fn("memory_stat_show", "mm/memcontrol.c", profiles="6.12..")
async def memory_stat_show_6_12(ctx: Context, m: SeqFile[Whole], memcg: Memcg) -> None:
    """KERNEL-today 23: the numbers of the subtree, flushed if enough has changed."""
    await mem_cgroup_flush_stats(ctx, memcg)
    await memory_stat_format(ctx, m, memcg)


async def memory_stat_format(ctx: Context, m: SeqFile[Whole], memcg: Memcg) -> None:
    """All lines that the model has, in bytes; those about slabs count objects, not pages."""
    stats, values = stats_of(memcg), {}
    for item in ITEMS:
        values[item] = await ctx.ask(stats.read_state, item) * (1 if item in BYTE_ITEMS else PAGE_SIZE)
    values["slab"] = sum([await ctx.ask(stats.read_state, item) for item in BYTE_ITEMS])
    m.seq_puts(render_flat_keyed(values))


@kernel_fn("memory_current_read", "mm/memcontrol.c")
async def memory_current_read(ctx: Context, m: SeqFile[Whole], memcg: Memcg) -> None:
    """memory.current of cgroup v2, in bytes: pages charged, and those that CPUs keep in stock."""
    m.seq_puts(render_u64(await ctx.ask(memcg.memory.read) * PAGE_SIZE))


@kernel_fn("mem_cgroup_read_u64", "mm/memcontrol.c")
async def mem_cgroup_read_u64(ctx: Context, m: SeqFile[Whole], memcg: Memcg) -> None:
    """memory.kmem.usage_in_bytes of cgroup v1, in bytes; a count below zero shows as a very large number."""
    counter = deref(memcg.kmem, "&memcg->kmem")
    m.seq_puts(render_u64(await ctx.ask(counter.read) * PAGE_SIZE))


@kernel_fn("proc_cgroupstats_show", "kernel/cgroup/cgroup-v1.c")
async def proc_cgroupstats_show(ctx: Context, m: SeqFile[Whole]) -> None:
    """/proc/cgroups: the one controller of the model; dying cgroups count until they are freed."""
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        hierarchy = MEMORY_HIERARCHY_V1 if ctx.machine.config.cgroup == 1 else 0
        num_cgroups = await ctx.ask(ctx.machine.cgroup_tree.read_nr_cgrps)
        m.seq_puts(render_cgroups([CgroupsRow("memory", hierarchy, num_cgroups, 1)]))
