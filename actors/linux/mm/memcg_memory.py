"""The accounted memory of a memcg itself: its statistics. mm/memcontrol.c, mm/percpu.c @6.12; KERNEL-today 4.1, 4.5.

mkdir(2) charges it to the parent's obj_cgroup, and the kworker that frees the memcg uncharges it. So this kworker's CPU
has the parent in both of its stocks afterwards, and gives back what they had before. The root is not charged.

The caches kmalloc-cg-N and the chunks of per-CPU memory are not modelled, only what is charged for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.mm.obj_cgroup import (
    OBJ_EXT_SIZE,
    ObjCgroup,
    current_obj_cgroup,
    mod_objcg_state,
    obj_cgroup_charge,
    obj_cgroup_get,
    obj_cgroup_put,
    obj_cgroup_uncharge,
    refill_obj_stock,
)
from actors.linux.mm.vmstat import StatItem
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.mm.memcontrol import Memcg

ITEM = StatItem.NR_SLAB_UNRECLAIMABLE.value
PERCPU_BYTES = 3152
"""Bytes of statistics for each CPU, with the pointer to their obj_cgroup: memory.stat's percpu has 6304 for two CPUs.

The captures of 6.12 show one such uncharge when a memcg is freed, so the two per-CPU areas are taken for one.
"""
VMSTATS, LRUVEC_STATS = 2048, 1024
"""Bytes of memcg_vmstats and of lruvec_stats, in caches of these sizes: 3088 bytes of memory.stat's slab."""


@attrs.define(eq=False)
class AccountedMemory(Shared):
    """Memory from kmalloc() or alloc_percpu() with __GFP_ACCOUNT. Only its owner uses it, so no access is a step.

    `size` has the pointer to the obj_cgroup in it. `objcg` holds a reference; it is None if nobody is charged.
    """

    name: str
    size: int
    is_percpu: bool = False
    objcg: ObjCgroup | None = attrs.field(default=None, init=False)

    @property
    def label(self) -> str:
        return self.name

    def book(self, objcg: ObjCgroup, allocations: int) -> None:
        """Shadow accounting: the memory is charged to *objcg*, or no longer is."""
        objcg.book(allocations)
        objcg.other_allocations += allocations
        objcg.other_bytes += allocations * self.size


@kernel_fn("charge_statistics", "mm/memcontrol.c", profiles="6.12..", known_as="mem_cgroup_alloc")
async def charge_statistics(ctx: Context, memcg: Memcg) -> bool:
    """mem_cgroup_alloc(), the part of it that is charged, to the active memcg; False is -ENOMEM."""
    vmstats = AccountedMemory(memcg.actor, f"vmstats of {memcg.name}", VMSTATS + OBJ_EXT_SIZE)
    bytes_ = PERCPU_BYTES * len(ctx.machine.cpus)
    percpu = AccountedMemory(memcg.actor, f"per-CPU vmstats of {memcg.name}", bytes_, is_percpu=True)
    if not await __memcg_slab_post_alloc_hook(ctx, vmstats):
        return False
    memcg.statistics.append(vmstats)
    if not await charge(ctx, percpu):
        return False
    memcg.statistics.append(percpu)
    for nid in range(len(memcg.lruvec_stats)):
        stats = AccountedMemory(memcg.actor, f"lruvec_stats of {memcg.name}, node {nid}", LRUVEC_STATS + OBJ_EXT_SIZE)
        if not await __memcg_slab_post_alloc_hook(ctx, stats):
            return False
        memcg.statistics.append(stats)
    return True


@kernel_fn("uncharge_statistics", "mm/memcontrol.c", profiles="6.12..", known_as="__mem_cgroup_free")
async def uncharge_statistics(ctx: Context, memcg: Memcg) -> None:
    """__mem_cgroup_free(): those of the nodes go first, then vmstats, and its per-CPU part."""
    statistics = memcg.statistics[::-1]
    memcg.statistics.clear()
    for memory in statistics:
        if not memory.is_percpu:
            await __memcg_slab_free_hook(ctx, memory)
    for memory in statistics:
        if memory.is_percpu:
            await free_percpu(ctx, memory)


async def charge(ctx: Context, memory: AccountedMemory) -> bool:
    """Charge the bytes, and let *memory* hold a reference."""
    objcg = await current_obj_cgroup(ctx)
    if objcg is None or objcg.is_root:
        return True
    if not await obj_cgroup_charge(ctx, objcg, GFP_KERNEL, memory.size):
        return False
    await obj_cgroup_get(ctx, objcg)
    memory.objcg = objcg
    memory.book(objcg, 1)
    return True


@kernel_fn(
    "memcg_kmalloc_post_alloc_hook", "mm/memcontrol.c", profiles="6.12..", known_as="__memcg_slab_post_alloc_hook"
)
async def __memcg_slab_post_alloc_hook(ctx: Context, memory: AccountedMemory) -> bool:
    """The hook for an object of kmalloc-cg-N."""
    charged = await charge(ctx, memory)
    if charged and memory.objcg is not None:
        await mod_objcg_state(ctx, memory.objcg, 0, ITEM, memory.size)
    return charged


@kernel_fn("memcg_kmalloc_free_hook", "mm/memcontrol.c", profiles="6.12..", known_as="__memcg_slab_free_hook")
async def __memcg_slab_free_hook(ctx: Context, memory: AccountedMemory) -> None:
    """The hook for an object of kmalloc-cg-N; obj_cgroup_uncharge() is inlined, as in the hook for other caches."""
    objcg, memory.objcg = memory.objcg, None
    if objcg is None:
        return
    await refill_obj_stock(ctx, objcg, memory.size, allow_uncharge=True)
    await mod_objcg_state(ctx, objcg, 0, ITEM, -memory.size)
    memory.book(objcg, -1)
    await obj_cgroup_put(ctx, objcg)


async def free_percpu(ctx: Context, memory: AccountedMemory) -> None:
    """pcpu_memcg_free_hook(), with pcpu_lock held and IRQs off."""
    objcg, memory.objcg = memory.objcg, None
    if objcg is None:
        return
    with ctx.irq_section:
        await obj_cgroup_uncharge(ctx, objcg, memory.size)
        memory.book(objcg, -1)
        await obj_cgroup_put(ctx, objcg)
