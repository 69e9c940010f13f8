"""Mutexes, spinlocks, reader-writer semaphores and completions. kernel/locking.

An execution context that waits is disabled; it does not spin. The strategy chooses which of several waiters gets a
lock. A context that waits for a spinlock has already disabled preemption (or IRQs), and so keeps its CPU. lockdep
records each attempt before the wait.

    await mutex_lock(ctx, m) ... await mutex_unlock(ctx, m)         or  async with MutexHeld(ctx, m):
    await spin_lock(ctx, l) ... await spin_unlock(ctx, l)           or  async with SpinLockHeld(ctx, l):
    flags = await spin_lock_irqsave(ctx, l) ...                     or  async with SpinLockIrqHeld(ctx, l):
    await spin_unlock_irqrestore(ctx, l, flags)
    if await local_trylock(ctx, locks): ... local_unlock(ctx, locks)            the lock of this CPU among *locks*
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.machine.context import Context
from actors.system.actor import Actor, Shared
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.system.flow import Flow
    from actors.system.world import World

MUTEX_WAKE = (500, 5_000)

LOCAL_LOCK = OperationInfo("local_lock", cost=ATOMIC_NS)
LOCAL_TRYLOCK = OperationInfo("local_trylock", cost=ATOMIC_NS)


@attrs.define(eq=False)
class Lock(Shared):
    """Base of mutexes and spinlocks: a name, which is lockdep's class, and a holder."""

    name: str
    holder: Context | None = attrs.field(default=None, init=False)

    @classmethod
    def boot(cls, world: World, name: str) -> Lock:
        """Create a lock that is an actor of its own."""
        return cls(Actor(world, name), name)

    @property
    def label(self) -> str:
        return self.name

    @property
    def held_by(self) -> str:
        return f", held by {self.holder.name}" if self.holder is not None else ""

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        return (self.holder,) if self.holder is not None else ()

    def is_held_by(self, flow: Flow) -> bool:
        return self.holder is flow

    def is_free(self, _ctx: Context) -> bool:
        return self.holder is None

    def assert_held(self) -> None:
        """lockdep_assert_held(): report an access by a context that does not hold this very lock."""
        world = self.actor.world
        flow = world.current
        if self.holder is not flow:
            text = f"WARNING: suspicious access: {self.name} is not held"
            world.report("lockdep", f"{self.name} is not held", text, flow=flow)


@attrs.define(eq=False)
class Mutex(Lock):
    """struct mutex: may be taken only where sleeping is allowed."""

    @classmethod
    def boot(cls, world: World, name: str) -> Mutex:
        return cls(Actor(world, name), name)

    @operation(UPDATE, name="mutex_lock", when=Lock.is_free, sleeps=True, latency=MUTEX_WAKE, lifecycle=True)
    def lock(self, ctx: Context) -> None:
        self.holder = ctx

    @operation(UPDATE, name="mutex_trylock")
    def trylock(self, ctx: Context) -> bool:
        if self.holder is not None:
            return False
        self.holder = ctx
        return True

    @operation(UPDATE, name="mutex_unlock")
    def unlock(self) -> None:
        self.holder = None


@attrs.define(eq=False)
class SpinLock(Lock):
    """spinlock_t: its holder has preemption off, and also IRQs with the irq forms."""

    @classmethod
    def boot(cls, world: World, name: str) -> SpinLock:
        return cls(Actor(world, name), name)

    @operation(UPDATE, name="spin_lock", when=Lock.is_free, cost=ATOMIC_NS, lifecycle=True)
    def lock(self, ctx: Context) -> None:
        self.holder = ctx

    @operation(UPDATE, name="spin_trylock", cost=ATOMIC_NS)
    def trylock(self, ctx: Context) -> bool:
        if self.holder is not None:
            return False
        self.holder = ctx
        return True

    @operation(UPDATE, name="spin_unlock", cost=ATOMIC_NS)
    def unlock(self) -> None:
        self.holder = None


@attrs.define(eq=False)
class RwSem(Shared):
    """struct rw_semaphore, or a percpu one: fair, so a waiting writer blocks new readers."""

    name: str
    readers: list[Context] = attrs.field(factory=list, init=False)
    writer: Context | None = attrs.field(default=None, init=False)
    writers_waiting: int = attrs.field(default=0, init=False)

    @classmethod
    def boot(cls, world: World, name: str) -> RwSem:
        """Create a semaphore that is an actor of its own."""
        return cls(Actor(world, name), name)

    @property
    def label(self) -> str:
        return self.name

    @property
    def held_by(self) -> str:
        holders = [*self.readers, *([self.writer] if self.writer else [])]
        waiting = f", {self.writers_waiting} writers waiting" if self.writers_waiting else ""
        return (f", held by {', '.join(ctx.name for ctx in holders)}" if holders else "") + waiting

    def blockers(self, flow: Flow) -> tuple[Flow, ...]:
        """A writer waits for the readers and the writer, a reader for the writer or the waiting writers."""
        writers = [flow for flow in self.waiters if flow.request.info.access is UPDATE]
        if flow in writers:
            return (*self.readers, *([self.writer] if self.writer else []))
        return (self.writer,) if self.writer else tuple(writers)

    def is_held_by(self, flow: Flow) -> bool:
        return self.writer is flow or flow in self.readers

    def assert_held_write(self) -> None:
        """lockdep_assert_held_write()."""
        world = self.actor.world
        if self.writer is not world.current:
            text = f"WARNING: suspicious access: {self.name} is not held for writing"
            world.report("lockdep", f"{self.name} is not held for writing", text, flow=world.current)

    def may_read(self, _ctx: Context) -> bool:
        return self.writer is None and not self.writers_waiting

    def may_write(self, _ctx: Context) -> bool:
        return self.writer is None and not self.readers

    @operation(COMMUTE, name="down_read", when=may_read, sleeps=True, latency=MUTEX_WAKE)
    def down_read(self, ctx: Context) -> None:
        self.readers.append(ctx)

    @operation(COMMUTE, name="down_read_trylock")
    def down_read_trylock(self, ctx: Context) -> bool:
        if not self.may_read(ctx):
            return False
        self.readers.append(ctx)
        return True

    @operation(READ, name="rwsem_is_contended")
    def is_contended(self) -> bool:
        return self.writers_waiting > 0

    @operation(COMMUTE, name="up_read")
    def up_read(self, ctx: Context) -> None:
        if ctx in self.readers:
            self.readers.remove(ctx)

    @operation(UPDATE)
    def announce_writer(self) -> None:
        """A writer starts to wait; from now on new readers wait."""
        self.writers_waiting += 1

    @operation(UPDATE, name="down_write", when=may_write, sleeps=True, latency=MUTEX_WAKE)
    def down_write(self, ctx: Context) -> None:
        self.writers_waiting -= 1
        self.writer = ctx

    @operation(UPDATE, name="up_write")
    def up_write(self) -> None:
        self.writer = None


# -- the kernel's functions -------------------------------------------------------------------------------------------


async def mutex_lock(ctx: Context, mutex: Mutex) -> None:
    ctx.machine.lockdep.acquire(ctx, mutex.name)
    await ctx.ask(mutex.lock, ctx)


async def mutex_trylock(ctx: Context, mutex: Mutex) -> bool:
    if not await ctx.ask(mutex.trylock, ctx):
        return False
    ctx.machine.lockdep.acquire(ctx, mutex.name, tries=True)
    return True


async def mutex_unlock(ctx: Context, mutex: Mutex) -> None:
    ctx.machine.lockdep.release(ctx, mutex.name)
    await ctx.ask(mutex.unlock)


async def spin_lock(ctx: Context, lock: SpinLock) -> None:
    """Take *lock* with preemption off. An interrupt on this CPU that takes it, too, would deadlock."""
    ctx.preempt_disable()
    ctx.machine.lockdep.acquire(ctx, lock.name)
    await ctx.ask(lock.lock, ctx)


async def spin_lock_nested(ctx: Context, lock: SpinLock) -> None:
    """Take *lock* while a lock of its class is held; the caller guarantees the order."""
    ctx.preempt_disable()
    ctx.machine.lockdep.acquire(ctx, lock.name, tries=True)
    await ctx.ask(lock.lock, ctx)


async def spin_trylock(ctx: Context, lock: SpinLock) -> bool:
    """Take *lock* with preemption off, unless it is held."""
    ctx.preempt_disable()
    if not await ctx.ask(lock.trylock, ctx):
        ctx.preempt_enable()
        return False
    ctx.machine.lockdep.acquire(ctx, lock.name, tries=True)
    return True


async def spin_unlock(ctx: Context, lock: SpinLock) -> None:
    ctx.machine.lockdep.release(ctx, lock.name)
    await ctx.ask(lock.unlock)
    ctx.preempt_enable()


async def spin_lock_irqsave(ctx: Context, lock: SpinLock) -> bool:
    """Take *lock* with IRQs off; return the flags for spin_unlock_irqrestore()."""
    flags = ctx.local_irq_save()
    ctx.preempt_disable()
    ctx.machine.lockdep.acquire(ctx, lock.name)
    await ctx.ask(lock.lock, ctx)
    return flags


async def spin_unlock_irqrestore(ctx: Context, lock: SpinLock, flags: bool) -> None:  # noqa: FBT001 -- the C signature
    ctx.machine.lockdep.release(ctx, lock.name)
    await ctx.ask(lock.unlock)
    ctx.local_irq_restore(flags)
    ctx.preempt_enable()


async def down_read(ctx: Context, sem: RwSem) -> None:
    ctx.machine.lockdep.acquire(ctx, sem.name, reads=True)
    await ctx.ask(sem.down_read, ctx)


async def down_read_trylock(ctx: Context, sem: RwSem) -> bool:
    """Take *sem* for reading, unless a writer holds it or waits for it."""
    if not await ctx.ask(sem.down_read_trylock, ctx):
        return False
    ctx.machine.lockdep.acquire(ctx, sem.name, tries=True, reads=True)
    return True


async def up_read(ctx: Context, sem: RwSem) -> None:
    ctx.machine.lockdep.release(ctx, sem.name)
    await ctx.ask(sem.up_read, ctx)


async def down_write(ctx: Context, sem: RwSem) -> None:
    ctx.machine.lockdep.acquire(ctx, sem.name)
    await ctx.ask(sem.announce_writer)
    await ctx.ask(sem.down_write, ctx)


async def down_write_nested(ctx: Context, sem: RwSem) -> None:
    """Take *sem* for writing while a semaphore of its class is held; the caller guarantees the order."""
    ctx.machine.lockdep.acquire(ctx, sem.name, tries=True)
    await ctx.ask(sem.announce_writer)
    await ctx.ask(sem.down_write, ctx)


async def up_write(ctx: Context, sem: RwSem) -> None:
    ctx.machine.lockdep.release(ctx, sem.name)
    await ctx.ask(sem.up_write)


# -- locks as `async with` blocks; an Oops inside leaves the lock taken, as in the kernel -----------------------------


@attrs.define
class MutexHeld:
    """`async with MutexHeld(ctx, mutex):`."""

    ctx: Context
    mutex: Mutex

    async def __aenter__(self) -> None:
        await mutex_lock(self.ctx, self.mutex)

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            await mutex_unlock(self.ctx, self.mutex)


@attrs.define
class SpinLockHeld:
    """`async with SpinLockHeld(ctx, lock):` -- with preemption off; IRQs are not changed."""

    ctx: Context
    lock: SpinLock

    async def __aenter__(self) -> None:
        await spin_lock(self.ctx, self.lock)

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            await spin_unlock(self.ctx, self.lock)


@attrs.define
class SpinLockIrqHeld:
    """`async with SpinLockIrqHeld(ctx, lock):` -- with IRQs off; their state is restored afterwards."""

    ctx: Context
    lock: SpinLock
    flags: bool = attrs.field(default=False, init=False)

    async def __aenter__(self) -> None:
        self.flags = await spin_lock_irqsave(self.ctx, self.lock)

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            await spin_unlock_irqrestore(self.ctx, self.lock, self.flags)


@attrs.define(eq=False)
class Completion(Shared):
    """struct completion with `remaining` events to come."""

    remaining: int

    def is_done(self) -> bool:
        return self.remaining == 0

    @operation(COMMUTE, cost=ATOMIC_NS)
    def expect_one_more(self) -> None:
        self.remaining += 1

    @operation(COMMUTE, cost=ATOMIC_NS)
    def complete(self) -> None:
        self.remaining -= 1

    @operation(READ, when=is_done, sleeps=True, latency=MUTEX_WAKE)
    def wait_for_completion(self) -> None:
        """Sleep until all events have happened."""

    @operation(READ, when=is_done)
    def spin_until_done(self) -> None:
        """Wait with preemption off, as smp_call_function_many() does."""


@attrs.define
class LocalLockIrqHeld:
    """`with LocalLockIrqHeld(ctx, name):` -- local_lock_irqsave(): the lock of this CPU, which IRQs off stand for."""

    ctx: Context
    name: str
    flags: bool = attrs.field(default=False, init=False)

    def __enter__(self) -> None:
        self.flags = self.ctx.local_irq_save()
        self.ctx.machine.lockdep.acquire(self.ctx, self.name)

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            self.ctx.machine.lockdep.release(self.ctx, self.name)
        self.ctx.local_irq_restore(self.flags)


@attrs.define(eq=False)
class LocalTryLock(Shared):
    """local_trylock_t of one CPU, from 7.2 on: its holder has preemption off, and IRQs on.

    So a handler may run on that CPU while the lock is held. Its trylock fails, and it does its work without what the
    lock protects. `check` (optional) looks at that after each unlock.
    """

    name: str
    holder: Context | None = attrs.field(default=None, init=False)
    check: Callable[[], None] | None = attrs.field(default=None, init=False)

    @property
    def label(self) -> str:
        return f"{self.name} of {self.actor.name}"

    @property
    def held_by(self) -> str:
        return f", held by {self.holder.name}" if self.holder is not None else ""

    def is_held_by(self, flow: Flow) -> bool:
        return self.holder is flow


async def local_trylock(ctx: Context, locks: Sequence[LocalTryLock]) -> bool:
    """Take this CPU's of *locks*; False if what this handler has interrupted holds it.

    The next access to what the lock protects must be a step of its own: a handler may run before it.
    """
    ctx.preempt_disable()
    await ctx.this_cpu(locks[ctx.smp_processor_id], LOCAL_TRYLOCK)
    lock = locks[ctx.smp_processor_id]
    ctx.use(lock)
    if lock.holder is not None:
        ctx.preempt_enable()
        return False
    lock.holder = ctx
    ctx.machine.lockdep.acquire(ctx, lock.name, tries=True, goes_without=True)
    return True


async def local_lock(ctx: Context, locks: Sequence[LocalTryLock]) -> None:
    """Take this CPU's of *locks* in a task, where no other flow of the CPU can hold it."""
    ctx.preempt_disable()
    await ctx.this_cpu(locks[ctx.smp_processor_id], LOCAL_LOCK)
    lock = locks[ctx.smp_processor_id]
    ctx.use(lock)
    ctx.machine.lockdep.acquire(ctx, lock.name)
    if lock.holder is not None:
        text = f"WARNING: {lock.label} is taken by {ctx.name}{lock.held_by}"
        ctx.world.report("lockdep", f"{lock.name} is taken twice on a CPU", text, flow=ctx)
    lock.holder = ctx


def local_unlock(ctx: Context, locks: Sequence[LocalTryLock]) -> None:
    """Drop this CPU's of *locks*, within the step of the last access."""
    lock = locks[ctx.smp_processor_id]
    ctx.machine.lockdep.release(ctx, lock.name)
    lock.holder = None
    if lock.check is not None:
        lock.check()
    ctx.preempt_enable()


@attrs.define
class LocalLockHeld:
    """`async with LocalLockHeld(ctx, locks):` -- with preemption off; an Oops inside leaves the lock taken."""

    ctx: Context
    locks: Sequence[LocalTryLock]

    async def __aenter__(self) -> None:
        await local_lock(self.ctx, self.locks)

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            local_unlock(self.ctx, self.locks)
