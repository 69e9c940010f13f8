"""kfree_rcu(): memory that is freed in batches after a grace period. kernel/rcu/tree.c @6.12; KERNEL-today 2.3.

Each CPU collects pointers in blocks. Five seconds after the first one, a work on an unbound queue, the monitor, frees
the blocks whose grace period has passed, and gives the rest to a batch: after one more grace period the batch's work
frees them. So memory lives on for seconds, and no rcu_barrier() waits for it; kvfree_rcu_barrier() does.

A block can always be had here, so there is no list of rcu_heads. No CPU of a small machine fills a block in five
seconds, which would start the monitor at once.

From 7.2 on, this is the way for what cannot go into an rcu sheaf of its cache (`sheaves`). An object waits in one until
enough others have come, or until a barrier: there is no timer. The caches of kmalloc() are not modelled: a struct is
taken for the last object of its sheaf, and so is freed as early as it can be.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import attrs

from actors.linux.include.slab import kmem_cache_free_bulk
from actors.linux.kernel.locking.lockdep import RCU_CALLBACK
from actors.linux.kernel.locking.locks import MutexHeld, SpinLock, SpinLockHeld, SpinLockIrqHeld
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, rcu_barrier
from actors.linux.kernel.workqueue import (
    DelayedWork,
    RcuWork,
    Work,
    Workqueue,
    cancel_delayed_work_sync,
    flush_rcu_work,
    mod_delayed_work,
    queue_delayed_work,
    queue_rcu_work,
)
from actors.linux.mm.sheaves import __kfree_rcu_sheaf, flush_rcu_sheaves_on_cache
from actors.linux.mm.slab_h import get_online_cpus, put_online_cpus
from actors.machine.context import WARN_ON, Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.mm.kmem_cache import KmemCache, SlabObject
    from actors.system.cpu import Cpu

KFREE_DRAIN_NS = 5_000_000_000
KVFREE_BULK_MAX_ENTR = 500
KFREE_N_BATCHES = 2
JIFFY_NS = 4_000_000

THIS_CPU_KRC = OperationInfo("this_cpu_krc", READ, cost=ATOMIC_NS)

Parts: TypeAlias = tuple[Shared | None, ...]
"""A struct, with the parts embedded in it."""


class CacheObject(NamedTuple):
    """An object of the slab allocator, with its cache."""

    s: KmemCache
    obj: SlabObject

    @property
    def label(self) -> str:
        return self.obj.label


Record: TypeAlias = "Parts | CacheObject"


@attrs.define(eq=False)
class BulkBlock:
    """struct kvfree_rcu_bulk_data: pointers, and the cookie of the grace period that the last one waits for."""

    gp_snap: int = 0
    records: list[Record] = attrs.field(factory=list, init=False)


@attrs.define(eq=False)
class KfreeRcuBatch(Shared):
    """struct kfree_rcu_cpu_work: the blocks that wait for the grace period of `rcu_work`. Under krcp->lock."""

    krcp: KfreeRcuCpu
    number: int
    bulk_head_free: list[BulkBlock] = attrs.field(factory=list, init=False)
    rcu_work: RcuWork = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        work = Work(self.actor, self, name="rcu_work")
        work.init_work(kfree_rcu_work)
        self.rcu_work = RcuWork(work, self.krcp.wq)

    @property
    def label(self) -> str:
        return f"batch {self.number} of {self.krcp.label}"

    @operation(READ)
    def is_empty(self) -> bool:
        """Not need_wait_for_krwp_work()."""
        return not self.bulk_head_free

    @operation(UPDATE, lifecycle=True)
    def take_all(self) -> list[BulkBlock]:
        taken, self.bulk_head_free = self.bulk_head_free, []
        return taken


@attrs.define(eq=False)
class KfreeRcuCpu(Shared):
    """struct kfree_rcu_cpu: what one CPU has given to kfree_rcu(), in blocks, the newest first."""

    machine: Machine
    cpu: Cpu
    wq: Workqueue
    lock: SpinLock = attrs.field(init=False)
    bulk_head: list[BulkBlock] = attrs.field(factory=list, init=False)
    krw_arr: tuple[KfreeRcuBatch, ...] = attrs.field(init=False)
    monitor_work: DelayedWork = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(self.actor, "krc.lock")
        self.krw_arr = tuple(KfreeRcuBatch(self.actor, self, number) for number in range(KFREE_N_BATCHES))
        self.monitor_work = DelayedWork(self.actor, self, name="monitor_work", wq=self.wq)
        self.monitor_work.init_work(kfree_rcu_monitor)

    @property
    def label(self) -> str:
        return f"krc of {self.cpu.label}"

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing waits here, in a block, in a batch or in the monitor."""
        return not (self.bulk_head or self.monitor_work.pending or any(krwp.bulk_head_free for krwp in self.krw_arr))

    @operation(UPDATE, lifecycle=True)
    def add_record(self, record: Record) -> None:
        """add_ptr_to_bulk_krc_lock(): append *record* to the newest block, or to another one if that is full."""
        self.lock.assert_held()
        if not self.bulk_head or len(self.bulk_head[0].records) == KVFREE_BULK_MAX_ENTR:
            self.bulk_head.insert(0, BulkBlock())
        self.machine.rcu.touch_part("stores", READ)
        self.bulk_head[0].records.append(record)
        self.bulk_head[0].gp_snap = self.machine.rcu.get_state()

    @operation(READ)
    def krc_count(self) -> int:
        """The number of pointers in blocks here, read without the lock."""
        return sum(len(bnode.records) for bnode in self.bulk_head)

    @operation(UPDATE, lifecycle=True)
    def take_ready(self) -> list[BulkBlock]:
        """Take off the blocks whose grace period has passed; the blocks are searched from the oldest."""
        self.lock.assert_held()
        self.machine.rcu.touch_part("readers", READ)
        has_passed = self.machine.rcu.has_passed
        ready = list(itertools.takewhile(lambda bnode: has_passed(bnode.gp_snap), reversed(self.bulk_head)))
        del self.bulk_head[len(self.bulk_head) - len(ready) :]
        return ready

    @operation(UPDATE, lifecycle=True)
    def detach_to(self, krwp: KfreeRcuBatch) -> None:
        """list_replace_init(): give all blocks to an empty batch."""
        self.lock.assert_held()
        krwp.touch(UPDATE)
        krwp.bulk_head_free, self.bulk_head = self.bulk_head, []


@attrs.define(eq=False)
class Krc:
    """The per-CPU variable krc. `queued` are all pointers that wait, for CONFIG_DEBUG_OBJECTS_RCU_HEAD."""

    per_cpu: tuple[KfreeRcuCpu, ...]
    queued: set[object] = attrs.field(factory=set, init=False)

    @classmethod
    def boot(cls, machine: Machine, wq: Workqueue) -> Krc:
        """kfree_rcu_batch_init()."""
        return cls(tuple(KfreeRcuCpu(cpu.actor, machine, cpu, wq) for cpu in machine.cpus))

    @property
    def is_at_rest(self) -> bool:
        """KERNEL-today U7: nothing waits on any CPU."""
        return all(krcp.is_at_rest for krcp in self.per_cpu)


# -- kfree_rcu() ------------------------------------------------------------------------------------------------------


@kernel_fn("kfree_rcu", "include/linux/rcupdate.h", profiles="6.12..")
async def kfree_rcu(ctx: Context, *parts: Shared | None) -> None:
    """Free a struct with the *parts* embedded in it after a grace period, in a batch. Any context."""
    await kvfree_call_rcu(ctx, parts)


@kernel_fn("kfree_rcu_object", "include/linux/rcupdate.h", profiles="6.12..", known_as="kfree_rcu")
async def kfree_rcu_object(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """kfree_rcu() of an object of the cache *s*. Any context."""
    await kvfree_call_rcu(ctx, CacheObject(s, obj))


@kernel_fn("kvfree_call_rcu", "mm/slab_common.c", profiles="7.2..")
async def kvfree_call_rcu_7_2(ctx: Context, ptr: Record) -> None:
    """KERNEL-7.2 N2.1: put an object of this CPU's node into its cache's rcu sheaf, if that can be had."""
    if isinstance(ptr, CacheObject):
        if ptr.obj.slab.nid != ctx.numa_node or not await __kfree_rcu_sheaf(ctx, ptr.s, ptr.obj):
            await queue_in_block(ctx, ptr)
        return
    struct = ptr[0]
    assert struct is not None
    await call_rcu(ctx, RcuHead(KmallocSheaf(struct.actor, ptr)), rcu_free_kmalloc_sheaf)


@attrs.define(eq=False)
class KmallocSheaf(Shared):
    """An rcu sheaf of a cache of kmalloc(), which a struct with its *parts* has made full."""

    parts: Parts

    @property
    def label(self) -> str:
        return f"sheaf of kmalloc() with {', '.join(part.label for part in self.parts if part is not None)}"


@kernel_fn("rcu_free_kmalloc_sheaf", "mm/slub.c", profiles="7.2..", known_as="rcu_free_sheaf")
async def rcu_free_kmalloc_sheaf(ctx: Context, head: RcuHead) -> None:
    """RCU callback: the struct is free for reuse."""
    assert isinstance(head.container, KmallocSheaf)
    ctx.kfree(*head.container.parts)


@kernel_fn("kvfree_call_rcu", "kernel/rcu/tree.c", profiles="6.12")
async def kvfree_call_rcu(ctx: Context, ptr: Record) -> None:
    """Append *ptr* to this CPU's block, and have the monitor run in five seconds."""
    await queue_in_block(ctx, ptr)


async def queue_in_block(ctx: Context, ptr: Record) -> None:
    """kvfree_call_rcu() of 6.12, and from 7.2 on for what is in no sheaf."""
    queued = ctx.machine.krc.queued
    if WARN_ON(ctx, identity(ptr) in queued, "kvfree_call_rcu(): Double-freed call. rcu_head"):
        return
    queued.add(identity(ptr))
    with ctx.irq_section:
        krcp = await this_cpu_krc(ctx)
        async with SpinLockHeld(ctx, krcp.lock):
            await ctx.ask(krcp.add_record, ptr)
            await __schedule_delayed_monitor_work(ctx, krcp)


def identity(ptr: Record) -> object:
    """The address of *ptr*."""
    return ptr.obj if isinstance(ptr, CacheObject) else ptr[0]


async def this_cpu_krc(ctx: Context) -> KfreeRcuCpu:
    """this_cpu_ptr(&krc), with IRQs off."""
    per_cpu = ctx.machine.krc.per_cpu
    await ctx.this_cpu(per_cpu[ctx.smp_processor_id], THIS_CPU_KRC)
    return per_cpu[ctx.smp_processor_id]


@kernel_fn("schedule_delayed_monitor_work", "kernel/rcu/tree.c", profiles="6.12..")
async def schedule_delayed_monitor_work(ctx: Context, krcp: KfreeRcuCpu) -> None:
    """Have the monitor run again."""
    async with SpinLockIrqHeld(ctx, krcp.lock):
        await __schedule_delayed_monitor_work(ctx, krcp)


@kernel_fn("__schedule_delayed_monitor_work", "kernel/rcu/tree.c", profiles="6.12..")
async def __schedule_delayed_monitor_work(ctx: Context, krcp: KfreeRcuCpu) -> None:
    """Start the monitor's timer, unless it is to run early enough; a full block makes it run in the next jiffy."""
    monitor = krcp.monitor_work
    delay = JIFFY_NS if await ctx.ask(krcp.krc_count) >= KVFREE_BULK_MAX_ENTR else KFREE_DRAIN_NS
    if not await ctx.ask(monitor.is_pending):
        await queue_delayed_work(ctx, monitor, delay)
    elif ctx.world.now + delay < monitor.expires:
        await mod_delayed_work(ctx, monitor, delay)


# -- the works --------------------------------------------------------------------------------------------------------


@kernel_fn("kfree_rcu_monitor", "kernel/rcu/tree.c", profiles="6.12..")
async def kfree_rcu_monitor(ctx: Context, work: Work) -> None:
    """Free the blocks that are ready, give the others to a batch, and come again if no batch was empty."""
    krcp = work.container
    assert isinstance(krcp, KfreeRcuCpu)
    await kvfree_rcu_drain_ready(ctx, krcp)
    await kvfree_rcu_queue_batch(ctx, krcp)
    if await ctx.ask(krcp.krc_count):
        await schedule_delayed_monitor_work(ctx, krcp)


@kernel_fn("kvfree_rcu_drain_ready", "kernel/rcu/tree.c", profiles="6.12..")
async def kvfree_rcu_drain_ready(ctx: Context, krcp: KfreeRcuCpu) -> None:
    """Free the blocks whose grace period has passed since the last pointer came."""
    async with SpinLockIrqHeld(ctx, krcp.lock):
        ready = await ctx.ask(krcp.take_ready)
    for bnode in ready:
        await kvfree_rcu_bulk(ctx, bnode)


@kernel_fn("kvfree_rcu_queue_batch", "kernel/rcu/tree.c", profiles="6.12..")
async def kvfree_rcu_queue_batch(ctx: Context, krcp: KfreeRcuCpu) -> bool:
    """Give all blocks to an empty batch, which is freed after a grace period; False without blocks or batch."""
    queued = False
    async with SpinLockIrqHeld(ctx, krcp.lock):
        for krwp in krcp.krw_arr:
            if await ctx.ask(krwp.is_empty) and await ctx.ask(krcp.krc_count) > 0:
                await ctx.ask(krcp.detach_to, krwp)
                queued = await queue_rcu_work(ctx, krwp.rcu_work)
                WARN_ON(ctx, not queued, "kvfree_rcu_queue_batch: !queued")
                break
    return queued


@kernel_fn("kfree_rcu_work", "kernel/rcu/tree.c", profiles="6.12..")
async def kfree_rcu_work(ctx: Context, work: Work) -> None:
    """Free the blocks of a batch, after its grace period."""
    krwp = work.container
    assert isinstance(krwp, KfreeRcuBatch)
    async with SpinLockIrqHeld(ctx, krwp.krcp.lock):
        blocks = await ctx.ask(krwp.take_all)
    for bnode in blocks:
        await kvfree_rcu_bulk(ctx, bnode)


@kernel_fn("kvfree_rcu_bulk", "kernel/rcu/tree.c", profiles="6.12..")
async def kvfree_rcu_bulk(ctx: Context, bnode: BulkBlock) -> None:
    """Free all pointers of a block; none, with a warning, if its grace period has not passed."""
    rcu, lockdep = ctx.machine.rcu, ctx.machine.lockdep
    rcu.touch_part("readers", READ)
    if WARN_ON(ctx, not rcu.has_passed(bnode.gp_snap), "kvfree_rcu_bulk: !poll_state_synchronize_rcu_full()"):
        return
    for ptr in bnode.records:
        ctx.machine.krc.queued.discard(identity(ptr))
    lockdep.acquire(ctx, RCU_CALLBACK)
    await kfree_bulk(ctx, bnode.records)
    lockdep.release(ctx, RCU_CALLBACK)


async def kfree_bulk(ctx: Context, records: list[Record]) -> None:
    """Free structs and objects of caches in their order; neighbours of one cache are freed by one call."""
    for s, group in itertools.groupby(records, lambda ptr: ptr.s if isinstance(ptr, CacheObject) else None):
        if s is not None:
            await kmem_cache_free_bulk(ctx, s, [ptr.obj for ptr in group if isinstance(ptr, CacheObject)])
        else:
            for ptr in group:
                ctx.kfree(*ptr)


# -- the barrier ------------------------------------------------------------------------------------------------------


@kernel_fn("kvfree_rcu_barrier", "mm/slab_common.c", profiles="7.2..")
async def kvfree_rcu_barrier_7_2(ctx: Context) -> None:
    """KERNEL-7.2 N2.4: wait until all that was given to kfree_rcu() before is freed, in sheaves and in blocks."""
    await flush_all_rcu_sheaves(ctx)
    await __kvfree_rcu_barrier(ctx)


@kernel_fn("flush_all_rcu_sheaves", "mm/slub.c", profiles="7.2..")
async def flush_all_rcu_sheaves(ctx: Context) -> None:
    """KERNEL-7.2 N2.4, steps 1 to 3: give the rcu sheaves of all caches to RCU; wait for all callbacks."""
    get_online_cpus(ctx)
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        for s in await ctx.ask(ctx.machine.slab_caches.list):
            if s.sheaf_capacity:
                await flush_rcu_sheaves_on_cache(ctx, s)
    put_online_cpus(ctx)
    await rcu_barrier(ctx)


@kernel_fn("kvfree_rcu_barrier_on_cache", "mm/slab_common.c", profiles="7.2..")
async def kvfree_rcu_barrier_on_cache(ctx: Context, s: KmemCache) -> None:
    """KERNEL-7.2 N2.4: the same for the sheaves of one cache, without slab_mutex; and for the blocks of all caches."""
    if s.sheaf_capacity:
        get_online_cpus(ctx)
        await flush_rcu_sheaves_on_cache(ctx, s)
        put_online_cpus(ctx)
        await rcu_barrier(ctx)
    await __kvfree_rcu_barrier(ctx)


@kernel_fn("__kvfree_rcu_barrier", "mm/slab_common.c", profiles="7.2..")
async def __kvfree_rcu_barrier(ctx: Context) -> None:
    """6.12's kvfree_rcu_barrier()."""
    await drain_blocks(ctx)


@kernel_fn("kvfree_rcu_barrier", "kernel/rcu/tree.c", profiles="6.12")
async def kvfree_rcu_barrier(ctx: Context) -> None:
    """Wait until all memory that was given to kfree_rcu() before this call is freed."""
    await drain_blocks(ctx)


async def drain_blocks(ctx: Context) -> None:
    """Hand all blocks to batches, stop the monitors, and wait for the batches.

    Pointers that come meanwhile may be left without a monitor, as in C: the next kfree_rcu() of that CPU starts it
    again.
    """
    await queue_all_batches(ctx)
    for krcp in ctx.machine.krc.per_cpu:
        await cancel_delayed_work_sync(ctx, krcp.monitor_work)
        for krwp in krcp.krw_arr:
            await flush_rcu_work(ctx, krwp.rcu_work)


async def queue_all_batches(ctx: Context) -> None:
    """The first half of the barrier: each CPU has handed all its blocks to batches, or has none."""
    for krcp in ctx.machine.krc.per_cpu:
        while await ctx.ask(krcp.krc_count):
            if await kvfree_rcu_queue_batch(ctx, krcp) or not await ctx.ask(krcp.krc_count):
                break
            for krwp in krcp.krw_arr:
                await flush_rcu_work(ctx, krwp.rcu_work)
