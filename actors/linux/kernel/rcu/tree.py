"""RCU: grace periods, per-CPU callback lists, rcu_barrier(). kernel/rcu/tree.c @5.3.

Flavours are consolidated: an execution context is a reader inside rcu_read_lock(), with preemption, softirqs or IRQs
off, or in a handler. A grace period takes a snapshot of the readers when it starts, and ends when each of them has
left. Callbacks that were queued before the start run after the end: in softirq on the CPU that queued them, in order
(KERNEL.md 2.1). The kthread that drives grace periods is bound to no CPU of the model, because all it does is wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar

import attrs

from actors.linux.kernel.locking.lockdep import RCU_CALLBACK
from actors.linux.kernel.locking.locks import Completion, Mutex, MutexHeld
from actors.linux.kernel.softirq import RCU_SOFTIRQ, Softirq
from actors.machine.context import WARN_ON, Context, deref
from actors.system.actor import Actor, Shared
from actors.system.flow import Flow
from actors.system.naming import Named
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.machine.lockless import LocklessField

BLIMIT = 10
QHIMARK = 10_000

GP_START_NS = (50_000, 3_000_000)
GP_LENGTH_NS = (5_000_000, 30_000_000)
GP_DELAY_NS = 500_000_000

CALL_RCU = OperationInfo("call_rcu", READ, cost=ATOMIC_NS)


@attrs.define(eq=False)
class RcuHead(Named):
    """struct rcu_head: a callback and its container. `queued` until it starts; `queued_by`: context and step."""

    container: Shared
    func: Callable[[Context, RcuHead], Awaitable[None]] | None = None
    queued: bool = False
    queued_by: tuple[str, int] = ("", -1)


@attrs.define(eq=False)
class RcuData(Shared):
    """struct rcu_data: one CPU's callbacks, oldest first.

    `waiting_for_start` have no grace period yet, `waiting_for_end` belong to the running one, `done` may be called.
    While a batch is called (`in_batch`), its callbacks are on none of these lists but still count (n_cbs). Accesses
    have two parts, `new` and `done`: adding at one end of the lists is independent of taking from the other. `called`
    is the callback that runs now or ran last; reports show it.
    """

    softirq: Softirq
    waiting_for_start: deque[RcuHead] = attrs.field(factory=deque, init=False)
    waiting_for_end: deque[RcuHead] = attrs.field(factory=deque, init=False)
    done: deque[RcuHead] = attrs.field(factory=deque, init=False)
    in_batch: bool = attrs.field(default=False, init=False)
    called: RcuHead | None = attrs.field(default=None, init=False)

    @property
    def label(self) -> str:
        return f"rcu_data of {self.actor.name}"

    def __len__(self) -> int:
        return len(self.waiting_for_start) + len(self.waiting_for_end) + len(self.done)

    @operation(UPDATE, part="new")
    def entrain(self, head: RcuHead) -> bool:
        """rcu_barrier_func(): put *head* behind the present callbacks, running ones included; False without any."""
        self.touch_part("done", UPDATE)
        segments = (self.waiting_for_start, self.waiting_for_end, self.done)
        last = next((segment for segment in segments if segment), self.done if self.in_batch else None)
        if last is None:
            return False
        last.append(head)
        head.queued = True
        return True


@attrs.define(eq=False)
class Rcu(Shared):
    """The grace-period machinery. `readers` are the execution contexts that the running grace period waits for.

    `stores` are plain stores that some CPU may not have seen yet. Those in `stores_before` are older than the running
    grace period; at its end every CPU has passed a memory barrier. Grace periods end in the order in which they start.
    """

    call_rcu_step: ClassVar[OperationInfo] = CALL_RCU

    barrier_mutex: Mutex
    per_cpu: list[RcuData]
    readers: set[Flow] = attrs.field(factory=set, init=False)
    started: int = attrs.field(default=0, init=False)
    completed: int = attrs.field(default=0, init=False)
    stores: dict[LocklessField, None] = attrs.field(factory=dict, init=False)
    stores_before: dict[LocklessField, None] = attrs.field(factory=dict, init=False)

    @property
    def label(self) -> str:
        return "rcu"

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        """A grace period waits for its readers."""
        return tuple(sorted(self.readers, key=lambda flow: flow.name))

    def enqueue(self, rdp: RcuData, head: RcuHead) -> None:
        """Make *head* wait for the next grace period."""
        rdp.touch_part("new", UPDATE)
        rdp.waiting_for_start.append(head)
        self.reconsider()

    def get_state(self) -> int:
        """get_state_synchronize_rcu(): the number of the next grace period."""
        return self.started + 1

    def has_passed(self, state: int) -> bool:
        """Whether a whole grace period has passed since get_state() returned *state*."""
        return self.completed >= state

    def batch_limit(self, rdp: RcuData) -> int:
        """The maximum number of callbacks of that CPU in one batch."""
        return BLIMIT if len(rdp) < QHIMARK else len(rdp.done)

    def has_callbacks(self) -> bool:
        return any(rdp.waiting_for_start for rdp in self.per_cpu)

    def has_no_readers(self) -> bool:
        return not self.readers

    @operation(READ, when=has_callbacks, idle=True, latency=GP_START_NS, looks_at_contexts=True, lifecycle=True)
    def start_gp(self) -> None:
        """Take a snapshot of the readers; every callback that is queued by now waits for them."""
        self.started += 1
        self.touch_part("stores", UPDATE)
        for rdp in self.per_cpu:
            rdp.touch_part("new", UPDATE)
            rdp.waiting_for_end.extend(rdp.waiting_for_start)
            rdp.waiting_for_start.clear()
        self.stores_before, self.stores = self.stores, {}
        for flow in self.actor.world.flows:
            if flow.held:
                self.readers.add(flow)
                flow.blocks = self.reader_left

    @operation(READ, when=has_no_readers, latency=GP_LENGTH_NS, lifecycle=True)
    def end_gp(self) -> None:
        """All readers of the snapshot have left: the callbacks may run."""
        self.completed += 1
        self.touch_part("readers", UPDATE)
        for store in self.stores_before:
            store.view.become_visible()
        for rdp in self.per_cpu:
            if rdp.waiting_for_end:
                rdp.touch_part("done", UPDATE)
                rdp.done.extend(rdp.waiting_for_end)
                rdp.waiting_for_end.clear()
                rdp.softirq.raise_now(RCU_SOFTIRQ)

    def reader_left(self, flow: Flow) -> None:
        """A reader of the snapshot leaves its read-side section."""
        flow.blocks = None
        self.readers.discard(flow)
        self.touch_part("readers", COMMUTE)
        if not self.readers:
            self.reconsider()

    @classmethod
    def boot(cls, actor: Actor, softirqs: list[Softirq]) -> Rcu:
        per_cpu = [RcuData(softirq.actor, softirq) for softirq in softirqs]
        return cls(actor, Mutex(actor, "rcu_state.barrier_mutex"), per_cpu)


async def rcu_gp_kthread(ctx: Context) -> None:
    """Run grace periods one after the other, for ever."""
    rcu = ctx.machine.rcu
    while True:
        await ctx.ask(rcu.start_gp)
        if ctx.world.should_fail("delayed-gp"):
            await ctx.sleep(GP_DELAY_NS)
        await ctx.ask(rcu.end_gp)


@kernel_fn("rcu_core", "kernel/rcu/tree.c")
async def rcu_core(ctx: Context, rdp: RcuData) -> None:
    """The RCU softirq of one CPU: call a batch of callbacks; raise the softirq again if more are left."""
    await rcu_do_batch(ctx, rdp)
    if rdp.done:
        rdp.softirq.raise_now(RCU_SOFTIRQ)


@kernel_fn("rcu_do_batch", "kernel/rcu/tree.c")
async def rcu_do_batch(ctx: Context, rdp: RcuData) -> None:
    """Call the oldest callbacks that are done: up to ten, or all of them if very many are waiting."""
    limit = ctx.machine.rcu.batch_limit(rdp)
    rdp.in_batch = True
    for _ in range(min(limit, len(rdp.done))):
        rdp.touch_part("done", UPDATE)
        head = rdp.called = rdp.done.popleft()
        head.queued = False
        if head.container.freed is not None:
            ctx.world.raise_use_after_free(head.container)
        func = deref(head.func, "rcu_do_batch(): head->func")
        ctx.machine.lockdep.acquire(ctx, RCU_CALLBACK)
        await func(ctx, head)
        ctx.machine.lockdep.release(ctx, RCU_CALLBACK)
    rdp.touch_part("done", UPDATE)
    rdp.in_batch = False


@kernel_fn("call_rcu", "kernel/rcu/tree.c")
async def call_rcu(ctx: Context, head: RcuHead, func: Callable[[Context, RcuHead], Awaitable[None]]) -> None:
    """Call *func* with *head* after a grace period that starts after this call."""
    rdp = ctx.machine.rcu.per_cpu[ctx.smp_processor_id]
    await ctx.this_cpu(rdp, ctx.machine.rcu.call_rcu_step)
    if WARN_ON(ctx, head.queued, "__call_rcu(): double call of the same rcu_head"):
        return
    head.func = func
    head.queued = True
    head.queued_by = ctx.name, ctx.world.step
    ctx.machine.rcu.enqueue(ctx.machine.rcu.per_cpu[ctx.smp_processor_id], head)
    head.container.recheck()


@kernel_fn("rcu_barrier", "kernel/rcu/tree.c")
async def rcu_barrier(ctx: Context) -> None:
    """Wait until all callbacks that are queued now, on any CPU, have run."""
    rcu, lockdep = ctx.machine.rcu, ctx.machine.lockdep
    ctx.might_sleep("rcu_barrier")
    lockdep.acquire(ctx, RCU_CALLBACK)
    lockdep.release(ctx, RCU_CALLBACK)
    async with MutexHeld(ctx, rcu.barrier_mutex):
        barrier = Completion(rcu.actor, remaining=0)
        for rdp in rcu.per_cpu:
            await ctx.ask(barrier.expect_one_more)
            if not await ctx.ask(rdp.entrain, RcuHead(barrier, rcu_barrier_callback)):
                await ctx.ask(barrier.complete)
        await ctx.ask(barrier.wait_for_completion)


@kernel_fn("synchronize_rcu", "kernel/rcu/tree.c")
async def synchronize_rcu(ctx: Context) -> None:
    """Sleep for a grace period that starts after this call."""
    ctx.might_sleep("synchronize_rcu")
    passed = Completion(ctx.machine.rcu.actor, remaining=1)
    await call_rcu(ctx, RcuHead(passed), wakeme_after_rcu)
    await ctx.ask(passed.wait_for_completion)


@kernel_fn("wakeme_after_rcu", "kernel/rcu/update.c")
async def wakeme_after_rcu(ctx: Context, head: RcuHead) -> None:
    """RCU callback of synchronize_rcu(): the grace period is over."""
    assert isinstance(head.container, Completion)
    await ctx.ask(head.container.complete)


@kernel_fn("rcu_barrier_callback", "kernel/rcu/tree.c")
async def rcu_barrier_callback(ctx: Context, head: RcuHead) -> None:
    """RCU callback of rcu_barrier(): all callbacks before this marker have run."""
    assert isinstance(head.container, Completion)
    await ctx.ask(head.container.complete)
