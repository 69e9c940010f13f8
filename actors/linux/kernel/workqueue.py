"""Bound workqueues and the kworkers that run them. kernel/workqueue.c @5.3.

Each CPU has one worker pool, which runs the items queued on that CPU, of all bound queues, in order. A pool runs one
item at a time. It starts the next one only when the running worker sleeps (concurrency management); preemption of the
worker starts no other. In addition each queue has at most `max_active` items in the pool; the others wait in the
queue's own list. PENDING is cleared before the function is called, and the worker never accesses the item afterwards
(KERNEL.md 2.2).

From 6.12 on there is an unbound pool, too: each of its items runs on any CPU, and it starts one for each idle worker,
whether other workers run or not (KERNEL-today 2.4).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, rcu_barrier
from actors.linux.kernel.time.timer import TimerBase, run_timer_softirq
from actors.machine.context import WARN_ON, Context, deref
from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Shared
from actors.system.flow import Kind
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.kernel.softirq import Action
    from actors.system.cpu import Cpu
    from actors.system.flow import Flow

WORKER_NS = (2_000, 50_000)
WORKER_DELAY_NS = 500_000_000

MANY_ACTIVE = 16  # with this max_active or more, a queue never reaches its limit here

WorkFunc = Callable[[Context, "Work"], Awaitable[None]]


@attrs.define(eq=False)
class Work(ListEntry):
    """struct work_struct. `last_pool` is the pool where it ran last: no two workers run it at once.

    `queued_by` is the execution context and the step that queued it last, for reports; `queued_on` is the pool.
    """

    container: Shared
    func: WorkFunc | None = None
    pending: bool = False
    last_pool: WorkerPool | None = None
    queued_by: tuple[str, int] = ("", -1)
    queued_on: WorkerPool | None = None
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

    @operation(READ, cost=ATOMIC_NS)
    def read_pool(self) -> WorkerPool | None:
        """get_work_pool(): the pool where it was queued last."""
        return self.queued_on

    @operation(READ, cost=ATOMIC_NS)
    def is_pending(self) -> bool:
        """work_pending(): it is queued, or waits for a timer or for RCU."""
        return self.pending


@attrs.define(eq=False)
class DelayedWork(Work):
    """struct delayed_work: a work that a timer of `base` queues at `expires` (ns). `disabled` counts cancellations.

    Unlike the works of queue_delayed_work_on(), which are housekeeping, it delays quiescence.
    """

    wq: Workqueue = attrs.field(kw_only=True)
    base: TimerBase | None = attrs.field(default=None, init=False)
    timer: Action | None = attrs.field(default=None, init=False)
    expires: int = attrs.field(default=0, init=False)
    disabled: int = attrs.field(default=0, init=False)

    def is_timer_pending(self) -> bool:
        return self.base is not None and self.timer is not None and self.base.is_pending(self.timer)

    def is_settled(self) -> bool:
        """Whether nobody is between PENDING and the timer or the pool."""
        if not self.pending or self.is_timer_pending():
            return True
        return self.queued_on is not None and self.queued_on.listed(self) is not None

    @operation(UPDATE, cost=ATOMIC_NS)
    def test_and_set_pending(self) -> bool:
        """Set PENDING; return its old value. A work that is being cancelled cannot be queued."""
        if self.disabled:
            return True
        was, self.pending = self.pending, True
        return was

    @operation(UPDATE, when=is_settled)
    def grab_pending(self, *, disables: bool = False) -> bool:
        """work_grab_pending(): stop the timer, or take the work off its pool; return whether it was pending.

        The caller owns PENDING then, or *disables* the work instead, as __cancel_work() does with IRQs off. In C this
        is a loop, which waits for a CPU that is just queueing the work.
        """
        was = self.pending
        if was and self.base is not None and self.timer is not None and self.base.is_pending(self.timer):
            self.base.del_timer(self.timer)
        elif was and self.queued_on is not None:
            self.queued_on.remove(self)
        self.pending = not disables
        self.disabled += disables
        return was

    @operation(UPDATE)
    def enable(self) -> None:
        """enable_work()."""
        self.disabled -= 1


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
class UnboundWorker(Worker):
    """A kworker of the unbound pool: it counts in no nr_running, and runs on any CPU."""

    @property
    def is_running(self) -> bool:
        """Never: WORKER_UNBOUND is in WORKER_NOT_RUNNING."""
        return False

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- as in Flow
        """The pool takes no notice of sleeping workers."""
        Context.set_ready(self, ready)


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

    def is_finished(self, ticket: int) -> bool:
        return ticket not in self.unfinished

    @operation(READ, when=is_finished, sleeps=True, part="unfinished")
    def wait_finished(self, ticket: int) -> None:
        """Sleep until that item has finished."""


@attrs.define(eq=False)
class WorkerPool(Shared):
    """struct worker_pool of one CPU. The most recently idle worker takes the next item of `worklist`.

    Every operation is one section under pool->lock; the lock is never held across another access.
    """

    machine: Machine
    cpu: Cpu
    pwqs: list[PoolWorkqueue] = attrs.field(factory=list, init=False)
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
        work.queued_on = self
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

    def listed(self, work: Work) -> tuple[ListHead[Item], Item] | None:
        """The queued item of *work* that no worker has begun, with its list."""
        heads = [self.worklist, *(worker.scheduled for worker in self.busy), *(pwq.inactive for pwq in self.pwqs)]
        return next(((head, item) for head in heads for item in head if item.work is work), None)

    @operation(READ, part="worklist")
    def find_item(self, work: Work) -> Item | None:
        """The item of *work* that a flush waits for: the queued one, or the one that a worker executes."""
        self.touch_part("busy_hash", READ)
        listed = self.listed(work)
        if listed is not None:
            return listed[1]
        return next((worker.current for worker in self.busy if worker.executes(work)), None)

    def remove(self, work: Work) -> None:
        """Take a queued item off its list, for try_to_grab_pending()."""
        found = self.listed(work)
        if found is None:
            return
        head, item = found
        self.touch_part("worklist", UPDATE)
        head.list_del(item)
        if head is item.pwq.inactive:
            item.pwq.touch_part("unfinished", UPDATE)
            del item.pwq.unfinished[item.ticket]
            item.pwq.reconsider()
        else:
            self.retire(item)

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
class UnboundPool(WorkerPool):
    """The struct worker_pool of unbound queues; `cpu` is where its workers wait."""

    @property
    def label(self) -> str:
        return "unbound worker pool"

    def spawn_worker(self) -> None:
        """create_worker(): one more idle worker, for any CPU."""
        name = f"kworker/u{len(self.machine.cpus)}:{len(self.busy) + len(self.idle)}"
        cpus = self.machine.cpus
        worker = UnboundWorker(
            self.cpu.world, name, Kind.KWORKER, self.cpu, machine=self.machine, pool=self, cpus_allowed=cpus
        )
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
        for pwq in wq.pwqs:
            pwq.pool.pwqs.append(pwq)
        return wq

    @classmethod
    def alloc_unbound(cls, pool: UnboundPool, name: str, max_active: int) -> Workqueue:
        """alloc_workqueue(name, WQ_UNBOUND, max_active): all CPUs share one part."""
        wq = cls.alloc([pool], name, max_active)
        wq.pwqs *= len(pool.machine.cpus)
        return wq


async def worker_thread(worker: Worker) -> None:
    """One kworker; loops for ever."""
    while True:
        await worker.ask(worker.pool.take, worker)
        while worker.current is not None:
            if worker.world.should_fail("delayed-kworker"):
                await worker.stall(WORKER_DELAY_NS)
            if len(worker.cpus_allowed) > 1:
                await worker.migrate(worker.cpus_allowed[await worker.choose(len(worker.cpus_allowed))])
            await process_one_work(worker, worker.current)
            await worker.ask(worker.pool.finish, worker)


async def process_one_work(worker: Worker, item: Item) -> None:
    """Call the function, which must return without a lock held and outside of atomic sections.

    Flushers wait for the work and its queue, so for lockdep the worker holds both meanwhile.
    """
    func, lockdep = deref(worker.current_func, "process_one_work(): worker->current_func"), worker.machine.lockdep
    classes = (item.pwq.wq.completion, completion_of(func))
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
    pwqs = list(dict.fromkeys(wq.pwqs))
    tickets = [await ctx.ask(pwq.last_ticket) for pwq in pwqs]
    for pwq, ticket in zip(pwqs, tickets, strict=True):
        await ctx.ask(pwq.wait_flushed, ticket)


@kernel_fn("flush_work", "kernel/workqueue.c", profiles="6.12..")
async def flush_work(ctx: Context, work: Work) -> bool:
    """Wait until *work*, as it is queued or executed now, has finished; False if it is idle. KERNEL-today 2.4."""
    ctx.might_sleep("flush_work")
    completion = completion_of(work.func)
    ctx.machine.lockdep.acquire(ctx, completion)
    ctx.machine.lockdep.release(ctx, completion)
    pool = await ctx.ask(work.read_pool)
    item = None if pool is None else await ctx.ask(pool.find_item, work)
    if item is None:
        return False
    await ctx.ask(item.pwq.wait_finished, item.ticket)
    return True


def completion_of(func: WorkFunc | None) -> str:
    """Lockdep's class for waiting for works with that function."""
    return f"(work_completion){getattr(func, 'name', '')}"


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


@kernel_fn("flush_rcu_work", "kernel/workqueue.c", profiles="6.12..")
async def flush_rcu_work(ctx: Context, rwork: RcuWork) -> bool:
    """Wait until *rwork* has finished, and before that for its grace period; False if it is idle."""
    if not await ctx.ask(rwork.work.is_pending):
        return await flush_work(ctx, rwork.work)
    await rcu_barrier(ctx)
    await flush_work(ctx, rwork.work)
    return True


# -- delayed work that can be changed and cancelled, from 6.12 on (KERNEL-today 2.3) ----------------------------------


@attrs.define(eq=False)
class WorkTimers(TimerBase):
    """The timers of one CPU that quiescence waits for: those of every `DelayedWork`."""

    @property
    def label(self) -> str:
        return f"work timers of {self.actor.name}"


async def work_timer_interrupt(ctx: Context, base: WorkTimers) -> None:
    """The clock of these timers; loops for ever. A timer that is made earlier while the clock sleeps comes late."""
    while True:
        due = await ctx.ask(base.next_expiry)
        await ctx.sleep(max(0, due - ctx.world.now))
        await ctx.ask(base.expire, ctx.world.now)


async def run_timers(ctx: Context, bases: tuple[TimerBase, ...]) -> None:
    """The timer softirq of a CPU with several bases."""
    for base in bases:
        await run_timer_softirq(ctx, base)


@kernel_fn("queue_delayed_work", "kernel/workqueue.c", profiles="6.12..")
async def queue_delayed_work(ctx: Context, dwork: DelayedWork, delay: int) -> bool:
    """Queue *dwork* after *delay* nanoseconds, unless it is pending or being cancelled."""
    with ctx.irq_section:
        if await ctx.ask(dwork.test_and_set_pending):
            return False
        await __queue_delayed_work(ctx, dwork, delay)
    return True


@kernel_fn("mod_delayed_work", "kernel/workqueue.c", profiles="6.12..")
async def mod_delayed_work(ctx: Context, dwork: DelayedWork, delay: int) -> bool:
    """Queue *dwork* after *delay* nanoseconds, whether it is pending or not; return whether it was."""
    with ctx.irq_section:
        was = await ctx.ask(dwork.grab_pending)
        await __queue_delayed_work(ctx, dwork, delay)
    return was


@kernel_fn("__queue_delayed_work", "kernel/workqueue.c", profiles="6.12..")
async def __queue_delayed_work(ctx: Context, dwork: DelayedWork, delay: int) -> None:
    """Start the timer of a work whose PENDING bit the caller has set; IRQs are off."""
    base = dwork.base = ctx.machine.work_timers[ctx.smp_processor_id]
    dwork.expires = ctx.world.now + delay

    async def delayed_work_timer_fn(ctx: Context) -> None:
        with ctx.irq_section:
            await __queue_work(ctx, ctx.smp_processor_id, dwork.wq, dwork)
            dwork.touch(UPDATE)
            dwork.reconsider()

    dwork.timer = delayed_work_timer_fn
    await ctx.ask(base.add_timer, dwork.expires, delayed_work_timer_fn)
    dwork.touch(UPDATE)
    dwork.reconsider()


@kernel_fn("cancel_delayed_work_sync", "kernel/workqueue.c", profiles="6.12..")
async def cancel_delayed_work_sync(ctx: Context, dwork: DelayedWork) -> bool:
    """Stop *dwork*, and wait until it does not run; meanwhile it cannot be queued. True if it was pending."""
    ctx.might_sleep("cancel_delayed_work_sync")
    was = await ctx.ask(dwork.grab_pending, disables=True)
    await flush_work(ctx, dwork)
    await ctx.ask(dwork.enable)
    return was


# -- delayed housekeeping ---------------------------------------------------------------------------------------------


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
