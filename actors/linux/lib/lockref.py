"""A reference count together with its spinlock. lib/lockref.c @5.3.1."""

from __future__ import annotations

import attrs

from actors.linux.kernel.locking.locks import SpinLock, spin_lock, spin_unlock
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

DEAD = -128
"""The count after lockref_mark_dead(): no reference can be taken any more."""


@attrs.define(eq=False)
class Lockref(SpinLock):
    """struct lockref: a spinlock and a reference count, which changes without the lock only while the lock is free."""

    count: int = 1

    @operation(UPDATE, name="lockref_get", when=SpinLock.is_free, cost=ATOMIC_NS)
    def get(self, _ctx: Context) -> None:
        self.count += 1

    @operation(UPDATE, name="lockref_put_return", cost=ATOMIC_NS)
    def put_return(self) -> int:
        """Drop a reference and return the new count; return -1 and do nothing if the lock is held or the count is 0."""
        if self.holder is not None or self.count <= 0:
            return -1
        self.count -= 1
        return self.count

    @operation(UPDATE, name="lockref_put_or_lock", cost=ATOMIC_NS)
    def put_unless_last(self) -> bool:
        """The lockless part of lockref_put_or_lock()."""
        if self.holder is not None or self.count <= 1:
            return False
        self.count -= 1
        return True

    @operation(READ, cost=ATOMIC_NS)
    def read_count(self) -> int:
        return self.count

    @operation(UPDATE, cost=ATOMIC_NS)
    def add(self, nr: int) -> int:
        """Change the count with the lock held."""
        self.assert_held()
        self.count += nr
        return self.count

    @operation(UPDATE, name="lockref_mark_dead", cost=ATOMIC_NS)
    def mark_dead(self) -> None:
        self.assert_held()
        self.count = DEAD


@kernel_fn("lockref_get", "lib/lockref.c")
async def lockref_get(ctx: Context, lockref: Lockref) -> None:
    """Take a reference; the caller has one already. Waits while the lock is held."""
    with ctx.preempt_section:
        await ctx.ask(lockref.get, ctx)


@kernel_fn("lockref_put_or_lock", "lib/lockref.c")
async def lockref_put_or_lock(ctx: Context, lockref: Lockref) -> bool:
    """Drop a reference that is not the last one; otherwise return False with the lock held, and keep the reference."""
    if await ctx.ask(lockref.put_unless_last):
        return True
    await spin_lock(ctx, lockref)
    if await ctx.ask(lockref.read_count) <= 1:
        return False
    await ctx.ask(lockref.add, -1)
    await spin_unlock(ctx, lockref)
    return True
