"""Shrinkers, and what each memcg knows of them. mm/shrinker.c @6.12; KERNEL-today 13.

A memcg has, for each node, a shrinker_info: units with the bits and the deferred work of 64 shrinkers each. The infos
are made when the memcg goes online, and replaced by longer ones when there are more shrinkers. The units stay the same
and live as long as the memcg. Reclaim needs no lock: RCU keeps an info, a reference keeps a shrinker.

The bits themselves are in `Memcg.shrinker_maps`, as on the kernels before.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.rcupdate import kfree_rcu
from actors.linux.include.slab import kmalloc
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_iter, mem_cgroup_online
from actors.linux.mm.vmscan import (
    SHRINK_BATCH,
    SHRINK_EMPTY,
    SHRINK_STOP,
    ScanTarget,
    ShrinkControl,
    Shrinker,
)
from actors.machine.context import WARN_ON, Context, deref
from actors.machine.gfp import GFP_KERNEL, Gfp
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, Access, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine

SHRINKER_UNIT_BITS = 64


# -- structures -------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class ShrinkerInfoUnit(Shared):
    """struct shrinker_info_unit without the bits: the deferred work of shrinkers on one memcg and node, by offset."""

    name: str
    nr_deferred: dict[int, int] = attrs.field(factory=lambda: defaultdict(int), init=False)

    @property
    def label(self) -> str:
        return f"shrinker_info_unit of {self.name}"

    @operation(UPDATE, cost=ATOMIC_NS)
    def xchg_deferred(self, offset: int) -> int:
        """atomic_long_xchg(&unit->nr_deferred[offset], 0)."""
        nr, self.nr_deferred[offset] = self.nr_deferred[offset], 0
        return nr

    @operation(READ)
    def read_deferred(self, offset: int) -> int:
        return self.nr_deferred[offset]

    @operation(UPDATE, cost=ATOMIC_NS)
    def add_deferred(self, offset: int, nr: int) -> None:
        self.nr_deferred[offset] += nr


@attrs.define(eq=False)
class ShrinkerInfo(Shared):
    """struct shrinker_info of one memcg and node: units for the first `map_nr_max` shrinker ids."""

    name: str
    unit: tuple[ShrinkerInfoUnit, ...] = ()

    @property
    def label(self) -> str:
        return f"shrinker_info of {self.name}"

    @property
    def map_nr_max(self) -> int:
        """The number of ids that have a place."""
        return len(self.unit) * SHRINKER_UNIT_BITS

    @operation(READ)
    def read_nr_max(self) -> int:
        return self.map_nr_max

    @operation(READ)
    def find_unit(self, index: int) -> ShrinkerInfoUnit | None:
        """info->unit[index]; None if it is at or above map_nr_max."""
        return self.unit[index] if index < len(self.unit) else None

    def grown(self, nr_max: int) -> ShrinkerInfo:
        """An info with the same units, and new ones up to *nr_max* ids; it is not published."""
        missing = nr_max // SHRINKER_UNIT_BITS - len(self.unit)
        new = (ShrinkerInfoUnit(self.actor, self.name) for _ in range(missing))
        return ShrinkerInfo(self.actor, self.name, (*self.unit, *new))


@attrs.define(eq=False)
class ShrinkerInfos(Shared):
    """The pointers mem_cgroup_per_node.shrinker_info of one memcg, by node: memory of that memcg."""

    memcg: Memcg
    by_node: list[ShrinkerInfo | None]

    @property
    def label(self) -> str:
        return f"shrinker_info pointers of {self.memcg.name}"

    @operation(READ)
    def read(self, nid: int) -> ShrinkerInfo | None:
        """rcu_dereference(pn->shrinker_info)."""
        self._use_memcg(READ)
        return self.by_node[nid]

    @operation(UPDATE)
    def assign(self, nid: int, info: ShrinkerInfo | None) -> None:
        """rcu_assign_pointer(pn->shrinker_info, info)."""
        self._use_memcg(READ)
        self.by_node[nid] = info

    def _use_memcg(self, access: Access) -> None:
        """Record the access to memory that is freed with the memcg."""
        self.memcg.touch_part("shrinker_info", access)
        if self.memcg.freed is not None:
            self.actor.world.raise_use_after_free(self.memcg)


def infos_of(machine: Machine, memcg: Memcg) -> ShrinkerInfos:
    """memcg->nodeinfo[]: where the infos of *memcg* are. The root, which is not put online, has its infos at once."""
    infos = machine.shrinkers.infos
    if memcg not in infos:
        by_node: list[ShrinkerInfo | None] = [None] * machine.config.nodes
        if memcg.is_root:
            nr_max = machine.shrinkers.nr_max
            by_node = [new_info(memcg, nid).grown(nr_max) for nid in range(machine.config.nodes)]
        infos[memcg] = ShrinkerInfos(memcg.actor, memcg, by_node)
    return infos[memcg]


def new_info(memcg: Memcg, nid: int) -> ShrinkerInfo:
    """An info without units."""
    return ShrinkerInfo(memcg.actor, f"{memcg.name}, node {nid}")


# -- the infos of a memcg ---------------------------------------------------------------------------------------------


@kernel_fn("alloc_shrinker_info", "mm/shrinker.c", profiles="6.12..")
async def alloc_shrinker_info(ctx: Context, memcg: Memcg) -> bool:
    """Make the infos of a memcg that goes online; False is -ENOMEM. KERNEL-today 13.1."""
    shrinkers, infos = ctx.machine.shrinkers, infos_of(ctx.machine, memcg)
    async with MutexHeld(ctx, shrinkers.mutex):
        for nid in range(ctx.machine.config.nodes):
            if not kmalloc(ctx, GFP_KERNEL, "shrinker_info"):
                await free_infos(ctx, infos)
                return False
            await ctx.ask(infos.assign, nid, new_info(memcg, nid).grown(shrinkers.nr_max))
    return True


@kernel_fn("free_shrinker_info", "mm/shrinker.c", profiles="7.2..")
async def free_shrinker_info_7_2(ctx: Context, memcg: Memcg) -> None:
    """[7.2] As before, in a function of its own that the mutex is held for."""
    async with MutexHeld(ctx, ctx.machine.shrinkers.mutex):
        await __free_shrinker_info(ctx, memcg)
    del ctx.machine.shrinkers.infos[memcg]


@kernel_fn("__free_shrinker_info", "mm/shrinker.c", profiles="7.2..")
async def __free_shrinker_info(ctx: Context, memcg: Memcg) -> None:
    await free_infos(ctx, infos_of(ctx.machine, memcg))


@kernel_fn("free_shrinker_info", "mm/shrinker.c", profiles="6.12")
async def free_shrinker_info(ctx: Context, memcg: Memcg) -> None:
    """Free the infos and units with the memcg, which has no users any more. KERNEL-today 13.1."""
    async with MutexHeld(ctx, ctx.machine.shrinkers.mutex):
        await free_infos(ctx, infos_of(ctx.machine, memcg))
    del ctx.machine.shrinkers.infos[memcg]


async def free_infos(ctx: Context, infos: ShrinkerInfos) -> None:
    """Free the infos that there are, without a grace period; shrinker_mutex is held."""
    for nid in range(len(infos.by_node)):
        info = await ctx.ask(infos.read, nid)
        if info is not None:
            ctx.kfree(*info.unit, info)
            await ctx.ask(infos.assign, nid, None)


@kernel_fn("expand_shrinker_info", "mm/shrinker.c", profiles="6.12..")
async def expand_shrinker_info(ctx: Context, new_id: int) -> None:
    """Give all memcgs a place for *new_id*, those included that are not online yet; shrinker_mutex is held."""
    root = ctx.machine.root_mem_cgroup
    new_nr_max = (new_id // SHRINKER_UNIT_BITS + 1) * SHRINKER_UNIT_BITS
    memcg = await mem_cgroup_iter(ctx, root, None)
    while memcg is not None:
        await expand_one_shrinker_info(ctx, memcg, new_nr_max)
        memcg = await mem_cgroup_iter(ctx, root, memcg)
    await ctx.ask(ctx.machine.shrinkers.set_nr_max, new_nr_max)


@kernel_fn("expand_one_shrinker_info", "mm/shrinker.c", profiles="6.12..")
async def expand_one_shrinker_info(ctx: Context, memcg: Memcg, new_nr_max: int) -> None:
    """Replace the infos of one memcg by longer ones; a memcg that is not online yet has none."""
    infos = infos_of(ctx.machine, memcg)
    for nid in range(ctx.machine.config.nodes):
        old = await ctx.ask(infos.read, nid)
        if old is None:
            return
        if new_nr_max > old.map_nr_max:
            await ctx.ask(infos.assign, nid, old.grown(new_nr_max))
            await kfree_rcu(ctx, old)


@kernel_fn("set_shrinker_bit", "mm/shrinker.c", profiles="7.2..")
async def set_shrinker_bit_7_2(ctx: Context, memcg: Memcg | None, nid: int, shrinker_id: int) -> None:
    """[7.2] Mark that the shrinker may find objects of *memcg*; its unit is read after the check of the id."""
    if shrinker_id < 0 or memcg is None or memcg.is_root:
        return
    with ctx.rcu_read_section:
        info = await find_info(ctx, memcg, nid, "set_shrinker_bit(): info->map_nr_max")
        is_beyond = shrinker_id >= await ctx.ask(info.read_nr_max)
        if not WARN_ON(ctx, is_beyond, "set_shrinker_bit: shrinker_id >= info->map_nr_max"):
            unit = await ctx.ask(info.find_unit, shrinker_id // SHRINKER_UNIT_BITS)
            deref(unit, "set_shrinker_bit(): unit->map")
            await ctx.ask(memcg.set_shrinker_bit, nid, shrinker_id)


@kernel_fn("set_shrinker_bit", "mm/shrinker.c", profiles="6.12")
async def set_shrinker_bit(ctx: Context, memcg: Memcg | None, nid: int, shrinker_id: int) -> None:
    """Mark that the shrinker may find objects of *memcg*; the root needs no mark. KERNEL-today 13.2."""
    if shrinker_id < 0 or memcg is None or memcg.is_root:
        return
    with ctx.rcu_read_section:
        info = await find_info(ctx, memcg, nid, "set_shrinker_bit(): info->map_nr_max")
        unit = await ctx.ask(info.find_unit, shrinker_id // SHRINKER_UNIT_BITS)
        if not WARN_ON(ctx, unit is None, "set_shrinker_bit: shrinker_id >= info->map_nr_max"):
            await ctx.ask(memcg.set_shrinker_bit, nid, shrinker_id)


async def find_info(ctx: Context, memcg: Memcg, nid: int, text: str) -> ShrinkerInfo:
    """The info of a memcg that must have one; *text* is the C expression that uses it."""
    return deref(await ctx.ask(infos_of(ctx.machine, memcg).read, nid), text)


@kernel_fn("reparent_shrinker_deferred", "mm/shrinker.c", profiles="6.12..")
async def reparent_shrinker_deferred(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-today 13.4: add the deferred work to the parent's. An id without a shrinker has none."""
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    shrinkers = ctx.machine.shrinkers
    async with MutexHeld(ctx, shrinkers.mutex):
        for nid in range(ctx.machine.config.nodes):
            child = await find_info(ctx, memcg, nid, "reparent_shrinker_deferred(): child_info->map_nr_max")
            to = await find_info(ctx, parent, nid, "reparent_shrinker_deferred(): parent_info->unit")
            for shrinker_id in sorted(shrinkers.by_id):
                index, offset = divmod(shrinker_id, SHRINKER_UNIT_BITS)
                if index < len(child.unit) and (nr := await ctx.ask(child.unit[index].read_deferred, offset)):
                    await ctx.ask(to.unit[index].add_deferred, offset, nr)


# -- the life of a shrinker -------------------------------------------------------------------------------------------


@kernel_fn("prealloc_shrinker", "mm/shrinker.c", profiles="6.12..", known_as="shrinker_alloc")
async def shrinker_alloc(ctx: Context, shrinker: Shrinker) -> None:
    """[6.12] Give a memcg-aware shrinker its id, and all memcgs a place for it; reclaim does not call it yet."""
    shrinkers = ctx.machine.shrinkers
    async with MutexHeld(ctx, shrinkers.mutex):
        shrinker.id = await ctx.ask(shrinkers.idr_alloc, shrinker)
        if shrinker.id >= shrinkers.nr_max:
            await expand_shrinker_info(ctx, shrinker.id)


@kernel_fn("register_shrinker_prepared", "mm/shrinker.c", profiles="6.12..", known_as="shrinker_register")
async def shrinker_register(ctx: Context, shrinker: Shrinker) -> None:
    """[6.12] Put the shrinker on the list, and let look-ups get references to it."""
    async with MutexHeld(ctx, ctx.machine.shrinkers.mutex):
        await ctx.ask(ctx.machine.shrinkers.list_add_tail_rcu, shrinker)
    await ctx.ask(shrinker.set_registered)


@kernel_fn("shrinker_put", "include/linux/shrinker.h", profiles="6.12..")
async def shrinker_put(ctx: Context, shrinker: Shrinker) -> None:
    """Drop a reference; the last one lets shrinker_free() go on, which may free the shrinker."""
    if await ctx.ask(shrinker.put):
        await ctx.ask(shrinker.done.complete)


@kernel_fn("shrinker_free", "mm/shrinker.c", profiles="6.12..")
async def shrinker_free(ctx: Context, shrinker: Shrinker) -> None:
    """KERNEL-today 13.5: wait for its users, take a registered shrinker from list and idr, free it by RCU."""
    shrinkers = ctx.machine.shrinkers
    await shrinker_put(ctx, shrinker)
    await ctx.ask(shrinker.done.wait_for_completion)
    async with MutexHeld(ctx, shrinkers.mutex):
        await ctx.ask(shrinkers.list_del_rcu, shrinker)
        await ctx.ask(shrinkers.idr_remove, shrinker.id)
    await call_rcu(ctx, shrinker.rcu, shrinker_free_rcu_cb)


@kernel_fn("shrinker_free_rcu_cb", "mm/shrinker.c", profiles="6.12..")
async def shrinker_free_rcu_cb(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free the shrinker."""
    shrinker = head.container
    assert isinstance(shrinker, Shrinker)
    ctx.kfree(shrinker, shrinker.done)


# -- shrink_slab ------------------------------------------------------------------------------------------------------


def scan_target(freeable: int, nr_deferred: int, seeks: int, priority: int) -> ScanTarget:
    """The arithmetic of do_shrink_slab(): of the deferred work, too, only the part for *priority* is done now."""
    delta = (freeable >> priority) * 4 // seeks if seeks else freeable // 2
    return ScanTarget(min((nr_deferred >> priority) + delta, 2 * freeable), nr_deferred + delta)


@kernel_fn("do_shrink_slab", "mm/shrinker.c", profiles="6.12..")
async def do_shrink_slab(ctx: Context, shrinkctl: ShrinkControl, shrinker: Shrinker, priority: int) -> int:
    """[6.12] As before, but deferred work is kept by memcg. KERNEL-today 13.3."""
    freeable = await shrinker.count_objects(ctx, shrinker, shrinkctl)
    if freeable in (0, SHRINK_EMPTY):
        return freeable
    nr = await xchg_nr_deferred(ctx, shrinker, shrinkctl)
    target = scan_target(freeable, nr, shrinker.seeks, priority)
    batch_size = shrinker.batch or SHRINK_BATCH
    freed, scanned, total_scan = 0, 0, target.total_scan
    while total_scan >= batch_size or total_scan >= freeable:
        shrinkctl.nr_to_scan = shrinkctl.nr_scanned = min(batch_size, total_scan)
        ret = await shrinker.scan_objects(ctx, shrinker, shrinkctl)
        if ret == SHRINK_STOP:
            break
        freed += ret
        total_scan -= shrinkctl.nr_scanned
        scanned += shrinkctl.nr_scanned
    next_deferred = min(max(target.with_deferred - scanned, 0), 2 * freeable)
    await add_nr_deferred(ctx, next_deferred, shrinker, shrinkctl)
    return freed


@kernel_fn("xchg_nr_deferred", "mm/shrinker.c", profiles="6.12..")
async def xchg_nr_deferred(ctx: Context, shrinker: Shrinker, sc: ShrinkControl) -> int:
    """Take the deferred work of one memcg and node."""
    index, offset = divmod(shrinker.id, SHRINKER_UNIT_BITS)
    with ctx.rcu_read_section:
        info = await find_info(ctx, sc.memcg, sc.nid, "xchg_nr_deferred_memcg(): info->unit")
        unit = deref(await ctx.ask(info.find_unit, index), "xchg_nr_deferred_memcg(): unit->nr_deferred")
        return await ctx.ask(unit.xchg_deferred, offset)


@kernel_fn("add_nr_deferred", "mm/shrinker.c", profiles="6.12..")
async def add_nr_deferred(ctx: Context, nr: int, shrinker: Shrinker, sc: ShrinkControl) -> None:
    """Add to the deferred work of one memcg and node. The memcg may be offline by now: then nobody will do it."""
    index, offset = divmod(shrinker.id, SHRINKER_UNIT_BITS)
    with ctx.rcu_read_section:
        info = await find_info(ctx, sc.memcg, sc.nid, "add_nr_deferred_memcg(): info->unit")
        unit = deref(await ctx.ask(info.find_unit, index), "add_nr_deferred_memcg(): unit->nr_deferred")
        await ctx.ask(unit.add_deferred, offset, nr)


@kernel_fn("shrink_slab", "mm/shrinker.c", profiles="6.12..")
async def shrink_slab(ctx: Context, gfp_mask: Gfp, nid: int, memcg: Memcg, priority: int) -> int:
    """[6.12] Shrink *memcg*'s slabs on a node: for the root, with all shrinkers, under RCU, with a reference each."""
    if not memcg.is_root:
        return await shrink_slab_memcg(ctx, gfp_mask, nid, memcg, priority)
    shrinkers, freed = ctx.machine.shrinkers, 0
    ctx.rcu_read_lock()
    shrinker = await ctx.ask(shrinkers.next_shrinker, None)
    while shrinker is not None:
        if await ctx.ask(shrinker.try_get):
            ctx.rcu_read_unlock()
            ret = await do_shrink_slab(ctx, ShrinkControl(gfp_mask, nid, memcg), shrinker, priority)
            freed += 0 if ret == SHRINK_EMPTY else ret
            ctx.rcu_read_lock()  # before the put, so that the shrinker is there for the next step of the walk
            await shrinker_put(ctx, shrinker)
        shrinker = await ctx.ask(shrinkers.next_shrinker, shrinker)
    ctx.rcu_read_unlock()
    return freed


@kernel_fn("shrink_slab_memcg", "mm/shrinker.c", profiles="6.12..")
async def shrink_slab_memcg(ctx: Context, gfp_mask: Gfp, nid: int, memcg: Memcg, priority: int) -> int:
    """[6.12] Shrink an online memcg other than the root, with the shrinkers whose bit is set. KERNEL-today 13.3."""
    if not await mem_cgroup_online(ctx, memcg):
        return 0
    freed, index = 0, 0
    while await has_unit(ctx, memcg, nid, index):
        bit = await ctx.ask(memcg.find_next_shrinker_bit, nid, index * SHRINKER_UNIT_BITS - 1)
        while bit is not None and bit // SHRINKER_UNIT_BITS == index:
            freed += await shrink_by_id(ctx, ShrinkControl(gfp_mask, nid, memcg), bit, priority)
            bit = await ctx.ask(memcg.find_next_shrinker_bit, nid, bit)
        index += 1
    return freed


async def has_unit(ctx: Context, memcg: Memcg, nid: int, index: int) -> bool:
    """Whether the present info has a unit of that index; the unit will live as long as the memcg."""
    with ctx.rcu_read_section:
        info = await ctx.ask(infos_of(ctx.machine, memcg).read, nid)
        return info is not None and await ctx.ask(info.find_unit, index) is not None


async def shrink_by_id(ctx: Context, sc: ShrinkControl, shrinker_id: int, priority: int) -> int:
    """The body of the loop: clear the bit of a shrinker that is gone, or that finds nothing.

    An object may have been added between the count and the clearing, so the shrinker is called once more.
    """
    with ctx.rcu_read_section:
        shrinker = await ctx.ask(ctx.machine.shrinkers.find, shrinker_id)
        if shrinker is None or not await ctx.ask(shrinker.try_get):
            await ctx.ask(sc.memcg.clear_shrinker_bit, sc.nid, shrinker_id)
            return 0
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await ctx.ask(sc.memcg.clear_shrinker_bit, sc.nid, shrinker_id)
        await pass_over(ctx, shrinker)
        return 0
    ret = await do_shrink_slab(ctx, sc, shrinker, priority)
    if ret == SHRINK_EMPTY:
        await ctx.ask(sc.memcg.clear_shrinker_bit, sc.nid, shrinker_id)
        ret = await do_shrink_slab(ctx, sc, shrinker, priority)
        if ret == SHRINK_EMPTY:
            ret = 0
        else:
            await set_shrinker_bit(ctx, sc.memcg, sc.nid, shrinker_id)
    await shrinker_put(ctx, shrinker)
    return ret


@kernel_fn("pass_over", "mm/shrinker.c", profiles="7.2..", known_as="shrink_slab_memcg")
async def pass_over(ctx: Context, shrinker: Shrinker) -> None:
    """KERNEL-7.2, row 13.3: without kmem accounting there is nothing to do for this shrinker."""
    await shrinker_put(ctx, shrinker)


@kernel_fn("pass_over", "mm/shrinker.c", profiles="6.12", known_as="shrink_slab_memcg")
async def pass_over_6_12(ctx: Context, shrinker: Shrinker) -> None:
    """[6.12] The reference is forgotten. Nobody comes here: the first memcg switches accounting on for ever."""
