"""percpu_ref: a reference count that is per-CPU until it is killed. lib/percpu-refcount.c @5.3.1.

While it lives, get and put touch only the counter of their own CPU, and nobody can tell when the sum is zero.
kill switches it to one atomic count: DEAD and ATOMIC are set, and after a grace period (when nobody can still
be in the middle of a per-CPU get or put) the per-CPU counters are folded in. Until then the count holds BIAS,
so that it cannot reach zero early. Step numbers are those of KERNEL.md 1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import WARN_ON, Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.locks import SpinLockHeld
from actors.kernel.rcu import RcuHead, call_rcu
from actors.system.actor import Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.system.actor import Actor

ATOMIC = 1
DEAD = 2
BIAS = 1 << 63

Release = Callable[[Context, "PercpuRef"], Awaitable[None]]
Confirm = Callable[[Context, "PercpuRef"], Awaitable[None]]


@attrs.define(eq=False)
class PercpuRef(Shared):
    """struct percpu_ref of `container`. `percpu` is None once its per-CPU memory is freed.

    `own_refs` counts the references that the machinery itself holds: the initial one until kill, and that of a
    running switch. Like every ledger of references it is raised after a get and lowered before a put.

    invariant: `value` is at least the number of references held, and never negative.
    """

    container: Shared
    release: Release
    percpu: list[int] | None
    count: int = BIAS + 1
    flags: int = 0
    confirm_switch: Confirm | None = None
    own_refs: int = 1
    head: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = RcuHead(self)

    @classmethod
    def init(cls, actor: Actor, container: Shared, release: Release, cpus: int) -> PercpuRef:
        """percpu_ref_init(): per-CPU mode, one reference."""
        return cls(actor, container, release, [0] * cpus)

    @property
    def label(self) -> str:
        return f"refcnt of {self.container.label}"

    @property
    def value(self) -> int:
        """The logical number of references, wherever they are counted now."""
        if self.percpu is None:
            return self.count
        if self.count < BIAS // 2:  # folded already, the per-CPU memory is not freed yet
            return self.count
        return self.count - BIAS + sum(self.percpu)

    @property
    def is_dying(self) -> bool:
        return bool(self.flags & DEAD)

    @operation(READ, cost=ATOMIC_NS)
    def read_flags(self) -> int:
        return self.flags

    @operation(UPDATE)
    def atomic_add(self, nr: int) -> int:
        """Add to the atomic count and return it. Rising from zero, or falling below it, is a refcount finding."""
        old = self.count
        self.count += nr
        if self.count < 0 or (old == 0 and nr > 0):
            self.actor.world.report(
                "refcount",
                type(self.container).__name__,
                f"refcount of {self.container.label} went from {old} to {self.count}",
            )
        return self.count

    @operation(UPDATE)
    def inc_not_zero(self) -> bool:
        if self.count == 0:
            return False
        self.count += 1
        return True

    @operation(UPDATE)
    def set_flags(self, flags: int) -> int:
        """Set *flags*; return what was set before."""
        old = self.flags
        self.flags |= flags
        return old

    @operation(UPDATE)
    def begin_switch(self, confirm: Confirm) -> None:
        self.flags |= ATOMIC
        self.confirm_switch = confirm

    @operation(UPDATE)
    def end_switch(self) -> None:
        """Clear confirm_switch, and wake who waits for that."""
        self.confirm_switch = None

    def is_not_switching(self) -> bool:
        return self.confirm_switch is None

    @operation(READ, when=is_not_switching)
    def wait_for_switch(self) -> None:
        """Wait until no switch to atomic mode is in progress."""

    @operation(READ)
    def percpu_sum(self) -> int:
        if self.percpu is None:
            self.actor.world.report(
                "use-after-free",
                "percpu_count",
                f"BUG: use-after-free in the per-CPU counters of {self.container.label}",
                "freed by percpu_ref_exit()",
            )
            return 0
        return sum(self.percpu)

    @operation(UPDATE)
    def free_percpu(self) -> Confirm | None:
        """percpu_ref_exit(): free the per-CPU memory; return the switch that was in progress."""
        switching = self.confirm_switch if self.percpu is not None else None
        self.percpu = None
        self.flags |= ATOMIC | DEAD
        return switching

    def add_here(self, ctx: Context, nr: int) -> None:
        """Add to this CPU's counter: preemption is off, and nobody else looks before a grace period has passed."""
        if self.percpu is None:
            ctx.world.raise_use_after_free(self)
        self.percpu[ctx.smp_processor_id] += nr


@kernel_fn("percpu_ref_get_many", "include/linux/percpu-refcount.h")
async def percpu_ref_get_many(ctx: Context, ref: PercpuRef, nr: int) -> None:
    """Take *nr* references; the caller owns one already, so nothing is checked."""
    with ctx.preempt_section:
        if await ctx.ask(ref.read_flags):
            await ctx.ask(ref.atomic_add, nr)
        else:
            ref.add_here(ctx, nr)


@kernel_fn("percpu_ref_put_many", "include/linux/percpu-refcount.h")
async def percpu_ref_put_many(ctx: Context, ref: PercpuRef, nr: int) -> None:
    """Drop *nr* references; in atomic mode the last one calls release() here and now, in this context."""
    with ctx.preempt_section:
        if not await ctx.ask(ref.read_flags):
            ref.add_here(ctx, -nr)
        elif await ctx.ask(ref.atomic_add, -nr) == 0:
            await ref.release(ctx, ref)


@kernel_fn("percpu_ref_tryget", "include/linux/percpu-refcount.h")
async def percpu_ref_tryget(ctx: Context, ref: PercpuRef) -> bool:
    """Take a reference unless the count is zero; a killed ref may still be taken."""
    with ctx.preempt_section:
        if await ctx.ask(ref.read_flags):
            return await ctx.ask(ref.inc_not_zero)
        ref.add_here(ctx, 1)
        return True


@kernel_fn("percpu_ref_tryget_live", "include/linux/percpu-refcount.h")
async def percpu_ref_tryget_live(ctx: Context, ref: PercpuRef) -> bool:
    """Take a reference unless the ref was killed."""
    with ctx.preempt_section:
        flags = await ctx.ask(ref.read_flags)
        if not flags:
            ref.add_here(ctx, 1)
            return True
        if flags & DEAD:
            return False
        return await ctx.ask(ref.inc_not_zero)


async def percpu_ref_noop_confirm_switch(_ctx: Context, _ref: PercpuRef) -> None:
    """Nobody wants to know."""


@kernel_fn("percpu_ref_kill_and_confirm", "lib/percpu-refcount.c")
async def percpu_ref_kill_and_confirm(ctx: Context, ref: PercpuRef, confirm: Confirm | None) -> None:
    """Drop the initial reference and switch to atomic mode; *confirm* runs when every CPU knows."""
    async with SpinLockHeld(ctx, ctx.machine.percpu_ref_switch_lock):
        flags = await ctx.ask(ref.set_flags, DEAD)
        WARN_ON(ctx, flags & DEAD, "percpu_ref_kill_and_confirm called more than once")
        await ctx.ask(ref.wait_for_switch)
        await __percpu_ref_switch_to_atomic(ctx, ref, confirm)
        ref.own_refs -= 1
        await percpu_ref_put_many(ctx, ref, 1)


@kernel_fn("percpu_ref_kill", "lib/percpu-refcount.c")
async def percpu_ref_kill(ctx: Context, ref: PercpuRef) -> None:
    """percpu_ref_kill_and_confirm() without a confirmation."""
    await percpu_ref_kill_and_confirm(ctx, ref, None)


@kernel_fn("__percpu_ref_switch_to_atomic", "lib/percpu-refcount.c")
async def __percpu_ref_switch_to_atomic(ctx: Context, ref: PercpuRef, confirm: Confirm | None) -> None:
    """1.6d: from now on readers of the flags take the slow path; after a grace period all do."""
    if await ctx.ask(ref.read_flags) & ATOMIC:
        if confirm is not None:
            await confirm(ctx, ref)
        return
    await ctx.ask(ref.begin_switch, confirm or percpu_ref_noop_confirm_switch)
    await percpu_ref_get_many(ctx, ref, 1)
    ref.own_refs += 1
    await call_rcu(ctx, ref.head, percpu_ref_switch_to_atomic_rcu)


@kernel_fn("percpu_ref_switch_to_atomic_rcu", "lib/percpu-refcount.c")
async def percpu_ref_switch_to_atomic_rcu(ctx: Context, head: RcuHead) -> None:
    """1.7: fold the per-CPU counters into the count, take BIAS out, confirm, drop the switch's reference."""
    ref = head.container
    assert isinstance(ref, PercpuRef)
    total = await ctx.ask(ref.percpu_sum)
    count = await ctx.ask(ref.atomic_add, total - BIAS)
    WARN_ON(ctx, count <= 0, "percpu ref <= 0 after switching to atomic")
    await percpu_ref_call_confirm_rcu(ctx, ref)
    ref.own_refs -= 1
    await percpu_ref_put_many(ctx, ref, 1)


@kernel_fn("percpu_ref_call_confirm_rcu", "lib/percpu-refcount.c", profiles="5.3..")
async def percpu_ref_call_confirm_rcu(ctx: Context, ref: PercpuRef) -> None:
    """1.7c and d: confirm; the per-CPU memory is not needed any more, for nobody may reinit this ref."""
    assert ref.confirm_switch is not None
    await ref.confirm_switch(ctx, ref)
    await ctx.ask(ref.end_switch)
    await percpu_ref_exit(ctx, ref)


@kernel_fn("percpu_ref_call_confirm_rcu", "lib/percpu-refcount.c", profiles="original")
async def percpu_ref_call_confirm_rcu_original(ctx: Context, ref: PercpuRef) -> None:
    """Before 5.3 the per-CPU memory stays until percpu_ref_exit() is called."""
    assert ref.confirm_switch is not None
    await ref.confirm_switch(ctx, ref)
    await ctx.ask(ref.end_switch)


@kernel_fn("percpu_ref_exit", "lib/percpu-refcount.c")
async def percpu_ref_exit(ctx: Context, ref: PercpuRef) -> None:
    """Free the per-CPU memory; a second time it does nothing."""
    switching = await ctx.ask(ref.free_percpu)
    WARN_ON(ctx, switching is not None, "percpu_ref_exit: confirm_switch is set")
