"""slabinfo_full: every cache, zombies included, with its first and its present memcg. Not a Linux file; KERNEL.md 10.4.

The reader works as Shakeel Butt described Google's file on linux-mm, 20 June 2019: not in one section like
memcg_slabinfo, but memcg by memcg, dying ones included, releasing slab_mutex in between. So it delays other tasks only
briefly, and a cache that is reparented in between may be shown twice, or not at all. A kernel could not find caches
that are on no list and only wait for their structs to be freed; `all_rows` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.files.slabinfo import ULONG, get_slabinfo
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.lib.percpu_refcount import PercpuRef
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.memcontrol import KmemState, Memcg, mem_cgroup_iter
from actors.machine.context import Context
from actors.oracles.ledger import is_published
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.slabinfo_full import CacheState, FullRow, render_slabinfo_full

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine


@kernel_fn("slabinfo_full_show", "mm/slab_common.c", profiles="..5.4-fixed")
async def slabinfo_full_show(ctx: Context) -> str:
    """No function of Linux: root caches, then the caches of each memcg, then caches that wait for freed slabs."""
    machine, rows = ctx.machine, []
    async with MutexHeld(ctx, machine.slab_mutex):
        rows += [await full_row(ctx, s) for s in await ctx.ask(machine.slab_root_caches.list)]
    memcg = await mem_cgroup_iter(ctx, machine.root_mem_cgroup, None)
    while memcg is not None:
        async with MutexHeld(ctx, machine.slab_mutex):
            rows += [await full_row(ctx, s) for s in await ctx.ask(memcg.list_kmem_caches)]
        memcg = await mem_cgroup_iter(ctx, machine.root_mem_cgroup, memcg)
    async with MutexHeld(ctx, machine.slab_mutex):
        rows += [await full_row(ctx, s) for s in await ctx.ask(machine.slab_caches_to_rcu_destroy.list)]
    return render_slabinfo_full(rows)


@kernel_fn("slabinfo_full_show", "mm/slab_common.c", profiles="6.12..")
async def slabinfo_full_show_6_12(ctx: Context) -> str:
    """No function of Linux: all caches; none belongs to a memcg. KERNEL-today 16.1."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        rows = [await full_row(ctx, s) for s in await ctx.ask(ctx.machine.slab_caches.list)]
    return render_slabinfo_full(rows)


async def all_rows(ctx: Context) -> str:
    """The whole file for the crash reader, with every cache whose struct is not freed."""
    caches = sorted(ctx.machine.all_caches, key=lambda s: (not s.is_root_cache, s.memcg is None))
    return render_slabinfo_full([await full_row(ctx, s) for s in caches])


async def full_row(ctx: Context, s: KmemCache) -> FullRow:
    """One cache; slab_mutex keeps everything but its counts unchanged."""
    sinfo = await get_slabinfo(ctx, s)
    return FullRow(
        s.root.name,
        None if s.is_root_cache else owner_of(s),
        None if s.memcg is None else memcg_name(s.memcg),
        state_of(ctx.machine, s),
        sinfo.active_objs % ULONG,
        sinfo.num_objs % ULONG,
        sinfo.active_slabs % ULONG,
        sinfo.num_slabs % ULONG,
        ctx.world.now - ctx.machine.all_caches[s],
    )


def owner_of(s: KmemCache) -> str:
    """The `serial:name` in a child cache's own name, which never changes."""
    return s.name[len(s.root.name) + 1 : -1]


def memcg_name(memcg: Memcg) -> str:
    """`serial:name`, as in the names of the caches that are created for it."""
    cgroup = memcg.css.cgroup
    return f"{cgroup.serial_nr}:{cgroup.name}"


def state_of(machine: Machine, s: KmemCache) -> CacheState:
    """The stage of the cache's lifecycle."""
    if s not in machine.slab_caches.caches and not is_new(s):
        return CacheState.SHUT
    if s.is_root_cache:
        return CacheState.DYING if s.dying else CacheState.ACTIVE
    if is_killed(s):
        return CacheState.DRAINING if s.percpu_refcnt.is_atomic else CacheState.KILLED
    return CacheState.ACTIVE if is_published(s) or is_new(s) or is_linked_to_owner(s) else CacheState.DEACTIVATED


def is_killed(s: KmemCache) -> bool:
    """Whether it has dropped its own reference; a cache without a percpu reference count never does."""
    return isinstance(s.refcnt, PercpuRef) and s.refcnt.is_dying


def is_new(s: KmemCache) -> bool:
    """Whether it was created but is on no list yet.

    A cache that has left the lists has a memcg, or was killed, or goes with its root; on 6.12 it has no user any more.
    """
    return s.memcg is None and s.root.refcount > 0 and not s.root.dying and not is_killed(s)


def is_linked_to_owner(s: KmemCache) -> bool:
    """Whether its memcg is still online and the one it was created for: it is about to be published, or just was."""
    return s.memcg is not None and s.memcg.kmem_state is KmemState.ONLINE and memcg_name(s.memcg) == owner_of(s)
