"""The accounted memory of a memcg itself: its statistics. mm/memcontrol.c, mm/percpu.c @6.12; KERNEL-today 4.1, 4.5.

mkdir(2) charges it to the parent's obj_cgroup, and the kworker that frees the memcg uncharges it. So this kworker's CPU
has the parent in both of its stocks afterwards, and gives back what they had before. The root is not charged. From 7.2
on the struct itself and its parts for the nodes come from caches of their own, and are not charged (KERNEL-7.2 N10).

The caches kmalloc-cg-N and the chunks of per-CPU memory are not modelled, only what is charged for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.mm.obj_cgroup import (
    OBJ_EXT_SIZE,
    ObjCgroup,
    charge_object,
    current_obj_cgroup,
    mod_objcg_state,
    obj_cgroup_charge,
    obj_cgroup_get,
    obj_cgroup_put,
    obj_cgroup_uncharge,
    refill_obj_stock,
    uncharge_object,
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
LRUVEC_STATS_7_2 = 2048
"""lruvec_stats has 1128 bytes from 7.2 on."""
VMSTATS_PERCPU, LRUVEC_STATS_PERCPU = 1216, 752
"""Bytes for each CPU of the two per-CPU areas of 7.2. With the pointers: 7872 bytes for two CPUs, as in the capture."""
PCPU_MIN_ALLOC_SIZE = 4
"""The unit of per-CPU memory: there is a pointer to an obj_cgroup for each."""


@attrs.define(eq=False)
class AccountedMemory(Shared):
    """Memory from kmalloc() or alloc_percpu() with __GFP_ACCOUNT. Only its owner uses it, so no access is a step.

    `size` has the pointer to the obj_cgroup in it. `objcg` holds a reference; it is None if nobody is charged. `nid` is
    the node of the slab.
    """

    name: str
    size: int
    is_percpu: bool = False
    nid: int = 0
    objcg: ObjCgroup | None = attrs.field(default=None, init=False)

    @property
    def label(self) -> str:
        return self.name

    def book(self, objcg: ObjCgroup, allocations: int) -> None:
        """Shadow accounting: the memory is charged to *objcg*, or no longer is."""
        objcg.book(allocations)
        objcg.other_allocations += allocations
        objcg.other_bytes += allocations * self.size


@kernel_fn("charge_statistics", "mm/memcontrol.c", profiles="7.2..", known_as="mem_cgroup_alloc")
async def charge_statistics_7_2(ctx: Context, memcg: Memcg) -> bool:
    """KERNEL-7.2 N10: vmstats with its per-CPU part, then the same for each node; False is -ENOMEM."""
    if not await charge_pair(ctx, memcg, "vmstats", (VMSTATS, VMSTATS_PERCPU), ctx.numa_node):
        return False
    for nid in range(len(memcg.lruvec_stats)):
        sizes = (LRUVEC_STATS_7_2, LRUVEC_STATS_PERCPU)
        if not await charge_pair(ctx, memcg, f"lruvec_stats of node {nid}", sizes, nid):
            return False
    return True


async def charge_pair(ctx: Context, memcg: Memcg, what: str, sizes: tuple[int, int], nid: int) -> bool:
    """Charge an object on node *nid*, and its per-CPU area with a pointer for each 4 bytes of one CPU's part."""
    size, percpu_size = sizes
    stats = AccountedMemory(memcg.actor, f"{what} of {memcg.name}", size + OBJ_EXT_SIZE, nid=nid)
    if not await __memcg_slab_post_alloc_hook(ctx, stats):
        return False
    memcg.statistics.append(stats)
    bytes_ = percpu_size * len(ctx.machine.cpus) + percpu_size // PCPU_MIN_ALLOC_SIZE * OBJ_EXT_SIZE
    percpu = AccountedMemory(memcg.actor, f"per-CPU {what} of {memcg.name}", bytes_, is_percpu=True)
    if not await charge(ctx, percpu):
        return False
    memcg.statistics.append(percpu)
    return True


@kernel_fn("charge_statistics", "mm/memcontrol.c", profiles="6.12", known_as="mem_cgroup_alloc")
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


@kernel_fn("uncharge_statistics", "mm/memcontrol.c", profiles="7.2..", known_as="__mem_cgroup_free")
async def uncharge_statistics_7_2(ctx: Context, memcg: Memcg) -> None:
    """The nodes go first, each with its per-CPU area before the object; then vmstats before its per-CPU area."""
    of_memcg, of_nodes = memcg.statistics[:2], memcg.statistics[2:]
    memcg.statistics.clear()
    pairs = (of_nodes[at : at + 2] for at in range(0, len(of_nodes), 2))
    for memory in (*(memory for pair in pairs for memory in reversed(pair)), *of_memcg):
        if memory.is_percpu:
            await free_percpu(ctx, memory)
        else:
            await __memcg_slab_free_hook(ctx, memory)


@kernel_fn("uncharge_statistics", "mm/memcontrol.c", profiles="6.12", known_as="__mem_cgroup_free")
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
    "memcg_kmalloc_post_alloc_hook", "mm/memcontrol.c", profiles="7.2..", known_as="__memcg_slab_post_alloc_hook"
)
async def __memcg_slab_post_alloc_hook_7_2(ctx: Context, memory: AccountedMemory) -> bool:
    """The hook for an object of kmalloc-cg-N; its bytes are counted with the lock of the stock held."""
    objcg = await current_obj_cgroup(ctx)
    if objcg is None or objcg.is_root:
        return True
    if not await charge_object(ctx, objcg, GFP_KERNEL, memory.size, (memory.nid, ITEM)):
        return False
    await obj_cgroup_get(ctx, objcg)
    memory.objcg = objcg
    memory.book(objcg, 1)
    return True


@kernel_fn("memcg_kmalloc_post_alloc_hook", "mm/memcontrol.c", profiles="6.12", known_as="__memcg_slab_post_alloc_hook")
async def __memcg_slab_post_alloc_hook(ctx: Context, memory: AccountedMemory) -> bool:
    """The hook for an object of kmalloc-cg-N."""
    charged = await charge(ctx, memory)
    if charged and memory.objcg is not None:
        await mod_objcg_state(ctx, memory.objcg, 0, ITEM, memory.size)
    return charged


@kernel_fn("memcg_kmalloc_free_hook", "mm/memcontrol.c", profiles="7.2..", known_as="__memcg_slab_free_hook")
async def __memcg_slab_free_hook_7_2(ctx: Context, memory: AccountedMemory) -> None:
    """The hook for an object of kmalloc-cg-N."""
    objcg, memory.objcg = memory.objcg, None
    if objcg is None:
        return
    await uncharge_object(ctx, objcg, memory.size, (memory.nid, ITEM))
    memory.book(objcg, -1)
    await obj_cgroup_put(ctx, objcg)


@kernel_fn("memcg_kmalloc_free_hook", "mm/memcontrol.c", profiles="6.12", known_as="__memcg_slab_free_hook")
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
