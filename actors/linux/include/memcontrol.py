"""Objects and their obj_cgroups, for the slab allocator and the LRU lists: include/linux/memcontrol.h @6.12."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.machine.gfp import Gfp
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.kernel.workqueue import Work
    from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
    from actors.linux.mm.list_lru import ListLru
    from actors.linux.mm.memcontrol import Memcg, Stock
    from actors.linux.mm.obj_cgroup import ObjCgroup, ObjStock


@extern
async def memcg_slab_post_alloc_hook(
    ctx: Context, s: KmemCache, lru: ListLru | None, gfp: Gfp, objects: Sequence[SlabObject]
) -> bool:
    """Charge new *objects* to the current obj_cgroup, if they are accounted; False is -ENOMEM.

    KERNEL-today 7.1, 7.2. The caller frees objects that could not be charged, without the free hook.
    """


@extern
async def memcg_slab_free_hook(ctx: Context, s: KmemCache, objects: Sequence[SlabObject]) -> None:
    """Uncharge *objects* of one slab, before they go to a freelist. KERNEL-today 7.3."""


@extern
async def mem_cgroup_from_slab_obj(ctx: Context, obj: SlabObject) -> Memcg | None:
    """The memcg that *obj* is charged to now, None if to none; under RCU. KERNEL-today 7.7."""


@extern
async def mem_cgroup_attach(ctx: Context, task: Context) -> None:
    """*task* has another memcg: it looks its obj_cgroup up again at its next allocation. KERNEL-today 6.5."""


@extern
async def mem_cgroup_fork(ctx: Context, task: Context) -> None:
    """A new *task* looks its obj_cgroup up at its first allocation. KERNEL-today 6.4."""


@extern
async def mem_cgroup_exit(ctx: Context) -> None:
    """Drop the exiting task's reference to its obj_cgroup. KERNEL-today 6.4."""


@extern
async def alloc_slab_obj_exts(ctx: Context, slab: Slab, *, new_slab: bool) -> bool:
    """Make the vector of obj_cgroups of a slab that has none; False if memory is short. KERNEL-today 7.4."""


@extern
async def free_slab_obj_exts(ctx: Context, slab: Slab) -> None:
    """Free this vector with the slab. KERNEL-today 7.5."""


# -- mm/memcontrol.c is four modules here: memcontrol calls these of obj_cgroup and memcg_memory ----------------------


@extern
async def obj_cgroup_alloc(ctx: Context, memcg: Memcg, nid: int) -> ObjCgroup | None:
    """Make an obj_cgroup for *memcg* and, from 7.2 on, for node *nid*; None is -ENOMEM. KERNEL-today 5.2."""


@extern
async def obj_cgroup_get(ctx: Context, objcg: ObjCgroup) -> None: ...


@extern
async def obj_cgroup_tryget(ctx: Context, objcg: ObjCgroup) -> bool: ...


@extern
async def obj_cgroup_put(ctx: Context, objcg: ObjCgroup | None) -> None: ...


@extern
async def memcg_reparent_objcgs(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """Give the obj_cgroup of *memcg*, and those that it inherited, to *parent*. KERNEL-today 5.3."""


@extern
async def drain_obj_stock(ctx: Context, stock: Stock) -> ObjCgroup | None:
    """Empty this CPU's stock of bytes; the caller puts the obj_cgroup after the lock is dropped. KERNEL-today 8.7."""


@extern
async def obj_stock_flush_required(ctx: Context, stock: Stock | ObjStock, root_memcg: Memcg) -> bool:
    """Whether a CPU's stock of bytes has a part of the subtree of *root_memcg*. KERNEL-today 8.6, KERNEL-7.2 N5.7."""


@extern
async def drain_local_obj_stock(ctx: Context, _work: Work | None = None) -> None:
    """Empty all slots of this CPU's stock of bytes, from 7.2 on. KERNEL-7.2 N5.7."""


@extern
async def charge_statistics(ctx: Context, memcg: Memcg) -> bool:
    """Charge the statistics of a new *memcg* to the active memcg; False is -ENOMEM. KERNEL-today 4.1."""


@extern
async def uncharge_statistics(ctx: Context, memcg: Memcg) -> None:
    """Uncharge the statistics of *memcg*, which is about to be freed. KERNEL-today 4.5."""
