"""Bound workqueues. kernel/workqueue.c @5.3.

A work item runs on the CPU where it was queued, at most `max_active` of one queue at a time per CPU; PENDING is
cleared before the function is called, and the worker never touches the item afterwards (KERNEL.md 2.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.rcu import RcuHead, call_rcu
from actors.system.actor import Actor, Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.kernel.machine import Machine
    from actors.system.cpu import Cpu

WORKER_NS = (2_000, 50_000)


@attrs.define(eq=False)
class Work(Shared):
    """struct work_struct. `last_pool` is where it ran last: it is never run on two CPUs at once."""

    container: Shared
    func: Callable[[Context, Work], Awaitable[None]] | None = None
    pending: bool = False
    last_pool: Pool | None = None

    @property
    def label(self) -> str:
        return f"work of {self.container.label}"

    def init_work(self, func: Callable[[Context, Work], Awaitable[None]]) -> None:
        """INIT_WORK: forgets PENDING and where it ran last."""
        self.func = func
        self.pending = False
        self.last_pool = None

    @operation(UPDATE, cost=ATOMIC_NS)
    def test_and_set_pending(self) -> bool:
        """Set PENDING; return whether it was set."""
        was, self.pending = self.pending, True
        return was


@attrs.define(eq=False)
class Pool(Shared):
    """One queue on one CPU (pool_workqueue): items in order, each with its ticket, and those running now."""

    wq: Workqueue
    cpu: Cpu
    items: deque[tuple[int, Work]] = attrs.field(factory=deque, init=False)
    running: dict[int, Work] = attrs.field(factory=dict, init=False)
    tickets: int = attrs.field(default=0, init=False)
    workers: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        return f"{self.wq.name} on {self.cpu.label}"

    def has_item(self) -> bool:
        return bool(self.items) and len(self.running) < self.wq.max_active

    @operation(UPDATE)
    def insert(self, work: Work) -> None:
        """Append *work*; wake or create a worker if one more may run."""
        self.tickets += 1
        self.items.append((self.tickets, work))
        idle_workers = self.workers - len(self.running)
        if idle_workers < len(self.items) and self.workers < self.wq.max_active:
            self.wq.machine.spawn_kworker(self)

    @operation(UPDATE, when=has_item, idle=True, latency=WORKER_NS)
    def take(self) -> tuple[int, Work]:
        """Take the oldest item for running: PENDING is cleared now."""
        ticket, work = self.items.popleft()
        self.running[ticket] = work
        work.pending = False
        work.last_pool = self
        return ticket, work

    @operation(UPDATE)
    def finish(self, ticket: int) -> None:
        del self.running[ticket]

    @operation(READ)
    def last_ticket(self) -> int:
        """The number of the item queued last."""
        return self.tickets

    def is_flushed(self, upto: int) -> bool:
        return not any(ticket <= upto for ticket in self.running) and (not self.items or self.items[0][0] > upto)

    @operation(READ, when=is_flushed, sleeps=True)
    def wait_flushed(self, upto: int) -> None:
        """Sleep until every item up to that number has finished."""


@attrs.define(eq=False)
class Workqueue:
    """struct workqueue_struct; `pools` by CPU."""

    machine: Machine
    name: str
    max_active: int
    pools: list[Pool] = attrs.field(factory=list, init=False)

    @classmethod
    def alloc(cls, machine: Machine, name: str, max_active: int) -> Workqueue:
        """alloc_workqueue(name, 0, max_active)."""
        wq = cls(machine, name, max_active)
        actor = Actor(machine.world, f"wq:{name}")
        wq.pools = [Pool(actor, wq, cpu) for cpu in machine.cpus]
        return wq


async def worker_thread(ctx: Context, pool: Pool) -> None:
    """One kworker, for ever."""
    while True:
        ticket, work = await ctx.ask(pool.take)
        func = work.func
        assert func is not None
        await func(ctx, work)
        await ctx.ask(pool.finish, ticket)


@kernel_fn("kernel/workqueue.c")
async def queue_work_on(ctx: Context, cpu: int, wq: Workqueue, work: Work) -> bool:
    """Queue *work* on *cpu*, unless it is pending; where it still runs, if it runs elsewhere."""
    with ctx.irq_section:
        if await ctx.ask(work.test_and_set_pending):
            return False
        pool = wq.pools[cpu]
        last = work.last_pool
        if last is not None and work in last.running.values():
            pool = last
        await ctx.ask(pool.insert, work)
    return True


@kernel_fn("kernel/workqueue.c")
async def queue_work(ctx: Context, wq: Workqueue, work: Work) -> bool:
    """Queue *work* on the CPU that the caller runs on."""
    return await queue_work_on(ctx, ctx.smp_processor_id, wq, work)


@kernel_fn("kernel/workqueue.c")
async def flush_workqueue(ctx: Context, wq: Workqueue) -> None:
    """Wait for every item that was queued before this call, on any CPU."""
    tickets = [await ctx.ask(pool.last_ticket) for pool in wq.pools]
    for pool, ticket in zip(wq.pools, tickets, strict=True):
        await ctx.ask(pool.wait_flushed, ticket)


@attrs.define(eq=False)
class RcuWork:
    """struct rcu_work: a work item that is queued after a grace period."""

    work: Work
    wq: Workqueue
    head: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = RcuHead(self.work)


@kernel_fn("kernel/workqueue.c")
async def queue_rcu_work(ctx: Context, rwork: RcuWork) -> bool:
    """Queue *rwork* once a grace period has passed, unless it is pending."""
    if await ctx.ask(rwork.work.test_and_set_pending):
        return False

    async def rcu_work_rcufn(ctx: Context, _head: RcuHead) -> None:
        with ctx.irq_section:
            await ctx.ask(rwork.wq.pools[ctx.smp_processor_id].insert, rwork.work)

    await call_rcu(ctx, rwork.head, rcu_work_rcufn)
    return True
