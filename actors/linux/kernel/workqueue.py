"""Bound workqueues and the kworkers that run them. kernel/workqueue.c @5.3.

Each CPU has one worker pool, which runs the items queued on that CPU, of all bound queues, in order. A pool runs one
item at a time. It starts the next one only when the running worker sleeps (concurrency management); preemption of the
worker starts no other. In addition each queue has at most `max_active` items in the pool; the others wait in the
queue's own list. PENDING is cleared before the function is called, and the worker never accesses the item afterwards
(KERNEL.md 2.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.machine.context import WARN_ON, Context, deref
from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Shared
from actors.system.flow import Kind
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.system.cpu import Cpu
    from actors.system.flow import Flow

WORKER_NS = (2_000, 50_000)
WORKER_DELAY_NS = 500_000_000

MANY_ACTIVE = 16  # with this max_active or more, a queue never reaches its limit here

WorkFunc = Callable[[Context, "Work"], Awaitable[None]]


@attrs.define(eq=False)
class Work(ListEntry):
    """struct work_struct. `last_pool` is the pool where it ran last: no two workers run it at once.

    `queued_by` is the execution context and the step that queued it last, for reports.
    """

    container: Shared
    func: WorkFunc | None = None
    pending: bool = False
    last_pool: WorkerPool | None = None
    queued_by: tuple[str, int] = ("", -1)
    name: str = attrs.field(default="work", kw_only=True)

    @property
    def label(self) -> str:
        return f"{self.name} of {self.container.label}"

    def init_work(self, func: WorkFunc) -> None:
        """INIT_WORK: clears PENDING and the last pool."""
        self.touch(UPDATE)
        self.func = func
        self.pending = False
        self.last_pool = None

    @operation(UPDATE, cost=ATOMIC_NS)
    def test_and_set_pending(self) -> bool:
        """Set PENDING; return its old value."""
        was, self.pending = self.pending, True
        return was


@attrs.frozen(eq=False)
class Item:
    """One queued work. `ticket` numbers the items of `pwq`, so that a flush can tell earlier items from later ones."""

    pwq: PoolWorkqueue
    ticket: int
    work: Work

    @property
    def memory(self) -> ListEntry:
        """The object that contains its list_head, which is work->entry."""
        return self.work


@attrs.define(eq=False)
class Worker(Context):
    """A kworker; `current` is the item that it executes, `scheduled` are items that must not run at the same time."""

    pool: WorkerPool = attrs.field(kw_only=True)
    current: Item | None = attrs.field(default=None, init=False)
    current_func: WorkFunc | None = attrs.field(default=None, init=False)
    scheduled: ListHead[Item] = attrs.field(factory=ListHead, init=False)

    @property
    def is_running(self) -> bool:
        """Whether it counts in nr_running: it executes an item and does not sleep."""
        return self.current is not None and (self.ready or not self.request.info.sleeps)

    def executes(self, work: Work) -> bool:
        """find_worker_executing_work(): the same work with the same function."""
        return self.current is not None and self.current.work is work and self.current_func is work.func

    def take_up(self, item: Item) -> None:
        """Begin *item*: from now on the work may be queued again, or freed."""
        item.work.touch(UPDATE)
        self.current = item
        self.current_func = item.work.func
        item.work.pending = False
        item.work.last_pool = self.pool

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- as in Flow
        """When the worker falls asleep or wakes up, the pool reconsiders whether another worker is needed."""
        was_ready = self.ready
        super().set_ready(ready)
        info, target = self.request.info, self.request.target
        if self.current is None or not info.sleeps:
            return
        if self.world.current is self and target is not None:
            # Other execution contexts can observe whether it falls asleep.
            target.touch_part(info.part, COMMUTE if info.access is COMMUTE else READ)
        if ready != was_ready:
            self.pool.touch_part("nr_running", COMMUTE)
            self.pool.reconsider()


@attrs.define(eq=False)
class PoolWorkqueue(Shared):
    """struct pool_workqueue: one queue's part on one CPU. `unfinished` has the tickets of items not finished yet."""

    wq: Workqueue
    pool: WorkerPool
    nr_active: int = attrs.field(default=0, init=False)
    inactive: ListHead[Item] = attrs.field(init=False)
    unfinished: dict[int, None] = attrs.field(factory=dict, init=False)
    tickets: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.inactive = ListHead(self.pool, "worklist")

    @property
    def label(self) -> str:
        return f"{self.wq.name} on {self.pool.cpu.label}"

    @operation(READ, part="tickets")
    def last_ticket(self) -> int:
        """The number of the item queued last."""
        return self.tickets

    def touch_nr_active(self) -> None:
        """Record the access to nr_active that queueing and finishing share, if max_active is small enough to matter."""
        if self.wq.max_active < MANY_ACTIVE:
            self.touch_part("nr_active", UPDATE)

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        """A flush waits for the workers that execute this queue's items."""
        return tuple(worker for worker in self.pool.busy if worker.current is not None and worker.current.pwq is self)

    def is_flushed(self, upto: int) -> bool:
        return not self.unfinished or next(iter(self.unfinished)) > upto

    @operation(READ, when=is_flushed, sleeps=True, part="unfinished")
    def wait_flushed(self, upto: int) -> None:
        """Sleep until every item up to that ticket has finished."""


@attrs.define(eq=False)
class WorkerPool(Shared):
    """struct worker_pool of one CPU. The most recently idle worker takes the next item of `worklist`.

    Every operation is one section under pool->lock; the lock is never held across another access.
    """

    machine: Machine
    cpu: Cpu
    worklist: ListHead[Item] = attrs.field(init=False)
    busy: list[Worker] = attrs.field(factory=list, init=False)
    idle: list[Worker] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.worklist = ListHead(self, "worklist")

    @property
    def label(self) -> str:
        return f"worker pool of {self.cpu.label}"

    def is_needed(self, worker: Worker) -> bool:
        """need_more_worker(): there is an item and no worker runs; the worker that became idle last is woken."""
        return bool(self.worklist) and self.idle[-1] is worker and not any(busy.is_running for busy in self.busy)

    @operation(UPDATE, part="worklist", lifecycle=True)
    def insert(self, pwq: PoolWorkqueue, work: Work) -> bool:
        """__queue_work(): append *work* to the pool, or to the queue's list at max_active; False if queued already."""
        pwq.touch_part("tickets", UPDATE)
        pwq.touch_nr_active()
        if any(item.work is work for item in (*self.worklist, *pwq.inactive)):
            return False
        world = self.cpu.world
        work.queued_by = world.current.name if world.current is not None else "", world.step
        pwq.tickets += 1
        item = Item(pwq, pwq.tickets, work)
        pwq.unfinished[item.ticket] = None
        if pwq.nr_active < pwq.wq.max_active:
            pwq.nr_active += 1
            self.worklist.list_add_tail(item)
        else:
            pwq.inactive.list_add_tail(item)
        return True

    @operation(READ, part="busy_hash")
    def insert_if_executing(self, pwq: PoolWorkqueue, work: Work) -> bool:
        """Append *work* here if a worker of this pool is executing it."""
        if not any(worker.executes(work) for worker in self.busy):
            return False
        self.touch_part("worklist", UPDATE)
        return self.insert(pwq, work)

    @operation(UPDATE, when=is_needed, idle=True, latency=WORKER_NS, part="worklist", lifecycle=True)
    def take(self, worker: Worker) -> None:
        """Begin the oldest item whose work no other worker executes; earlier ones are left to those workers."""
        self.touch_part("busy_hash", UPDATE)
        self.touch_part("nr_running", UPDATE)
        while worker.current is None and (item := self.worklist.list_first_entry()) is not None:
            self.worklist.list_del(item)
            other = next((busy for busy in self.busy if busy.executes(item.work)), None)
            if other is None:
                self.idle.remove(worker)
                self.busy.append(worker)
                worker.take_up(item)
            else:
                other.scheduled.list_add_tail(item)
        if not self.idle:
            self.spawn_worker()

    @operation(UPDATE, part="busy_hash")
    def finish(self, worker: Worker) -> None:
        """The item has finished: continue with a scheduled item, or become idle."""
        self.touch_part("nr_running", COMMUTE)
        assert worker.current is not None
        self.retire(worker.current)
        worker.current = None
        item = worker.scheduled.list_first_entry()
        if item is not None:
            worker.scheduled.list_del(item)
            worker.take_up(item)
        else:
            self.busy.remove(worker)
            self.idle.append(worker)

    def retire(self, item: Item) -> None:
        """pwq_dec_nr_in_flight(): activate the queue's next inactive item."""
        pwq = item.pwq
        pwq.touch_part("unfinished", UPDATE)
        pwq.touch_nr_active()
        del pwq.unfinished[item.ticket]
        waiting = pwq.inactive.list_first_entry()
        if waiting is not None:
            self.touch_part("worklist", UPDATE)
            pwq.inactive.list_del(waiting)
            self.worklist.list_add_tail(waiting)
        else:
            pwq.nr_active -= 1
        pwq.reconsider()

    def spawn_worker(self) -> None:
        """create_worker(): one more idle worker."""
        name = f"kworker/{self.cpu.id}:{len(self.busy) + len(self.idle)}"
        worker = Worker(self.cpu.world, name, Kind.KWORKER, self.cpu, machine=self.machine, pool=self)
        self.idle.append(worker)
        self.cpu.world.spawn(worker, worker_thread(worker))


@attrs.define(eq=False)
class Workqueue:
    """struct workqueue_struct; `pwqs` is indexed by CPU."""

    name: str
    max_active: int
    pwqs: list[PoolWorkqueue] = attrs.field(factory=list, init=False)

    @property
    def completion(self) -> str:
        """Lockdep's class for waiting for this queue."""
        return f"(wq_completion){self.name}"

    @classmethod
    def alloc(cls, pools: list[WorkerPool], name: str, max_active: int) -> Workqueue:
        """alloc_workqueue(name, 0, max_active)."""
        wq = cls(name, max_active)
        wq.pwqs = [PoolWorkqueue(pool.actor, wq, pool) for pool in pools]
        return wq


async def worker_thread(worker: Worker) -> None:
    """One kworker; loops for ever."""
    while True:
        await worker.ask(worker.pool.take, worker)
        while worker.current is not None:
            if worker.world.should_fail("delayed-kworker"):
                await worker.stall(WORKER_DELAY_NS)
            await process_one_work(worker, worker.current)
            await worker.ask(worker.pool.finish, worker)


async def process_one_work(worker: Worker, item: Item) -> None:
    """Call the function, which must return without a lock held and outside of atomic sections.

    Flushers wait for the work and its queue, so for lockdep the worker holds both meanwhile.
    """
    func, lockdep = deref(worker.current_func, "process_one_work(): worker->current_func"), worker.machine.lockdep
    classes = (item.pwq.wq.completion, f"(work_completion){getattr(func, 'name', '')}")
    for name in classes:
        lockdep.acquire(worker, name)
    await func(worker, item.work)
    for name in reversed(classes):
        lockdep.release(worker, name)
    if worker.is_atomic or worker.held_locks:
        held = ", ".join(lock.name for lock in worker.held_locks) or "no lock"
        text = f"BUG: workqueue leaked lock or atomic: {getattr(func, 'name', 'a function')}() ends with {held} held"
        worker.world.report("lockdep", "workqueue leaked lock or atomic", text, flow=worker)


@kernel_fn("queue_work_on", "kernel/workqueue.c")
async def queue_work_on(ctx: Context, cpu: int, wq: Workqueue, work: Work) -> bool:
    """Queue *work* on *cpu*, unless it is pending."""
    with ctx.irq_section:
        if await ctx.ask(work.test_and_set_pending):
            return False
        await __queue_work(ctx, cpu, wq, work)
    return True


@kernel_fn("queue_work", "kernel/workqueue.c")
async def queue_work(ctx: Context, wq: Workqueue, work: Work) -> bool:
    """Queue *work* on the CPU that the caller runs on."""
    return await queue_work_on(ctx, ctx.smp_processor_id, wq, work)


@kernel_fn("__queue_work", "kernel/workqueue.c")
async def __queue_work(ctx: Context, cpu: int, wq: Workqueue, work: Work) -> None:
    """Queue *work*, whose PENDING bit the caller has set; on the CPU where it is still running, if there is one."""
    pwq = wq.pwqs[cpu]
    last = work.last_pool
    if (
        last is not None
        and last is not pwq.pool
        and await ctx.ask(last.insert_if_executing, wq.pwqs[last.cpu.id], work)
    ):
        return
    queued = await ctx.ask(pwq.pool.insert, pwq, work)
    WARN_ON(ctx, not queued, "__queue_work: !list_empty(&work->entry)")


@kernel_fn("flush_workqueue", "kernel/workqueue.c")
async def flush_workqueue(ctx: Context, wq: Workqueue) -> None:
    """Wait for every item that was queued before this call, on any CPU."""
    ctx.might_sleep("flush_workqueue")
    ctx.machine.lockdep.acquire(ctx, wq.completion)
    ctx.machine.lockdep.release(ctx, wq.completion)
    tickets = [await ctx.ask(pwq.last_ticket) for pwq in wq.pwqs]
    for pwq, ticket in zip(wq.pwqs, tickets, strict=True):
        await ctx.ask(pwq.wait_flushed, ticket)


@attrs.define(eq=False)
class RcuWork:
    """struct rcu_work: a work item that is queued after a grace period."""

    work: Work
    wq: Workqueue
    head: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = RcuHead(self.work)


@kernel_fn("queue_rcu_work", "kernel/workqueue.c")
async def queue_rcu_work(ctx: Context, rwork: RcuWork) -> bool:
    """Queue *rwork* after a grace period, unless it is pending."""
    if await ctx.ask(rwork.work.test_and_set_pending):
        return False

    async def rcu_work_rcufn(ctx: Context, _head: RcuHead) -> None:
        with ctx.irq_section:
            await __queue_work(ctx, ctx.smp_processor_id, rwork.wq, rwork.work)

    await call_rcu(ctx, rwork.head, rcu_work_rcufn)
    return True


@kernel_fn("queue_delayed_work_on", "kernel/workqueue.c")
async def queue_delayed_work_on(ctx: Context, cpu: int, wq: Workqueue, work: Work, delay: int) -> bool:
    """Queue *work* on *cpu* after *delay* nanoseconds, by a timer of that CPU, unless it is pending."""
    if await ctx.ask(work.test_and_set_pending):
        return False

    timer = delayed_work_timer(cpu, wq, work)
    await ctx.ask(ctx.machine.timer_bases[cpu].add_timer, ctx.world.now + delay, timer)
    return True


def delayed_work_timer(cpu: int, wq: Workqueue, work: Work) -> Callable[[Context], Awaitable[None]]:
    """delayed_work_timer_fn(): the timer function, which queues a work whose PENDING bit is set already."""

    async def delayed_work_timer_fn(ctx: Context) -> None:
        with ctx.irq_section:
            await __queue_work(ctx, cpu, wq, work)

    return delayed_work_timer_fn
