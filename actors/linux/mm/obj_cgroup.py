"""obj_cgroup: whom an object is charged to, beyond the life of its memcg. mm/memcontrol.c @6.12; KERNEL-today 5 to 9.

A task charges its objects to the obj_cgroup of its memcg. Each object holds a reference to it. Removal of the memcg
gives the obj_cgroup to the parent: it changes one pointer, whatever the number of objects, and the memcg goes. A CPU
keeps the rest of a charged page in its stock, for the next objects of the same obj_cgroup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.list_lru import memcg_list_lru_alloc
from actors.linux.include.rcupdate import kfree_rcu
from actors.linux.include.rstat import __mod_memcg_lruvec_state, __mod_memcg_state
from actors.linux.include.slab import SlabFlags, kmalloc
from actors.linux.include.swap import lru_reparent_memcg
from actors.linux.kernel.cgroup.cgroup import css_put, css_tryget
from actors.linux.kernel.locking.locks import (
    LocalLockHeld,
    LocalLockIrqHeld,
    LocalTryLock,
    SpinLock,
    SpinLockIrqHeld,
    local_trylock,
    local_unlock,
    spin_lock_nested,
    spin_unlock,
)
from actors.linux.kernel.workqueue import Work
from actors.linux.lib.percpu_refcount import (
    PercpuRef,
    percpu_ref_exit,
    percpu_ref_get,
    percpu_ref_kill,
    percpu_ref_put,
    percpu_ref_tryget,
)
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.list_lru import ListLru
from actors.linux.mm.memcontrol import (
    NR_OBJ_STOCK,
    OBJ_STOCK_LOCK,
    STOCK,
    STOCK_LOCK,
    Memcg,
    ObjcgOwner,
    SlotStock,
    Stock,
    __refill_stock,
    memcg_uncharge,
    refill_stock,
    this_cpu_stock,
    try_charge_memcg,
)
from actors.machine.context import WARN_ON, Context, deref
from actors.machine.gfp import GFP_KERNEL, Gfp
from actors.machine.list_head import ListEntry
from actors.system.actor import Actor, Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine

PAGE_SIZE = 4096

U16_MAX, S16_MAX = 65535, 32767
"""What nr_bytes of a slot, and the bytes that are to be counted, can hold from 7.2 on."""

Counter = tuple[int, str]
"""Where the bytes of an object are counted: the node of its slab, and the item of memory.stat."""

OBJ_EXT_SIZE = 8
"""Bytes that an accounted object costs beside its own: the pointer to its obj_cgroup."""


@attrs.define(eq=False)
class ObjCgroup(ListEntry):
    """struct obj_cgroup, made for a memcg. `memcg` is that one until its removal, then an ancestor; no reference.

    `nr_charged_bytes` are bytes that were charged in whole pages, and that no object and no stock has now. From 7.2 on
    there is one for each node `nid` of a memcg, and the root has them, too: if it `is_root`, its references are not
    counted, and what is charged to it is not accounted.

    Shadow accounting: `made_for` is its first memcg. `booked` counts the references that objects, tasks, stocks and
    memcgs hold. `charged` counts the pages charged through it and not uncharged; `kmem_pages` of them are pages of
    their own, from `kmem_allocations`; `other_bytes` in `other_allocations` are no objects of a modelled cache.
    `folios` hold it, too; they are `folio_pages` pages.
    """

    made_for: Memcg
    memcg: Memcg
    nid: int = 0
    is_root: bool = False
    refcnt: PercpuRef = attrs.field(init=False)
    nr_charged_bytes: int = attrs.field(default=0, init=False)
    booked: int = attrs.field(default=0, init=False)
    charged: int = attrs.field(default=0, init=False)
    kmem_pages: int = attrs.field(default=0, init=False)
    kmem_allocations: int = attrs.field(default=0, init=False)
    other_bytes: int = attrs.field(default=0, init=False)
    other_allocations: int = attrs.field(default=0, init=False)
    folios: int = attrs.field(default=0, init=False)
    folio_pages: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        node = f", node {self.nid}" if self.nid else ""
        return f"obj_cgroup of {self.made_for.name}{node}"

    def book(self, references: int) -> None:
        """Shadow accounting: *references* are held from now on; a negative number is no longer held."""
        self.booked += references

    def book_folio(self, nr: int, nr_pages: int) -> None:
        """Shadow accounting, from 7.2 on: a folio holds a reference from now on, or no longer."""
        self.book(nr)
        self.folios += nr
        self.folio_pages += nr * nr_pages

    @operation(READ, part="memcg")
    def read_memcg(self) -> Memcg:
        return self.memcg

    @operation(UPDATE, part="memcg", lifecycle=True)
    def set_memcg(self, memcg: Memcg) -> None:
        self.memcg = memcg

    @operation(READ, part="bytes")
    def read_charged_bytes(self) -> int:
        return self.nr_charged_bytes

    @operation(UPDATE, part="bytes")
    def add_charged_bytes(self, nr: int) -> None:
        self.nr_charged_bytes += nr

    @operation(UPDATE, part="bytes")
    def take_charged_bytes(self) -> int:
        """atomic_xchg(&objcg->nr_charged_bytes, 0)."""
        taken, self.nr_charged_bytes = self.nr_charged_bytes, 0
        return taken


@attrs.define(eq=False)
class TaskObjcg(Shared):
    """task->objcg of `task`: the obj_cgroup it charges to, with a reference. `is_stale` is bit 0 of the pointer.

    Whoever moves the task sets the bit; the task itself looks the obj_cgroup up again at its next allocation.
    """

    task: str
    objcg: ObjCgroup | None = attrs.field(default=None, init=False)
    is_stale: bool = attrs.field(default=False, init=False)

    @property
    def label(self) -> str:
        return f"objcg of task {self.task}"

    @operation(READ)
    def read(self) -> tuple[ObjCgroup | None, bool]:
        return self.objcg, self.is_stale

    @operation(UPDATE, lifecycle=True)
    def set_stale(self) -> None:
        """set_bit(CURRENT_OBJCG_UPDATE_BIT, &task->objcg)."""
        self.is_stale = True

    @operation(UPDATE, lifecycle=True)
    def xchg_null(self) -> ObjCgroup | None:
        """xchg(&current->objcg, NULL), without the bit."""
        old, self.objcg, self.is_stale = self.objcg, None, False
        if old is not None:
            old.book(-1)
        return old

    @operation(UPDATE, lifecycle=True)
    def clear(self) -> None:
        """current->objcg = NULL, after the reference was dropped."""
        self.objcg, self.is_stale = None, False

    @operation(UPDATE, lifecycle=True)
    def cmpxchg_null(self, objcg: ObjCgroup | None) -> bool:
        """try_cmpxchg(&current->objcg, NULL, objcg): fails if the bit was set meanwhile."""
        if self.objcg is not None or self.is_stale:
            return False
        self.store(objcg)
        return True

    @operation(UPDATE, lifecycle=True)
    def store(self, objcg: ObjCgroup | None) -> None:
        """Set the pointer without its bit."""
        self.objcg, self.is_stale = objcg, False
        if objcg is not None:
            objcg.book(1)


@attrs.define(eq=False)
class ObjExts(Shared):
    """slab->obj_exts: the obj_cgroup of each object of `slab`; None for an object that is not accounted.

    It comes from a cache of kmalloc(), which has no accounted objects and is not modelled. `memory` is the object that
    it is in, on the kernels (up to Linux v5.13) where such a cache has both.
    """

    slab: Slab
    slots: list[ObjCgroup | None]
    memory: SlabObject | None = None

    @property
    def label(self) -> str:
        return f"obj_exts of {self.slab.label}"

    @operation(READ)
    def read(self, at: int) -> ObjCgroup | None:
        self.touch_part(at, READ)
        return self.slots[at]

    @operation(READ)
    def set(self, at: int, objcg: ObjCgroup) -> None:
        self.touch_part(at, UPDATE)
        self.slots[at] = objcg
        objcg.book(1)

    @operation(READ)
    def take(self, at: int) -> ObjCgroup | None:
        """Read a slot and clear it; only the context that frees the object does so."""
        self.touch_part(at, UPDATE)
        taken, self.slots[at] = self.slots[at], None
        if taken is not None:
            taken.book(-1)
        return taken


@attrs.define(eq=False)
class ObjStock(SlotStock):
    """struct obj_stock_pcp of one CPU, from 7.2 on. KERNEL-7.2 N5.0.

    A slot has bytes of pages that are charged to an obj_cgroup, and a reference to it. `slab_bytes` are bytes of slab
    objects that the statistics do not count yet: those of the obj_cgroup in the slot `index` (-1: none), on node `nid`.
    """

    cached: list[ObjCgroup | None] = attrs.field(factory=lambda: [None] * NR_OBJ_STOCK, init=False)
    nr_bytes: list[int] = attrs.field(factory=lambda: [0] * NR_OBJ_STOCK, init=False)
    index: int = attrs.field(default=-1, init=False)
    nid: int = attrs.field(default=0, init=False)
    slab_bytes: dict[str, int] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = LocalTryLock(self.actor, OBJ_STOCK_LOCK)
        self.work = Work(self.actor, self)
        self.work.init_work(drain_local_obj_stock)

    @property
    def label(self) -> str:
        return f"obj_stock of {self.actor.name}"

    @property
    def nr_slots(self) -> int:
        return len(self.cached)

    def slot_of(self, objcg: ObjCgroup | None) -> int | None:
        """The slot of *objcg*; of None, the first empty one."""
        return self.cached.index(objcg) if objcg in self.cached else None

    @operation(READ, cost=ATOMIC_NS)
    def read_cached(self, at: int) -> ObjCgroup | None:
        """READ_ONCE(stock->cached[i]), from another CPU."""
        return self.cached[at]


# -- life of an obj_cgroup (KERNEL-today 5) ---------------------------------------------------------------------------


@kernel_fn("obj_cgroup_alloc", "mm/memcontrol.c", profiles="6.12..")
async def obj_cgroup_alloc(ctx: Context, memcg: Memcg, nid: int) -> ObjCgroup | None:
    """KERNEL-today 5.2: an obj_cgroup whose references are counted per CPU; None is -ENOMEM."""
    if not kmalloc(ctx, GFP_KERNEL, "percpu"):
        return None
    objcg = new_objcg(ctx.machine, memcg, nid)
    ctx.machine.add_objcg(objcg)
    return objcg


def new_objcg(machine: Machine, memcg: Memcg, nid: int) -> ObjCgroup:
    """An obj_cgroup of *memcg* with one reference; the root's are made at boot."""
    name = f"objcg {memcg.name}:{nid}" if nid else f"objcg {memcg.name}"
    objcg = ObjCgroup(Actor(machine.world, name), memcg, memcg, nid, memcg.is_root)
    objcg.refcnt = PercpuRef.init(objcg.actor, objcg, obj_cgroup_release, len(machine.cpus))
    return objcg


@kernel_fn("obj_cgroup_get", "include/linux/memcontrol.h", profiles="6.12..")
async def obj_cgroup_get(ctx: Context, objcg: ObjCgroup) -> None:
    if not objcg.is_root:
        await percpu_ref_get(ctx, objcg.refcnt)


@kernel_fn("obj_cgroup_tryget", "include/linux/memcontrol.h", profiles="6.12..")
async def obj_cgroup_tryget(ctx: Context, objcg: ObjCgroup) -> bool:
    """Take a reference, unless there is none left; a killed obj_cgroup may be taken."""
    return objcg.is_root or await percpu_ref_tryget(ctx, objcg.refcnt)


@kernel_fn("obj_cgroup_put", "include/linux/memcontrol.h", profiles="6.12..")
async def obj_cgroup_put(ctx: Context, objcg: ObjCgroup | None) -> None:
    if objcg is not None and not objcg.is_root:
        await percpu_ref_put(ctx, objcg.refcnt)


@kernel_fn("obj_cgroup_release", "mm/memcontrol.c", profiles="7.2..")
async def obj_cgroup_release_7_2(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL-7.2, row 5.4: what is left goes straight to the page counters: a lock of a stock may be held."""
    objcg = ref.container
    assert isinstance(objcg, ObjCgroup)
    nr_bytes = await ctx.ask(objcg.read_charged_bytes)
    WARN_ON(ctx, nr_bytes % PAGE_SIZE, "obj_cgroup_release: nr_bytes & (PAGE_SIZE - 1)")
    if nr_bytes >= PAGE_SIZE:
        await uncharge_counters(ctx, objcg, nr_bytes // PAGE_SIZE)
    await free_objcg(ctx, objcg, ctx.machine.objcg_lock)


async def uncharge_counters(ctx: Context, objcg: ObjCgroup, nr_pages: int) -> None:
    """Give pages back to the page counters of the memcg that *objcg* has now, past the stock."""
    memcg = await get_mem_cgroup_from_objcg(ctx, objcg)
    objcg.charged -= nr_pages
    await mod_kernel_pages_7_2(ctx, memcg, -nr_pages)
    if not memcg.is_root:
        await memcg_uncharge(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)


async def free_objcg(ctx: Context, objcg: ObjCgroup, lock: SpinLock) -> None:
    """Take a released obj_cgroup off its list, which *lock* guards, and free it after a grace period.

    One whose memcg has never been online is on no list (KERNEL-7.2, row 4.6), and its memcg may be gone.
    """
    async with SpinLockIrqHeld(ctx, lock):
        if objcg.on_lists:
            await ctx.ask(objcg.memcg.objcg_owner(objcg.nid).del_objcg, objcg)
    await percpu_ref_exit(ctx, objcg.refcnt)
    ctx.machine.objcgs.pop(objcg, None)
    await kfree_rcu(ctx, objcg, objcg.refcnt)


@kernel_fn("obj_cgroup_release", "mm/memcontrol.c", profiles="6.12")
async def obj_cgroup_release(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL-today 5.4: the last reference is gone, in any context; uncharge the rest, free after a grace period."""
    await release_objcg(ctx, ref, ctx.machine.objcg_lock)


async def release_objcg(ctx: Context, ref: PercpuRef, lock: SpinLock) -> None:
    """Release an obj_cgroup that is on a list which *lock* guards.

    What is left are whole pages: they were charged for objects whose bytes came back through several stocks.
    """
    objcg = ref.container
    assert isinstance(objcg, ObjCgroup)
    nr_bytes = await ctx.ask(objcg.read_charged_bytes)
    WARN_ON(ctx, nr_bytes % PAGE_SIZE, "obj_cgroup_release: nr_bytes & (PAGE_SIZE - 1)")
    if nr_bytes >= PAGE_SIZE:
        await obj_cgroup_uncharge_pages(ctx, objcg, nr_bytes // PAGE_SIZE)
    await free_objcg(ctx, objcg, lock)


@kernel_fn("memcg_reparent_objcgs", "mm/memcontrol.c", profiles="7.2..")
async def memcg_reparent_objcgs_7_2(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """KERNEL-today 11.4: node by node, the pages and then the obj_cgroups; a node's pages may go before another's.

    Both LRU locks are held, so whoever holds the LRU lock of a page knows the page's memcg.
    """
    for node, above in zip(memcg.nodeinfo, parent.nodeinfo, strict=True):
        async with SpinLockIrqHeld(ctx, ctx.machine.objcg_lock):
            await spin_lock_nested(ctx, node.lruvec.lru_lock)
            await spin_lock_nested(ctx, above.lruvec.lru_lock)
            await lru_reparent_memcg(ctx, node, above)
            objcg = deref(await ctx.ask(node.take_objcg), "memcg_reparent_objcgs(): pn->objcg")
            await move_objcgs(ctx, objcg, memcg, parent)
            await spin_unlock(ctx, above.lruvec.lru_lock)
            await spin_unlock(ctx, node.lruvec.lru_lock)
        await percpu_ref_kill(ctx, objcg.refcnt)


async def move_objcgs(ctx: Context, objcg: ObjCgroup, memcg: Memcg, parent: Memcg) -> None:
    """Give *objcg* and those that *memcg* has inherited to *parent*, one by one. objcg_lock is held.

    A reader without the lock sees the old memcg or the new one, for each obj_cgroup by itself.
    """
    owner, above = memcg.objcg_owner(objcg.nid), parent.objcg_owner(objcg.nid)
    await ctx.ask(owner.add_objcg, objcg)
    for each in await ctx.ask(owner.list_objcgs):
        await ctx.ask(each.set_memcg, parent)
    await ctx.ask(above.splice_objcgs, await ctx.ask(owner.take_objcgs))


@kernel_fn("memcg_reparent_objcgs", "mm/memcontrol.c", profiles="6.12")
async def memcg_reparent_objcgs(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """KERNEL-today 5.3: new allocations find the parent's obj_cgroup; then each of these goes to the parent."""
    await reparent_objcgs(ctx, memcg, parent, ctx.machine.objcg_lock)


async def reparent_objcgs(ctx: Context, memcg: Memcg, parent: Memcg, lock: SpinLock) -> None:
    """The same with the *lock* that guards the lists."""
    objcg = deref(await ctx.ask(memcg.take_objcg), "memcg_reparent_objcgs(): memcg->objcg")
    async with SpinLockIrqHeld(ctx, lock):
        await move_objcgs(ctx, objcg, memcg, parent)
    await percpu_ref_kill(ctx, objcg.refcnt)


@kernel_fn("get_mem_cgroup_from_objcg", "include/linux/memcontrol.h", profiles="6.12..")
async def get_mem_cgroup_from_objcg(ctx: Context, objcg: ObjCgroup) -> Memcg:
    """KERNEL-today 5.7: the memcg of *objcg* with a css reference. If there is none left, *objcg* has another memcg."""
    with ctx.rcu_read_section:
        while True:
            memcg = await ctx.ask(objcg.read_memcg)
            if await css_tryget(ctx, memcg.css):
                return memcg


# -- the obj_cgroup of the running task (KERNEL-today 6) --------------------------------------------------------------


@kernel_fn("current_obj_cgroup", "mm/memcontrol.c", profiles="7.2..")
async def current_obj_cgroup_7_2(ctx: Context) -> ObjCgroup | None:
    """KERNEL-7.2, row 6.1: whom the running task charges; the root's obj_cgroup: the allocation is not accounted."""
    if not ctx.in_handler and ctx.active_memcg is not None:
        return await first_objcg(ctx, ctx.active_memcg)
    objcg, is_stale = None, False
    if not ctx.in_handler and ctx.objcg is not None:
        objcg, is_stale = await ctx.ask(ctx.objcg.read)
        if is_stale:
            objcg = await current_objcg_update(ctx, ctx.objcg)
    return objcg or ctx.machine.root_mem_cgroup.objcg_owner(ctx.numa_node).objcg


@kernel_fn("current_obj_cgroup", "mm/memcontrol.c", profiles="6.12")
async def current_obj_cgroup(ctx: Context) -> ObjCgroup | None:
    """KERNEL-today 6.1: whom the running task charges; no reference. None: the allocation is not accounted."""
    if ctx.in_handler:
        return None
    if ctx.active_memcg is not None:
        return await first_objcg(ctx, ctx.active_memcg)
    if ctx.objcg is None:
        return None
    objcg, is_stale = await ctx.ask(ctx.objcg.read)
    return await current_objcg_update(ctx, ctx.objcg) if is_stale else objcg


async def first_objcg(ctx: Context, memcg: Memcg) -> ObjCgroup | None:
    """KERNEL-today 6.3: of *memcg*, which pins it, or of the first ancestor that has one."""
    for owner in objcg_owners_above(ctx, memcg):
        objcg = await ctx.ask(owner.read_objcg)
        if objcg is not None:
            return objcg
    return None


def objcg_owners_above(ctx: Context, memcg: Memcg) -> Iterator[ObjcgOwner]:
    """What points to obj_cgroups of this CPU's node, for *memcg* and its ancestors. Before 7.2 the root has none."""
    for level in (memcg, *memcg.ancestors()):
        if level.has_objcg_per_node or not level.is_root:
            yield level.objcg_owner(ctx.numa_node)


@kernel_fn("current_objcg_update", "mm/memcontrol.c", profiles="6.12..")
async def current_objcg_update(ctx: Context, current: TaskObjcg) -> ObjCgroup | None:
    """KERNEL-today 6.2: give up the old obj_cgroup, look up the present one; again if the task is moved meanwhile."""
    objcg: ObjCgroup | None = None
    while True:
        await obj_cgroup_put(ctx, await ctx.ask(current.xchg_null))
        if not ctx.has_mm:
            return None
        await obj_cgroup_put(ctx, objcg)
        with ctx.rcu_read_section:
            objcg = await get_objcg_of_task(ctx)
        if await ctx.ask(current.cmpxchg_null, objcg):
            return objcg


async def get_objcg_of_task(ctx: Context) -> ObjCgroup | None:
    """The first obj_cgroup from the task's memcg upwards that can be taken, with a reference; under RCU."""
    memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx)
    for owner in objcg_owners_above(ctx, memcg or ctx.machine.root_mem_cgroup):
        objcg = await ctx.ask(owner.read_objcg)
        if objcg is not None and await obj_cgroup_tryget(ctx, objcg):
            return objcg
    return None


@kernel_fn("mem_cgroup_fork", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_fork(ctx: Context, task: Context) -> None:
    """KERNEL-today 6.4: the new task looks its obj_cgroup up at its first allocation."""
    await ctx.ask(deref(task.objcg, "mem_cgroup_fork(): task->objcg").set_stale)


@kernel_fn("mem_cgroup_exit", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_exit(ctx: Context) -> None:
    """KERNEL-today 6.4: drop the task's reference; what it allocates later is not accounted."""
    current = deref(ctx.objcg, "mem_cgroup_exit(): task->objcg")
    objcg, _ = await ctx.ask(current.read)
    if objcg is not None:
        objcg.book(-1)
    await obj_cgroup_put(ctx, objcg)
    await ctx.ask(current.clear)


@kernel_fn("mem_cgroup_attach", "mm/memcontrol.c", profiles="6.12..", known_as="mem_cgroup_kmem_attach")
async def mem_cgroup_attach(ctx: Context, task: Context) -> None:
    """KERNEL-today 6.5: a task that was moved keeps its old obj_cgroup until its next allocation, or its exit."""
    await ctx.ask(deref(task.objcg, "mem_cgroup_kmem_attach(): task->objcg").set_stale)


# -- charging bytes and pages (KERNEL-today 8) ------------------------------------------------------------------------


async def trylock_stock(ctx: Context) -> ObjStock | None:
    """Lock this CPU's stock of bytes; None if this handler has interrupted a holder. KERNEL-7.2 N5.0."""
    if not await local_trylock(ctx, ctx.machine.obj_stock_locks):
        return None
    return await this_obj_stock(ctx)


async def this_obj_stock(ctx: Context) -> ObjStock:
    """this_cpu_ptr(&obj_stock), whose lock is held: a handler may run before the first access."""
    stock = ctx.machine.obj_stocks[ctx.smp_processor_id]
    await ctx.this_cpu(stock, STOCK)
    ctx.use(stock)
    return stock


def unlock_stock(ctx: Context, stock: ObjStock | None) -> None:
    """Unlock the stock, if it could be locked."""
    if stock is not None:
        local_unlock(ctx, ctx.machine.obj_stock_locks)


@kernel_fn("obj_cgroup_charge", "mm/memcontrol.c", profiles="7.2..")
async def obj_cgroup_charge_7_2(ctx: Context, objcg: ObjCgroup, gfp: Gfp, size: int) -> bool:
    """KERNEL-7.2 N5.3, N5.4: charge bytes that are no slab object's from this CPU's stock, else whole pages."""
    stock = await trylock_stock(ctx)
    is_enough = stock is not None and __consume_obj_stock(stock, objcg, size)
    unlock_stock(ctx, stock)
    if is_enough:
        return True
    if not await charge_whole_pages(ctx, objcg, gfp, size):
        return False
    if size % PAGE_SIZE:
        await refill_obj_stock(ctx, objcg, -size % PAGE_SIZE, allow_uncharge=False)
    return True


def __consume_obj_stock(stock: ObjStock, objcg: ObjCgroup, size: int) -> bool:
    """KERNEL-7.2 N5.3: take bytes from the slot of *objcg*, if there are enough. The lock is held."""
    at = stock.slot_of(objcg)
    if at is None or stock.nr_bytes[at] < size:
        return False
    stock.nr_bytes[at] -= size
    return True


async def charge_whole_pages(ctx: Context, objcg: ObjCgroup, gfp: Gfp, size: int) -> bool:
    """__obj_cgroup_charge(): the pages that *size* bytes need; the caller takes care of the rest of the last one."""
    return await obj_cgroup_charge_pages(ctx, objcg, gfp, -(-size // PAGE_SIZE))


@kernel_fn("obj_cgroup_charge", "mm/memcontrol.c", profiles="6.12")
async def obj_cgroup_charge(ctx: Context, objcg: ObjCgroup, gfp: Gfp, size: int) -> bool:
    """KERNEL-today 8.4: charge bytes from this CPU's stock; else charge pages, and put the rest into the stock."""
    if await consume_obj_stock(ctx, objcg, size):
        return True
    nr_pages = -(-size // PAGE_SIZE)
    if not await obj_cgroup_charge_pages(ctx, objcg, gfp, nr_pages):
        return False
    if size % PAGE_SIZE:
        await refill_obj_stock(ctx, objcg, nr_pages * PAGE_SIZE - size, allow_uncharge=False)
    return True


@kernel_fn("obj_cgroup_uncharge", "mm/memcontrol.c", profiles="6.12..")
async def obj_cgroup_uncharge(ctx: Context, objcg: ObjCgroup, size: int) -> None:
    """Put the bytes of a freed object into this CPU's stock."""
    await refill_obj_stock(ctx, objcg, size, allow_uncharge=True)


@kernel_fn("consume_obj_stock", "mm/memcontrol.c", profiles="6.12")
async def consume_obj_stock(ctx: Context, objcg: ObjCgroup, nr_bytes: int) -> bool:
    """Take bytes from this CPU's stock, if the stock is *objcg*'s and has enough."""
    with LocalLockIrqHeld(ctx, STOCK_LOCK):
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        if stock.cached_objcg is not objcg or stock.nr_bytes < nr_bytes:
            return False
        stock.nr_bytes -= nr_bytes
        return True


@kernel_fn("refill_obj_stock", "mm/memcontrol.c", profiles="7.2..")
async def refill_obj_stock_7_2(ctx: Context, objcg: ObjCgroup, nr_bytes: int, *, allow_uncharge: bool) -> None:
    """Add bytes that are no slab object's to this CPU's stock, if it can be locked."""
    stock = await trylock_stock(ctx)
    await __refill_obj_stock(ctx, objcg, stock, nr_bytes, allow_uncharge=allow_uncharge)
    unlock_stock(ctx, stock)


@kernel_fn("__refill_obj_stock", "mm/memcontrol.c", profiles="7.2..")
async def __refill_obj_stock(
    ctx: Context, objcg: ObjCgroup, stock: ObjStock | None, nr_bytes: int, *, allow_uncharge: bool
) -> None:
    """KERNEL-7.2 N5.4: whole pages go, with the lock held. Without a stock the rest goes back to the obj_cgroup."""
    if stock is None:
        nr_pages, rest = divmod(nr_bytes, PAGE_SIZE)
        await ctx.ask(objcg.add_charged_bytes, rest)
    else:
        at = stock.slot_of(objcg)
        if at is None:
            at = await take_obj_slot(ctx, stock, objcg)
            allow_uncharge = True
        nr_pages, rest = 0, stock.nr_bytes[at] + nr_bytes
        if (allow_uncharge and rest > PAGE_SIZE) or rest > U16_MAX:
            nr_pages, rest = divmod(rest, PAGE_SIZE)
        stock.nr_bytes[at] = rest
    if nr_pages:
        await obj_cgroup_uncharge_pages(ctx, objcg, nr_pages)


async def take_obj_slot(ctx: Context, stock: ObjStock, objcg: ObjCgroup) -> int:
    """Give a slot to *objcg*, with what it has of a page in no stock: an empty slot, or the next in turn."""
    at = stock.slot_of(None)
    if at is None:
        at = stock.next_victim()
        await drain_obj_stock_slot(ctx, stock, at)
    await obj_cgroup_get(ctx, objcg)
    objcg.book(1)
    stock.nr_bytes[at] = 0
    if await ctx.ask(objcg.read_charged_bytes):
        stock.nr_bytes[at] = await ctx.ask(objcg.take_charged_bytes)
    stock.cached[at] = objcg
    return at


@kernel_fn("drain_obj_stock_slot", "mm/memcontrol.c", profiles="7.2..")
async def drain_obj_stock_slot(ctx: Context, stock: ObjStock, at: int) -> None:
    """KERNEL-7.2 N5.5: empty a slot; the put may release the obj_cgroup here, with the stock's lock held."""
    old = stock.cached[at]
    if old is None:
        return
    nr_pages, rest = divmod(stock.nr_bytes[at], PAGE_SIZE)
    if nr_pages:
        await uncharge_counters(ctx, old, nr_pages)
    if rest:
        await ctx.ask(old.add_charged_bytes, rest)
    stock.nr_bytes[at] = 0
    if stock.index == at:
        await flush_slot_bytes(ctx, stock)
        stock.index = -1
    stock.cached[at] = None
    old.book(-1)
    await obj_cgroup_put(ctx, old)


@kernel_fn("drain_local_obj_stock", "mm/memcontrol.c", profiles="7.2..")
async def drain_local_obj_stock(ctx: Context, _work: Work | None = None) -> None:
    """KERNEL-7.2 N5.7: empty all slots of this CPU's stock of bytes, whoever they belong to."""
    if WARN_ON(ctx, ctx.in_handler, "drain in non-task context"):
        return
    async with LocalLockHeld(ctx, ctx.machine.obj_stock_locks):
        stock = await this_obj_stock(ctx)
        for at in range(NR_OBJ_STOCK):
            await drain_obj_stock_slot(ctx, stock, at)
        stock.is_flushing = False


@kernel_fn("refill_obj_stock", "mm/memcontrol.c", profiles="6.12")
async def refill_obj_stock(ctx: Context, objcg: ObjCgroup, nr_bytes: int, *, allow_uncharge: bool) -> None:
    """KERNEL-today 8.5: add bytes to this CPU's stock; whole pages go, if that is allowed or the stock was another's.

    The obj_cgroup that had the stock is put after the lock is dropped, for its release charges the stock.
    """
    old, nr_pages = None, 0
    with LocalLockIrqHeld(ctx, STOCK_LOCK):
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        if stock.cached_objcg is not objcg:
            old = await take_obj_stock(ctx, stock, objcg)
            allow_uncharge = True
        stock.nr_bytes += nr_bytes
        if allow_uncharge and stock.nr_bytes > PAGE_SIZE:
            nr_pages, stock.nr_bytes = divmod(stock.nr_bytes, PAGE_SIZE)
    await obj_cgroup_put(ctx, old)
    if nr_pages:
        await obj_cgroup_uncharge_pages(ctx, objcg, nr_pages)


async def take_obj_stock(ctx: Context, stock: Stock, objcg: ObjCgroup) -> ObjCgroup | None:
    """Drain this CPU's stock and give it to *objcg*; the caller puts the one that had it. KERNEL-today 8.5.2."""
    old = await drain_obj_stock(ctx, stock)
    await obj_cgroup_get(ctx, objcg)
    objcg.book(1)
    stock.cached_objcg = objcg
    if await ctx.ask(objcg.read_charged_bytes):
        stock.nr_bytes = await ctx.ask(objcg.take_charged_bytes)
    return old


@kernel_fn("drain_obj_stock", "mm/memcontrol.c", profiles="6.12")
async def drain_obj_stock(ctx: Context, stock: Stock) -> ObjCgroup | None:
    """KERNEL-today 8.7: whole pages go to this CPU's stock of pages, the rest back to the obj_cgroup; IRQs are off.

    Returns the obj_cgroup, whose reference the caller drops after the lock.
    """
    old = stock.cached_objcg
    if old is None:
        return None
    nr_pages, rest = divmod(stock.nr_bytes, PAGE_SIZE)
    if nr_pages:
        memcg = await get_mem_cgroup_from_objcg(ctx, old)
        await __mod_memcg_state(ctx, memcg, "kernel", -nr_pages)
        old.charged -= nr_pages
        await __refill_stock(ctx, stock, memcg, nr_pages)
        await css_put(ctx, memcg.css)
    if rest:
        await ctx.ask(old.add_charged_bytes, rest)
    stock.nr_bytes = 0
    await flush_slab_bytes(ctx, stock)
    stock.cached_objcg = None
    old.book(-1)
    return old


@kernel_fn("obj_stock_flush_required", "mm/memcontrol.c", profiles="7.2..")
async def obj_stock_flush_required_7_2(ctx: Context, stock: Stock | ObjStock, root_memcg: Memcg) -> bool:
    """KERNEL-7.2 N5.7: whether an obj_cgroup in a slot belongs to the subtree now, with bytes there or not."""
    assert isinstance(stock, ObjStock)
    with ctx.rcu_read_section:
        for at in range(NR_OBJ_STOCK):
            objcg = await ctx.ask(stock.read_cached, at)
            if objcg is not None and (await ctx.ask(objcg.read_memcg)).is_descendant_of(root_memcg):
                return True
    return False


@kernel_fn("obj_stock_flush_required", "mm/memcontrol.c", profiles="6.12")
async def obj_stock_flush_required(ctx: Context, stock: Stock | ObjStock, root_memcg: Memcg) -> bool:
    """The other CPU may put the obj_cgroup at any time; RCU keeps its memory, so read it once. KERNEL-today 8.6.2."""
    assert isinstance(stock, Stock)
    objcg = await ctx.ask(stock.read_cached_objcg)
    if objcg is None:
        return False
    memcg = await ctx.ask(objcg.read_memcg)
    return memcg.is_descendant_of(root_memcg)


@kernel_fn("obj_cgroup_charge_pages", "mm/memcontrol.c", profiles="7.2..")
async def obj_cgroup_charge_pages_7_2(ctx: Context, objcg: ObjCgroup, gfp: Gfp, nr_pages: int) -> bool:
    """KERNEL-7.2 N5.6: as before, but the root's counters are not charged, if *objcg* has gone to it meanwhile."""
    memcg = await get_mem_cgroup_from_objcg(ctx, objcg)
    charged = memcg.is_root or await try_charge_memcg(ctx, memcg, gfp, nr_pages)
    if charged:
        objcg.charged += nr_pages
        await mod_kernel_pages_7_2(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)
    return charged


@kernel_fn("obj_cgroup_charge_pages", "mm/memcontrol.c", profiles="6.12")
async def obj_cgroup_charge_pages(ctx: Context, objcg: ObjCgroup, gfp: Gfp, nr_pages: int) -> bool:
    """KERNEL-today 8.9: charge the memcg that *objcg* has now. The charge may sleep, and the memcg may go meanwhile."""
    memcg = await get_mem_cgroup_from_objcg(ctx, objcg)
    charged = await try_charge_memcg(ctx, memcg, gfp, nr_pages)
    if charged:
        objcg.charged += nr_pages
        await mod_kernel_pages(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)
    return charged


@kernel_fn("obj_cgroup_uncharge_pages", "mm/memcontrol.c", profiles="7.2..")
async def obj_cgroup_uncharge_pages_7_2(ctx: Context, objcg: ObjCgroup, nr_pages: int) -> None:
    """KERNEL-7.2 N5.6: into this CPU's stock of pages; nothing is given back to the root's counters."""
    memcg = await get_mem_cgroup_from_objcg(ctx, objcg)
    objcg.charged -= nr_pages
    await mod_kernel_pages_7_2(ctx, memcg, -nr_pages)
    if not memcg.is_root:
        await refill_stock(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)


@kernel_fn("obj_cgroup_uncharge_pages", "mm/memcontrol.c", profiles="6.12")
async def obj_cgroup_uncharge_pages(ctx: Context, objcg: ObjCgroup, nr_pages: int) -> None:
    """KERNEL-today 8.9: give pages back to the memcg that *objcg* has now, into this CPU's stock."""
    memcg = await get_mem_cgroup_from_objcg(ctx, objcg)
    objcg.charged -= nr_pages
    await mod_kernel_pages(ctx, memcg, -nr_pages)
    await refill_stock(ctx, memcg, nr_pages)
    await css_put(ctx, memcg.css)


async def mod_kernel_pages(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """mod_memcg_state(): count kernel pages, with IRQs off."""
    with ctx.irq_section:
        await __mod_memcg_state(ctx, memcg, "kernel", nr_pages)


async def mod_kernel_pages_7_2(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """KERNEL-7.2, row 15.2: count kernel pages, with preemption off."""
    with ctx.preempt_section:
        await __mod_memcg_state(ctx, memcg, "kernel", nr_pages)


# -- statistics of slab bytes, kept in the stock ----------------------------------------------------------------------


@kernel_fn("__account_obj_stock", "mm/memcontrol.c", profiles="7.2..")
async def __account_obj_stock(
    ctx: Context, objcg: ObjCgroup, stock: ObjStock | None, counter: Counter, nr: int
) -> None:
    """KERNEL-7.2 N5.8: count bytes of slab objects in this CPU's stock, for one slot and node at a time.

    The counters there have 16 bits. Bytes of an obj_cgroup without a slot are counted at once.
    """
    nid, item = counter
    at = stock.slot_of(objcg) if stock is not None else None
    if stock is None or at is None:
        await mod_objcg_mlstate(ctx, objcg, nid, item, nr)
        return
    if stock.index not in (-1, at) or stock.nid != nid:
        await flush_slot_bytes(ctx, stock)
    stock.index, stock.nid = at, nid
    before = stock.slab_bytes.get(item, 0)
    nr += before
    is_kept = abs(nr) <= S16_MAX and (not before or abs(nr) <= PAGE_SIZE)
    stock.slab_bytes[item] = nr if is_kept else 0
    if not is_kept:
        await mod_objcg_mlstate(ctx, objcg, nid, item, nr)


async def flush_slot_bytes(ctx: Context, stock: ObjStock) -> None:
    """Count the bytes that are kept in the stock for the memcg that the obj_cgroup of their slot has now."""
    for item, nr in list(stock.slab_bytes.items()):
        if nr:
            objcg = deref(stock.cached[stock.index], "__account_obj_stock(): stock->cached[stock->index]")
            stock.slab_bytes[item] = 0
            await mod_objcg_mlstate(ctx, objcg, stock.nid, item, nr)


@kernel_fn("mod_objcg_state", "mm/memcontrol.c", profiles="6.12")
async def mod_objcg_state(ctx: Context, objcg: ObjCgroup, nid: int, item: str, nr: int) -> None:
    """KERNEL-today 8.8: count bytes of slab objects in this CPU's stock; more than a page of them goes to the memcg."""
    old = None
    with LocalLockIrqHeld(ctx, STOCK_LOCK):
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        if stock.cached_objcg is not objcg:
            old = await take_obj_stock(ctx, stock, objcg)
            stock.cached_nid = nid
        elif stock.cached_nid != nid:
            await flush_slab_bytes(ctx, stock)
            stock.cached_nid = nid
        before = stock.slab_bytes.get(item, 0)
        stock.slab_bytes[item] = before + nr
        if before and abs(before + nr) > PAGE_SIZE:
            stock.slab_bytes[item] = 0
            await mod_objcg_mlstate(ctx, objcg, nid, item, before + nr)
    await obj_cgroup_put(ctx, old)


async def flush_slab_bytes(ctx: Context, stock: Stock) -> None:
    """Count the bytes that are kept in the stock for the memcg that its obj_cgroup has now."""
    objcg = deref(stock.cached_objcg, "drain_obj_stock(): stock->cached_objcg")
    for item, nr in list(stock.slab_bytes.items()):
        if nr:
            stock.slab_bytes[item] = 0
            await mod_objcg_mlstate(ctx, objcg, stock.cached_nid, item, nr)


@kernel_fn("mod_objcg_mlstate", "mm/memcontrol.c", profiles="6.12..")
async def mod_objcg_mlstate(ctx: Context, objcg: ObjCgroup, nid: int, item: str, nr: int) -> None:
    """Count *nr* bytes for the memcg that *objcg* has now, and for its lruvec of the node."""
    with ctx.rcu_read_section:
        memcg = await ctx.ask(objcg.read_memcg)
        await __mod_memcg_lruvec_state(ctx, memcg, nid, item, nr)


# -- hooks of the slab allocator (KERNEL-today 7) ---------------------------------------------------------------------


@kernel_fn("alloc_slab_obj_exts", "mm/slub.c", profiles="6.12..")
async def alloc_slab_obj_exts(ctx: Context, slab: Slab, *, new_slab: bool) -> bool:
    """KERNEL-today 7.4: the vector of a slab; for a slab in use another CPU may be first, then its vector is used.

    False is -ENOMEM: the object that it is for stays unaccounted, and the next one tries again.
    """
    if ctx.world.should_fail("obj_exts"):
        return False
    exts = ObjExts(slab.actor, slab, [None] * slab.objects)
    if new_slab:
        slab.obj_exts = exts
    else:
        await ctx.ask(slab.cmpxchg_obj_exts, exts)
    return True


@kernel_fn("free_slab_obj_exts", "mm/slub.c", profiles="6.12..")
async def free_slab_obj_exts(ctx: Context, slab: Slab) -> None:
    """KERNEL-today 7.5: every object is free by now, so all slots are empty."""
    if slab.obj_exts is not None:
        for at, objcg in enumerate(slab.obj_exts.slots):
            if objcg is not None:
                text = f"{slab.label} goes; its object {at} is still charged to {objcg.label}"
                ctx.world.report("invariant", "T6", f"invariant T6: {text}")
        ctx.kfree(slab.obj_exts)
        slab.obj_exts = None


@kernel_fn("memcg_slab_post_alloc_hook", "mm/slub.c", profiles="6.12..")
async def memcg_slab_post_alloc_hook(
    ctx: Context, s: KmemCache, lru: ListLru | None, gfp: Gfp, objects: Sequence[SlabObject]
) -> bool:
    """KERNEL-today 7.1: charge new *objects* if they are accounted; False is -ENOMEM."""
    if Gfp.ACCOUNT not in gfp and SlabFlags.ACCOUNT not in s.flags:
        return True
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return True
    return await __memcg_slab_post_alloc_hook(ctx, s, lru, gfp, objects)


@kernel_fn("__memcg_slab_post_alloc_hook", "mm/memcontrol.c", profiles="7.2..")
async def __memcg_slab_post_alloc_hook_7_2(
    ctx: Context, s: KmemCache, lru: ListLru | None, gfp: Gfp, objects: Sequence[SlabObject]
) -> bool:
    """KERNEL-7.2, row 7.2: object by object; if a charge fails, those before it stay charged for the caller to free."""
    objcg = await current_obj_cgroup(ctx)
    if objcg is None or objcg.is_root:
        return True
    if lru is not None and not await alloc_lists(ctx, objcg, lru, gfp):
        return False
    for obj in objects:
        slab = obj.slab
        if slab.obj_exts is None and not await alloc_slab_obj_exts(ctx, slab, new_slab=False):
            continue
        if not await charge_object(ctx, objcg, gfp, s.slot_size + OBJ_EXT_SIZE, (slab.nid, s.stat_item.value)):
            return False
        await obj_cgroup_get(ctx, objcg)
        await ctx.ask(exts_of(slab).set, obj.at, objcg)
    return True


async def alloc_lists(ctx: Context, objcg: ObjCgroup, lru: ListLru, gfp: Gfp) -> bool:
    """Make the lists in *lru* of the memcg that *objcg* has now; False is -ENOMEM."""
    memcg = await get_mem_cgroup_from_objcg(ctx, objcg)
    has_lists = await memcg_list_lru_alloc(ctx, memcg, lru, gfp)
    await css_put(ctx, memcg.css)
    return has_lists


async def charge_object(ctx: Context, objcg: ObjCgroup, gfp: Gfp, size: int, counter: Counter) -> bool:
    """KERNEL-7.2 N13, table A1', 5 to 8: charge and count the bytes of one object; False is -ENOMEM.

    The charge of pages may sleep, so the stock, and the CPU, may be another one afterwards.
    """
    stock = await trylock_stock(ctx)
    if stock is None or not __consume_obj_stock(stock, objcg, size):
        unlock_stock(ctx, stock)
        if not await charge_whole_pages(ctx, objcg, gfp, size):
            return False
        stock = await trylock_stock(ctx)
        if size % PAGE_SIZE:
            await __refill_obj_stock(ctx, objcg, stock, -size % PAGE_SIZE, allow_uncharge=False)
    await __account_obj_stock(ctx, objcg, stock, counter, size)
    unlock_stock(ctx, stock)
    return True


async def uncharge_object(ctx: Context, objcg: ObjCgroup, size: int, counter: Counter) -> None:
    """KERNEL-7.2 N13, table A2', 2 and 3: count one object, whose bytes go into the stock, if it can be locked."""
    stock = await trylock_stock(ctx)
    await __refill_obj_stock(ctx, objcg, stock, size, allow_uncharge=True)
    await __account_obj_stock(ctx, objcg, stock, counter, -size)
    unlock_stock(ctx, stock)


@kernel_fn("__memcg_slab_post_alloc_hook", "mm/memcontrol.c", profiles="6.12")
async def __memcg_slab_post_alloc_hook(
    ctx: Context, s: KmemCache, lru: ListLru | None, gfp: Gfp, objects: Sequence[SlabObject]
) -> bool:
    """KERNEL-today 7.2: the obj_cgroup is read after the allocation, which may have slept and seen a migration."""
    objcg = await current_obj_cgroup(ctx)
    if objcg is None or objcg.is_root:
        return True
    if lru is not None and not await alloc_lists(ctx, objcg, lru, gfp):
        return False
    size = s.slot_size + OBJ_EXT_SIZE
    if not await obj_cgroup_charge(ctx, objcg, gfp, len(objects) * size):
        return False
    for obj in objects:
        slab = obj.slab
        if slab.obj_exts is None and not await alloc_slab_obj_exts(ctx, slab, new_slab=False):
            await obj_cgroup_uncharge(ctx, objcg, size)
            continue
        await obj_cgroup_get(ctx, objcg)
        await ctx.ask(exts_of(slab).set, obj.at, objcg)
        await mod_objcg_state(ctx, objcg, slab.nid, s.stat_item.value, size)
    return True


@kernel_fn("memcg_slab_free_hook", "mm/slub.c", profiles="6.12..")
async def memcg_slab_free_hook(ctx: Context, s: KmemCache, objects: Sequence[SlabObject]) -> None:
    """KERNEL-today 7.3: *objects* of one slab are freed."""
    if objects[0].slab.obj_exts is not None and await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await __memcg_slab_free_hook(ctx, s, objects)


@kernel_fn("__memcg_slab_free_hook", "mm/memcontrol.c", profiles="7.2..")
async def __memcg_slab_free_hook_7_2(ctx: Context, s: KmemCache, objects: Sequence[SlabObject]) -> None:
    """KERNEL-7.2, row 7.3: one lock section for each object; then its reference is dropped."""
    size = s.slot_size + OBJ_EXT_SIZE
    for slab, at in objects:
        objcg = await ctx.ask(exts_of(slab).take, at)
        if objcg is None:
            continue
        await uncharge_object(ctx, objcg, size, (slab.nid, s.stat_item.value))
        await obj_cgroup_put(ctx, objcg)


@kernel_fn("__memcg_slab_free_hook", "mm/memcontrol.c", profiles="6.12")
async def __memcg_slab_free_hook(ctx: Context, s: KmemCache, objects: Sequence[SlabObject]) -> None:
    """Uncharge each object, and drop its reference: this may release the obj_cgroup."""
    size = s.slot_size + OBJ_EXT_SIZE
    for slab, at in objects:
        objcg = await ctx.ask(exts_of(slab).take, at)
        if objcg is None:
            continue
        await obj_cgroup_uncharge(ctx, objcg, size)
        await mod_objcg_state(ctx, objcg, slab.nid, s.stat_item.value, -size)
        await obj_cgroup_put(ctx, objcg)


def exts_of(slab: Slab) -> ObjExts:
    """slab_obj_exts()."""
    return deref(slab.obj_exts, "slab_obj_exts(slab)")


@kernel_fn("mem_cgroup_from_slab_obj", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_from_slab_obj(ctx: Context, obj: SlabObject) -> Memcg | None:
    """KERNEL-today 7.7: the memcg that an object is charged to now; under RCU."""
    if obj.slab.obj_exts is None:
        return None
    objcg = await ctx.ask(obj.slab.obj_exts.read, obj.at)
    return None if objcg is None else await ctx.ask(objcg.read_memcg)


# -- kernel pages (KERNEL-today 9) ------------------------------------------------------------------------------------


@attrs.define(eq=False)
class KmemPages(Shared):
    """Pages of the kernel that a task made: a stack, page tables. `objcg` is page->memcg_data, with a reference.

    Before 5.14, `memcg` was in its place, with a css reference.
    """

    name: str
    nr_pages: int
    objcg: ObjCgroup | None = None
    memcg: Memcg | None = None

    @property
    def label(self) -> str:
        return self.name


@kernel_fn("__memcg_kmem_charge_page", "mm/memcontrol.c", profiles="6.12..")
async def __memcg_kmem_charge_page(ctx: Context, page: KmemPages, gfp: Gfp) -> bool:
    """KERNEL-today 9.1: charge pages that were just allocated; False is -ENOMEM."""
    objcg = await current_obj_cgroup(ctx)
    if objcg is None or objcg.is_root:
        return True
    if not await obj_cgroup_charge_pages(ctx, objcg, gfp, page.nr_pages):
        return False
    await obj_cgroup_get(ctx, objcg)
    page.objcg = objcg
    book_pages(objcg, page, 1)
    return True


@kernel_fn("__memcg_kmem_uncharge_page", "mm/memcontrol.c", profiles="6.12..")
async def __memcg_kmem_uncharge_page(ctx: Context, page: KmemPages) -> None:
    """Uncharge the pages from the obj_cgroup, wherever it belongs now, and drop its reference. KERNEL-today 9.2."""
    objcg = page.objcg
    if objcg is None:
        return
    await obj_cgroup_uncharge_pages(ctx, objcg, page.nr_pages)
    page.objcg = None
    book_pages(objcg, page, -1)
    await obj_cgroup_put(ctx, objcg)


def book_pages(objcg: ObjCgroup, page: KmemPages, allocations: int) -> None:
    """Shadow accounting: pages of the kernel are charged, or no longer are."""
    objcg.book(allocations)
    objcg.kmem_allocations += allocations
    objcg.kmem_pages += allocations * page.nr_pages
