"""Mutexes, spinlocks and completions: flows that wait are not enabled, they never spin.

kernel/locking. Which of several waiters gets a lock is the strategy's choice. A flow that waits for a spinlock
has already switched preemption (or IRQs) off, and so keeps its CPU.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import Context
from actors.system.actor import Actor, Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.system.world import World

MUTEX_WAKE = (500, 5_000)


@attrs.define(eq=False)
class Lock(Shared):
    """What mutexes and spinlocks share: a holder."""

    name: str
    holder: Context | None = attrs.field(default=None, init=False)

    @property
    def label(self) -> str:
        return self.name

    @property
    def held_by(self) -> str:
        return f", held by {self.holder.name}" if self.holder is not None else ""

    def is_free(self, _ctx: Context) -> bool:
        return self.holder is None


@attrs.define(eq=False)
class Mutex(Lock):
    """struct mutex: may only be taken where one may sleep."""

    @classmethod
    def boot(cls, world: World, name: str) -> Mutex:
        """Create a mutex that is an actor of its own."""
        return cls(Actor(world, name), name)

    @operation(UPDATE, name="mutex_lock", when=Lock.is_free, sleeps=True, latency=MUTEX_WAKE)
    def lock(self, ctx: Context) -> None:
        self.holder = ctx

    @operation(UPDATE, name="mutex_trylock")
    def trylock(self, ctx: Context) -> bool:
        if self.holder is not None:
            return False
        self.holder = ctx
        return True

    @operation(UPDATE, name="mutex_unlock")
    def unlock(self, ctx: Context) -> None:
        assert self.holder is ctx, f"{ctx.name} unlocks {self.name}, which it does not hold"
        self.holder = None


@attrs.define(eq=False)
class SpinLock(Lock):
    """spinlock_t; whoever takes it has preemption off, and IRQs too with the irq forms."""

    @operation(UPDATE, name="spin_lock", when=Lock.is_free, cost=ATOMIC_NS)
    def lock(self, ctx: Context) -> None:
        self.holder = ctx

    @operation(UPDATE, name="spin_unlock", cost=ATOMIC_NS)
    def unlock(self, ctx: Context) -> None:
        assert self.holder is ctx, f"{ctx.name} unlocks {self.name}, which it does not hold"
        self.holder = None
        ctx.preempt_enable()

    @operation(UPDATE, name="spin_unlock_irqrestore", cost=ATOMIC_NS)
    def unlock_irq(self, ctx: Context) -> None:
        assert self.holder is ctx, f"{ctx.name} unlocks {self.name}, which it does not hold"
        self.holder = None
        ctx.preempt_enable()
        ctx.local_irq_enable()


def spin_lock(ctx: Context, lock: SpinLock) -> Awaitable[None]:
    """Take *lock* with preemption off."""
    ctx.preempt_disable()
    return ctx.ask(lock.lock, ctx)


def spin_unlock(ctx: Context, lock: SpinLock) -> Awaitable[None]:
    return ctx.ask(lock.unlock, ctx)


def spin_lock_irqsave(ctx: Context, lock: SpinLock) -> Awaitable[None]:
    """Take *lock* with IRQs off."""
    ctx.local_irq_disable()
    ctx.preempt_disable()
    return ctx.ask(lock.lock, ctx)


def spin_unlock_irqrestore(ctx: Context, lock: SpinLock) -> Awaitable[None]:
    return ctx.ask(lock.unlock_irq, ctx)


@attrs.define
class MutexHeld:
    """`async with MutexHeld(ctx, mutex):`; an Oops in the block leaves it locked, as in the kernel."""

    ctx: Context
    mutex: Mutex

    def __aenter__(self) -> Awaitable[None]:
        return self.ctx.ask(self.mutex.lock, self.ctx)

    def __aexit__(self, kind: object, *_exc: object) -> Awaitable[None]:
        return self.ctx.ask(self.mutex.unlock, self.ctx) if kind is None else _nothing()


@attrs.define
class SpinLockHeld:
    """`async with SpinLockHeld(ctx, lock):` -- the same with a spinlock and IRQs off."""

    ctx: Context
    lock: SpinLock

    def __aenter__(self) -> Awaitable[None]:
        return spin_lock_irqsave(self.ctx, self.lock)

    def __aexit__(self, kind: object, *_exc: object) -> Awaitable[None]:
        return spin_unlock_irqrestore(self.ctx, self.lock) if kind is None else _nothing()


async def _nothing() -> None:
    """Leave a block by an exception: the flow is dead, and what it held stays held."""


@attrs.define(eq=False)
class Completion(Shared):
    """struct completion that `remaining` events must complete."""

    remaining: int

    def is_done(self) -> bool:
        return self.remaining == 0

    @operation(UPDATE, cost=ATOMIC_NS)
    def expect_one_more(self) -> None:
        self.remaining += 1

    @operation(UPDATE, cost=ATOMIC_NS)
    def complete(self) -> None:
        self.remaining -= 1

    @operation(READ, when=is_done, sleeps=True, latency=MUTEX_WAKE)
    def wait_for_completion(self) -> None:
        """Sleep until all events have happened."""

    @operation(READ, when=is_done)
    def spin_until_done(self) -> None:
        """Wait with preemption off, as smp_call_function_many() does."""
