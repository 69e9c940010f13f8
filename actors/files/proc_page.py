"""/proc/kpagecgroup: the cgroup to which each page frame is charged. fs/proc/page.c, by version; KERNEL.md 10.6.

The reader takes no reference. It reads one after the other whether a page belongs to a slab, the slab's cache, and the
cache's memcg. RCU keeps memcgs from being freed in between, but nothing keeps the cache: from v6 on its struct is freed
without a grace period after its last page. From 6.12 on no slab has a memcg.

In the model only slabs have addresses (`BuddyAllocator.place`): any other frame reads as 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.include.kernfs import cgroup_ino
from actors.linux.kernel.cgroup.cgroup import CssFlags
from actors.linux.mm.kmem_cache import KmemCache, Slab
from actors.machine.context import WARN_ON, Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.kpagecgroup import pack_kpagecgroup
from protocol.operations import READ, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.mm.memcontrol import Memcg


@attrs.define(eq=False)
class MemMap(Shared):
    """mem_map: the page structs, which outlive their pages. `slabs` are the slabs that existed at open."""

    slabs: tuple[Slab, ...]

    @classmethod
    def open(cls, machine: Machine) -> MemMap:
        """pfn_to_page() of every frame below max_pfn; later allocations lie above it."""
        slabs = (slab for cache in machine.all_caches for slab in cache.slabs)
        return cls(machine.buddy.actor, tuple(sorted(slabs, key=lambda slab: slab.pfn)))

    @property
    def label(self) -> str:
        return "mem_map"

    @operation(READ)
    def page_slab(self, slab: Slab) -> KmemCache | None:
        """PageSlab(page) and, if it is set, page->slab_cache."""
        return slab.slab_cache if slab in slab.slab_cache.slabs else None

    @operation(READ)
    def page_mem_cgroup(self, slab: Slab) -> Memcg | None:
        """page->mem_cgroup."""
        return slab.memcg


async def kpagecgroup_read(ctx: Context) -> bytes:
    """The whole of /proc/kpagecgroup, frame by frame."""
    inodes = [0] * ctx.machine.buddy.max_pfn
    mem_map = MemMap.open(ctx.machine)
    for slab in mem_map.slabs:
        for index in range(slab.pages):
            inodes[slab.pfn + index] = await page_cgroup_ino(ctx, mem_map, slab, index)
    return pack_kpagecgroup(inodes)


@kernel_fn("page_cgroup_ino", "mm/memcontrol.c", profiles="5.4-fixed")
async def page_cgroup_ino(ctx: Context, mem_map: MemMap, slab: Slab, index: int) -> int:
    """[54]: the first page of a slab belongs to the memcg of its cache. *index* is the page's index in *slab*."""
    with ctx.rcu_read_section:
        if index:
            return 0
        return await online_ino(ctx, await memcg_of_slab_or_page(ctx, mem_map, slab))


@kernel_fn("page_cgroup_ino", "mm/memcontrol.c", profiles="v4..5.3,v4#7")
async def page_cgroup_ino_v4(ctx: Context, mem_map: MemMap, slab: Slab, index: int) -> int:
    """[v4] to [M]: only the head of a compound page counts as a slab, so a slab of one page has no memcg (H14)."""
    with ctx.rcu_read_section:
        if index:
            return 0
        if not slab.order:
            return await online_ino(ctx, await ctx.ask(mem_map.page_mem_cgroup, slab))
        return await online_ino(ctx, await memcg_of_slab_or_page(ctx, mem_map, slab))


@kernel_fn("page_cgroup_ino", "mm/memcontrol.c", profiles="v3")
async def page_cgroup_ino_v3(ctx: Context, mem_map: MemMap, slab: Slab, index: int) -> int:
    """[v3]: every page of a slab, because the flag is read from the slab's first page."""
    with ctx.rcu_read_section:
        return await online_ino(ctx, await memcg_of_slab_or_page(ctx, mem_map, slab))


@kernel_fn("page_cgroup_ino", "mm/memcontrol.c", profiles="original..v4#6,v1..v2")
async def page_cgroup_ino_original(ctx: Context, mem_map: MemMap, slab: Slab, index: int) -> int:
    """[O] to [v4#6], [v1], [v2]: page.mem_cgroup. [O] to [v4#4] set it in a slab's first page, the others never do."""
    with ctx.rcu_read_section:
        return 0 if index else await online_ino(ctx, await ctx.ask(mem_map.page_mem_cgroup, slab))


@kernel_fn("page_cgroup_ino", "mm/memcontrol.c", profiles="6.12..")
async def page_cgroup_ino_6_12(ctx: Context, mem_map: MemMap, slab: Slab, index: int) -> int:
    """KERNEL-today 23: a slab belongs to no memcg, its objects do; all its pages read as 0."""
    with ctx.rcu_read_section:
        return 0 if index else await online_ino(ctx, await ctx.ask(mem_map.page_mem_cgroup, slab))


async def memcg_of_slab_or_page(ctx: Context, mem_map: MemMap, slab: Slab) -> Memcg | None:
    """The memcg of the cache if the page still belongs to a slab; the cache may be freed before its memcg is read."""
    s = await ctx.ask(mem_map.page_slab, slab)  # may be stale from here on
    if s is None:
        return await ctx.ask(mem_map.page_mem_cgroup, slab)
    return await memcg_from_slab_page(ctx, s)


@kernel_fn("memcg_from_slab_page", "mm/slab.h", profiles="v6..5.4-fixed")
async def memcg_from_slab_page(ctx: Context, s: KmemCache) -> Memcg | None:
    """The present memcg of the slab's cache; a root cache has none."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    return None if s.is_root_cache else await ctx.ask(s.read_memcg)


@kernel_fn("memcg_from_slab_page", "mm/slab.h", profiles="v3..v5,v4#7")
async def memcg_from_slab_page_v3(ctx: Context, s: KmemCache) -> Memcg | None:
    """[v3] to [v5]: warn if RCU does not protect the memcg."""
    WARN_ON(ctx, not ctx.rcu_nesting, "memcg_from_slab_page: !rcu_read_lock_held()")
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    return None if s.is_root_cache else await ctx.ask(s.read_memcg)


async def online_ino(ctx: Context, memcg: Memcg | None) -> int:
    """The inode of the closest online ancestor; 0 if there is none."""
    while memcg is not None and CssFlags.ONLINE not in await ctx.ask(memcg.css.read_flags):
        memcg = memcg.parent
    return 0 if memcg is None else cgroup_ino(memcg.css.cgroup)
