"""The slab statistics files: /proc/slabinfo, memory.kmem.slabinfo, memcg_slabinfo. mm/slab_common.c @5.3.1.

KERNEL.md 10.1 to 10.3. All of them hold slab_mutex while they walk caches, so no cache is created, deactivated,
reparented or destroyed during the walk. Objects and slabs still come and go, and the summands are read at different
moments.
"""

from __future__ import annotations

import attrs

from actors.files.seq_file import SeqFile, SeqOperations, Whole
from actors.linux.include.slab import SlabFlags
from actors.linux.kernel.cgroup.cgroup import CssFlags
from actors.linux.kernel.locking.locks import MutexHeld, SpinLockIrqHeld, mutex_lock, mutex_unlock
from actors.linux.mm.kmem_cache import KmemCache, KmemCacheNode
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.slab_def import SHARED_FACTOR
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import kernel_fn
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from protocol.formats import memcg_slabinfo
from protocol.formats.memcg_slabinfo import MemcgSlabinfoRow
from protocol.formats.slabinfo import HEADER, SlabinfoRow, render_row

ULONG = 1 << 64


@attrs.define
class Slabinfo:
    """struct slabinfo: the allocator's counts for one cache, or sums over several. Slabs have 2^`order` pages."""

    active_objs: int = 0
    num_objs: int = 0
    active_slabs: int = 0
    num_slabs: int = 0
    shared_avail: int = 0
    limit: int = 0
    batchcount: int = 0
    shared: int = 0
    objects_per_slab: int = 0
    order: int = 0

    def accumulate(self, other: Slabinfo) -> None:
        """Add the counts of *other*; the sizes stay."""
        self.active_objs += other.active_objs
        self.num_objs += other.num_objs
        self.active_slabs += other.active_slabs
        self.num_slabs += other.num_slabs
        self.shared_avail += other.shared_avail

    def row(self, s: KmemCache) -> SlabinfoRow:
        """The line of cache_show(), under the name of the root cache; counts are unsigned longs."""
        return SlabinfoRow(
            s.root.name,
            self.active_objs % ULONG,
            self.num_objs % ULONG,
            s.slot_size,
            self.objects_per_slab,
            1 << self.order,
            self.limit,
            self.batchcount,
            self.shared,
            self.active_slabs % ULONG,
            self.num_slabs % ULONG,
            self.shared_avail % ULONG,
        )


# -- the counts of one cache, by allocator ----------------------------------------------------------------------------


@kernel_fn("get_slabinfo", "mm/slub.c")
async def get_slabinfo(ctx: Context, s: KmemCache) -> Slabinfo:
    """An object is active unless it is free in a slab on a node's partial list; all objects of CPUs' slabs are active.

    The two counts are read one after the other. A slab that reaches the list in between counts as free without having
    been counted, so active_objs may go below zero.
    """
    sinfo, nr_free = Slabinfo(objects_per_slab=s.objects, order=s.order), 0
    for n in s.node:
        sinfo.num_slabs += await ctx.ask(n.read_nr_slabs)
        sinfo.num_objs += await ctx.ask(n.read_total_objects)
        nr_free += await count_partial(ctx, n)
    sinfo.active_slabs = sinfo.num_slabs
    sinfo.active_objs = sinfo.num_objs - nr_free
    return sinfo


@kernel_fn("count_partial", "mm/slub.c")
async def count_partial(ctx: Context, n: KmemCacheNode) -> int:
    """The free objects on a node's partial list (count_free)."""
    free = 0
    async with SpinLockIrqHeld(ctx, n.list_lock):
        for slab in await ctx.ask(n.list_partial):
            free += slab.objects - (await ctx.ask(slab.read_counters)).inuse
    return free


@kernel_fn("get_slabinfo", "mm/slab.c")
async def get_slabinfo_slab(ctx: Context, cachep: KmemCache) -> Slabinfo:
    """An object is active unless it is free in its slab; objects in the arrays of CPUs and nodes are active."""
    array = cachep.cpu_cache[0]
    sinfo = Slabinfo(
        limit=array.limit,
        batchcount=array.batchcount,
        shared=SHARED_FACTOR if cachep.slab_node[0].shared is not None else 0,
        objects_per_slab=cachep.objects,
        order=cachep.order,
    )
    free_slabs = free_objs = 0
    for n in cachep.slab_node:
        async with SpinLockIrqHeld(ctx, n.list_lock):
            counts = await ctx.ask(n.read_counts)
        sinfo.num_slabs += counts.total_slabs
        sinfo.shared_avail += counts.shared_avail
        free_slabs += counts.free_slabs
        free_objs += counts.free_objects
    sinfo.num_objs = sinfo.num_slabs * cachep.objects
    sinfo.active_slabs = sinfo.num_slabs - free_slabs
    sinfo.active_objs = sinfo.num_objs - free_objs
    return sinfo


# -- /proc/slabinfo ---------------------------------------------------------------------------------------------------


@kernel_fn("memcg_accumulate_slabinfo", "mm/slab_common.c", profiles="..5.4-fixed")
async def memcg_accumulate_slabinfo(ctx: Context, s: KmemCache, info: Slabinfo) -> None:
    """Add the counts of all children of a root cache, zombies included."""
    if s.is_root_cache:
        for c in await ctx.ask(s.list_children):
            info.accumulate(await get_slabinfo(ctx, c))


@kernel_fn("cache_show", "mm/slab_common.c", profiles="..5.4-fixed")
async def cache_show(ctx: Context, s: KmemCache, m: SeqFile[KmemCache]) -> None:
    """One row; the first row is preceded by the header."""
    if s is m.records[0]:
        m.seq_puts(HEADER)
    sinfo = await get_slabinfo(ctx, s)
    await memcg_accumulate_slabinfo(ctx, s, sinfo)
    m.seq_puts(render_row(sinfo.row(s)))


@kernel_fn("cache_show", "mm/slab_common.c", profiles="6.12..")
async def cache_show_6_12(ctx: Context, s: KmemCache, m: SeqFile[KmemCache]) -> None:
    """One row; the first row is preceded by the header. A cache has no children. KERNEL-today 23."""
    if s is m.records[0]:
        m.seq_puts(HEADER)
    m.seq_puts(render_row((await get_slabinfo(ctx, s)).row(s)))


@kernel_fn("slab_start", "mm/slab_common.c", profiles="6.12..")
async def slab_start_6_12(ctx: Context, m: SeqFile[KmemCache]) -> KmemCache | None:
    """Walk all caches: there is one list of them. KERNEL-today 23."""
    await mutex_lock(ctx, ctx.machine.slab_mutex)
    return m.seq_list_start(await ctx.ask(ctx.machine.slab_caches.list))


@kernel_fn("slab_start", "mm/slab_common.c", profiles="..5.4-fixed")
async def slab_start(ctx: Context, m: SeqFile[KmemCache]) -> KmemCache | None:
    await mutex_lock(ctx, ctx.machine.slab_mutex)
    return m.seq_list_start(await ctx.ask(ctx.machine.slab_root_caches.list))


@kernel_fn("slab_next", "mm/slab_common.c")
async def slab_next(ctx: Context, m: SeqFile[KmemCache]) -> KmemCache | None:
    return m.seq_list_next()


@kernel_fn("slab_stop", "mm/slab_common.c")
async def slab_stop(ctx: Context, m: SeqFile[KmemCache]) -> None:
    await mutex_unlock(ctx, ctx.machine.slab_mutex)


@kernel_fn("slab_show", "mm/slab_common.c")
async def slab_show(ctx: Context, m: SeqFile[KmemCache], s: KmemCache) -> None:
    """A cache; until 5.4 a root cache with its children."""
    await cache_show(ctx, s, m)


def slabinfo_open() -> SeqFile[KmemCache]:
    """open("/proc/slabinfo")."""
    return SeqFile(SeqOperations(slab_start, slab_next, slab_stop, slab_show))


# -- memory.kmem.slabinfo ---------------------------------------------------------------------------------------------


@kernel_fn("memcg_slab_show", "mm/slab_common.c", profiles="..5.4-fixed")
async def memcg_slab_show(ctx: Context, m: SeqFile[KmemCache], s: KmemCache) -> None:
    """A cache of the memcg: its own, or one of a removed descendant."""
    await cache_show(ctx, s, m)


@kernel_fn("memcg_slab_start", "mm/slab_common.c", profiles="..5.4-fixed")
async def memcg_slab_start(ctx: Context, m: SeqFile[KmemCache], memcg: Memcg) -> KmemCache | None:
    await mutex_lock(ctx, ctx.machine.slab_mutex)
    return m.seq_list_start(await ctx.ask(memcg.list_kmem_caches))


def kmem_slabinfo_open(memcg: Memcg) -> SeqFile[KmemCache]:
    """open("memory.kmem.slabinfo") in the directory of *memcg* (cgroup v1). On 6.12 the file is empty.

    KERNEL-today 23.
    """

    async def start(ctx: Context, m: SeqFile[KmemCache]) -> KmemCache | None:
        if ctx.machine.config.kernel in WITHOUT_CHILD_CACHES:
            return m.seq_list_start(())
        return await memcg_slab_start(ctx, m, memcg)

    async def stop(ctx: Context, m: SeqFile[KmemCache]) -> None:
        if ctx.machine.config.kernel not in WITHOUT_CHILD_CACHES:
            await slab_stop(ctx, m)

    return SeqFile(SeqOperations(start, slab_next, stop, memcg_slab_show))


# -- memcg_slabinfo ---------------------------------------------------------------------------------------------------


@kernel_fn("memcg_slabinfo_show", "mm/slab_common.c", profiles="5.3..5.4-fixed")
async def memcg_slabinfo_show(ctx: Context, m: SeqFile[Whole]) -> None:
    """Every root cache with children, alone, then each child with the css id of its memcg; all in one section."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        m.seq_puts(memcg_slabinfo.HEADER)
        for s in await ctx.ask(ctx.machine.slab_root_caches.list):
            children = await ctx.ask(s.list_children)
            if not children:
                continue
            m.seq_puts(await memcg_slabinfo_row(ctx, s, None, ""))
            for c in children:
                css = deref(await ctx.ask(c.read_memcg), "c->memcg_params.memcg").css
                is_online = CssFlags.ONLINE in await ctx.ask(css.read_flags)
                status = "deact" if SlabFlags.DEACTIVATED in c.flags else ""  # set under slab_mutex, which is held here
                m.seq_puts(await memcg_slabinfo_row(ctx, c, css.id, status if is_online else "dead"))


async def memcg_slabinfo_row(ctx: Context, s: KmemCache, css_id: int | None, status: str) -> str:
    """One line for this cache alone."""
    sinfo = await get_slabinfo(ctx, s)
    counts = (sinfo.active_objs, sinfo.num_objs, sinfo.active_slabs, sinfo.num_slabs)
    row = MemcgSlabinfoRow(s.root.name, css_id, status, *(count % ULONG for count in counts))
    return memcg_slabinfo.render_row(row)
