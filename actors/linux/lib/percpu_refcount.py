"""percpu_ref: a reference count that is per-CPU until it is killed. lib/percpu-refcount.c @5.3.1.

While the ref is live, get and put access only the counter of their own CPU, and a sum of zero goes unnoticed. kill
switches to one atomic count. It sets DEAD and ATOMIC; after a grace period, when no CPU can still be inside a per-CPU
get or put, the per-CPU counters are added to the atomic count. Until then the count contains BIAS, so that it cannot
reach zero early. Step numbers are those of KERNEL.md 1.

From 6.12 on, all but the flags and the pointer to the per-CPU memory is in a struct of its own, which exit frees
(KERNEL-today 1). Whoever uses the atomic count after that dereferences NULL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn

import attrs

from actors.linux.kernel.locking.lockdep import lockdep_assert_held
from actors.linux.kernel.locking.locks import SpinLockIrqHeld, spin_lock_irqsave, spin_unlock_irqrestore
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.machine.context import BUG_ON, WARN_ON, Context, deref
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.system.actor import Actor

ATOMIC = 1
DEAD = 2
BIAS = 1 << 63

THIS_CPU_ADD = OperationInfo("this_cpu_add", cost=ATOMIC_NS)
"""An access to this CPU's counter; the sum of the counters is read from another CPU."""

Release = Callable[[Context, "PercpuRef"], Awaitable[None]]

Confirm = Callable[[Context, "PercpuRef"], Awaitable[None]]


@attrs.define(eq=False)
class PercpuRef(Shared):
    """struct percpu_ref of `container`. `percpu` is None after its per-CPU memory is freed.

    `own_refs` counts the references that the mechanism itself holds: the initial one until kill, and one for a running
    switch. Like all shadow accounting of references, it is raised after a get and lowered before a put. `last_get` is
    the execution context and the step of the last get; it helps to find out why the count never reached zero.
    `has_data` is False after exit freed the data, from 6.12 on; `count` is then the value that exit keeps in the
    pointer.

    invariant: `value` is at least the number of references held, and never negative.
    """

    container: Shared
    release: Release
    percpu: list[int] | None
    allow_reinit: bool = False
    count: int = BIAS + 1
    flags: int = 0
    confirm_switch: Confirm | None = None
    has_data: bool = True
    own_refs: int = 1
    last_get: tuple[str, int] = ("boot", 0)
    head: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = RcuHead(self)

    @classmethod
    def init(cls, actor: Actor, container: Shared, release: Release, cpus: int) -> PercpuRef:
        """percpu_ref_init() without flags: per-CPU mode, one reference, allow_reinit not set."""
        return cls(actor, container, release, [0] * cpus)

    @property
    def label(self) -> str:
        return f"refcnt of {self.container.label}"

    @property
    def value(self) -> int:
        """The logical number of references, in either mode."""
        if self.percpu is None or self.count < BIAS // 2:  # per-CPU counters already added
            return self.count
        return self.count - BIAS + sum(self.percpu)

    @property
    def tally(self) -> tuple[str, int]:
        return "references", self.value

    @property
    def is_dying(self) -> bool:
        return bool(self.flags & DEAD)

    @property
    def is_atomic(self) -> bool:
        """Whether the switch to one atomic count is complete."""
        return bool(self.flags & ATOMIC) and self.confirm_switch is None

    @property
    def is_zero(self) -> bool:
        """percpu_ref_is_zero()."""
        return bool(self.flags) and self.count == 0

    @operation(READ, cost=ATOMIC_NS, part="flags")
    def read_flags(self) -> int:
        return self.flags

    @operation(COMMUTE, part="count", lifecycle=True)
    def atomic_add(self, nr: int) -> int:
        """Add to the atomic count and return it. Rising from zero, or falling below it, is a refcount finding.

        While the count contains BIAS, additions commute: callers only test the result for zero.
        """
        if not self.has_data:
            self._no_data("count")
        old = self.count
        self.count += nr
        if min(old, self.count) < BIAS // 2:
            self.touch_part("count", UPDATE)
        if self.count < 0 or (old == 0 and nr > 0):
            self.actor.world.report(
                "refcount",
                type(self.container).__name__,
                f"refcount of {self.container.label} went from {old} to {self.count}",
            )
        return self.count

    @operation(UPDATE, part="count")
    def inc_not_zero(self) -> bool:
        if not self.has_data:
            self._no_data("count")
        if self.count == 0:
            return False
        self.count += 1
        return True

    @operation(UPDATE, part="flags", lifecycle=True)
    def set_flags(self, flags: int) -> int:
        """Set *flags*; return the old flags."""
        old = self.flags
        self.flags |= flags
        return old

    @operation(UPDATE, part="flags", lifecycle=True)
    def clear_flags(self, flags: int) -> None:
        self.flags &= ~flags

    @operation(UPDATE, part="flags", lifecycle=True)
    def begin_switch(self, confirm: Confirm) -> None:
        if not self.has_data:
            self._no_data("confirm_switch")
        self.touch_part("confirm_switch", UPDATE)
        self.flags |= ATOMIC
        self.confirm_switch = confirm

    def _no_data(self, field: str) -> NoReturn:
        """Use the data after exit freed it."""
        self.touch_part("data", READ)
        deref(None, f"ref->data->{field}")
        raise AssertionError

    @operation(READ, part="data")
    def read_data(self) -> bool:
        """Whether ref->data is not NULL."""
        return self.has_data

    @operation(UPDATE, lifecycle=True)
    def drop_data(self) -> None:
        """Keep the count beside the flags, and set ref->data to NULL."""
        self.has_data = False

    @operation(READ, part="confirm_switch")
    def read_confirm_switch(self) -> Confirm | None:
        if not self.has_data:
            self._no_data("confirm_switch")
        return self.confirm_switch

    @operation(UPDATE, part="confirm_switch", lifecycle=True)
    def end_switch(self) -> None:
        """Clear confirm_switch and wake the waiters."""
        self.confirm_switch = None

    def is_not_switching(self) -> bool:
        return self.confirm_switch is None

    @operation(READ, when=is_not_switching, sleeps=True, part="confirm_switch")
    def wait_for_switch(self) -> None:
        """Sleep until no switch to atomic mode is in progress."""

    @operation(READ, part="percpu")
    def percpu_sum(self) -> int:
        if self.percpu is None:
            self.actor.world.report(
                "use-after-free",
                "percpu_count",
                f"BUG: use-after-free in the per-CPU counters of {self.container.label}",
                "freed by percpu_ref_exit()",
            )
            return 0
        for cpu in range(len(self.percpu)):
            self.touch_part(cpu, READ)
        return sum(self.percpu)

    @operation(UPDATE)
    def reset_percpu(self) -> bool:
        """Return to per-CPU mode with counters of zero; False if there is no per-CPU memory."""
        if self.percpu is None:
            return False
        self.count += BIAS
        self.percpu = [0] * len(self.percpu)
        self.flags &= ~ATOMIC
        return True

    @operation(UPDATE, part="percpu", lifecycle=True)
    def free_percpu(self) -> bool:
        """Free the per-CPU memory; return whether a switch was in progress."""
        self.touch_part("confirm_switch", READ)
        switching = self.percpu is not None and self.confirm_switch is not None
        for cpu in range(len(self.percpu or ())):
            self.touch_part(cpu, UPDATE)
        self.percpu = None
        dead = ATOMIC | DEAD
        self.touch_part("flags", READ if self.flags & dead == dead else UPDATE)
        self.flags |= dead
        return switching

    def add_here(self, ctx: Context, nr: int) -> None:
        """Add to this CPU's counter: preemption is off, and the counters are summed only after a grace period."""
        if self.percpu is None:
            ctx.world.raise_use_after_free(self)
        self.percpu[ctx.smp_processor_id] += nr


@kernel_fn("percpu_ref_get_many", "include/linux/percpu-refcount.h")
async def percpu_ref_get_many(ctx: Context, ref: PercpuRef, nr: int) -> None:
    """Take *nr* references; the caller owns one already, so there is no check."""
    with ctx.preempt_section:
        if await ctx.ask(ref.read_flags):
            await ctx.ask(ref.atomic_add, nr)
        else:
            await ctx.this_cpu(ref, THIS_CPU_ADD)
            ref.add_here(ctx, nr)
        ref.last_get = ctx.name, ctx.world.step


@kernel_fn("percpu_ref_get", "include/linux/percpu-refcount.h")
async def percpu_ref_get(ctx: Context, ref: PercpuRef) -> None:
    await percpu_ref_get_many(ctx, ref, 1)


@kernel_fn("percpu_ref_put_many", "include/linux/percpu-refcount.h")
async def percpu_ref_put_many(ctx: Context, ref: PercpuRef, nr: int) -> None:
    """Drop *nr* references; in atomic mode the last put calls release() synchronously, in this context."""
    with ctx.preempt_section:
        if not await ctx.ask(ref.read_flags):
            await ctx.this_cpu(ref, THIS_CPU_ADD)
            ref.add_here(ctx, -nr)
            ref.recheck()
        elif await ctx.ask(ref.atomic_add, -nr) == 0:
            await ref.release(ctx, ref)


@kernel_fn("percpu_ref_put", "include/linux/percpu-refcount.h")
async def percpu_ref_put(ctx: Context, ref: PercpuRef) -> None:
    await percpu_ref_put_many(ctx, ref, 1)


@kernel_fn("percpu_ref_tryget", "include/linux/percpu-refcount.h")
async def percpu_ref_tryget(ctx: Context, ref: PercpuRef) -> bool:
    """Take a reference unless the count is zero; this succeeds even on a killed ref."""
    with ctx.preempt_section:
        if await ctx.ask(ref.read_flags):
            taken = await ctx.ask(ref.inc_not_zero)
        else:
            await ctx.this_cpu(ref, THIS_CPU_ADD)
            ref.add_here(ctx, 1)
            taken = True
        if taken:
            ref.last_get = ctx.name, ctx.world.step
        return taken


@kernel_fn("percpu_ref_tryget_live", "include/linux/percpu-refcount.h")
async def percpu_ref_tryget_live(ctx: Context, ref: PercpuRef) -> bool:
    """Take a reference unless the ref has been killed."""
    with ctx.preempt_section:
        flags = await ctx.ask(ref.read_flags)
        if not flags:
            await ctx.this_cpu(ref, THIS_CPU_ADD)
            ref.add_here(ctx, 1)
            taken = True
        else:
            taken = not flags & DEAD and await ctx.ask(ref.inc_not_zero)
        if taken:
            ref.last_get = ctx.name, ctx.world.step
        return taken


@kernel_fn("percpu_ref_noop_confirm_switch", "lib/percpu-refcount.c")
async def percpu_ref_noop_confirm_switch(ctx: Context, ref: PercpuRef) -> None:
    """Default confirm callback: does nothing."""


@kernel_fn("percpu_ref_kill_and_confirm", "lib/percpu-refcount.c")
async def percpu_ref_kill_and_confirm(ctx: Context, ref: PercpuRef, confirm: Confirm | None) -> None:
    """Drop the initial reference and switch to atomic mode; *confirm* runs when every CPU sees the switch."""
    async with SpinLockIrqHeld(ctx, ctx.machine.percpu_ref_switch_lock):
        flags = await ctx.ask(ref.set_flags, DEAD)
        WARN_ON(ctx, flags & DEAD, "percpu_ref_kill_and_confirm called more than once")
        await __percpu_ref_switch_mode(ctx, ref, confirm)
        ref.own_refs -= 1
        await percpu_ref_put(ctx, ref)


@kernel_fn("percpu_ref_kill", "include/linux/percpu-refcount.h")
async def percpu_ref_kill(ctx: Context, ref: PercpuRef) -> None:
    """percpu_ref_kill_and_confirm() without a confirmation."""
    await percpu_ref_kill_and_confirm(ctx, ref, None)


@kernel_fn("__percpu_ref_switch_mode", "lib/percpu-refcount.c")
async def __percpu_ref_switch_mode(ctx: Context, ref: PercpuRef, confirm: Confirm | None) -> None:
    """Wait for a switch in progress, then switch to the mode that DEAD selects. Only the wait may sleep.

    KERNEL.md 1.6c and d.
    """
    lock = ctx.machine.percpu_ref_switch_lock
    lockdep_assert_held(ctx, lock.name)
    while await ctx.ask(ref.read_confirm_switch) is not None:
        await spin_unlock_irqrestore(ctx, lock, flags=False)
        await ctx.ask(ref.wait_for_switch)
        await spin_lock_irqsave(ctx, lock)
    if await ctx.ask(ref.read_flags) & DEAD:
        await __percpu_ref_switch_to_atomic(ctx, ref, confirm)
    else:
        await __percpu_ref_switch_to_percpu(ctx, ref)


@kernel_fn("__percpu_ref_switch_to_atomic", "lib/percpu-refcount.c")
async def __percpu_ref_switch_to_atomic(ctx: Context, ref: PercpuRef, confirm: Confirm | None) -> None:
    """Set ATOMIC, which sends readers of the flags to the slow path; after a grace period all CPUs are there.

    KERNEL.md 1.6d.
    """
    if await ctx.ask(ref.read_flags) & ATOMIC:
        if confirm is not None:
            await confirm(ctx, ref)
        return
    await ctx.ask(ref.begin_switch, confirm or percpu_ref_noop_confirm_switch)
    await percpu_ref_get(ctx, ref)
    ref.own_refs += 1
    await call_rcu(ctx, ref.head, percpu_ref_switch_to_atomic_rcu)


@kernel_fn("percpu_ref_switch_to_atomic_rcu", "lib/percpu-refcount.c")
async def percpu_ref_switch_to_atomic_rcu(ctx: Context, head: RcuHead) -> None:
    """KERNEL.md 1.7: add the per-CPU counters to the count, subtract BIAS, confirm, drop the switch's reference."""
    ref = head.container
    assert isinstance(ref, PercpuRef)
    total = await ctx.ask(ref.percpu_sum)
    count = await ctx.ask(ref.atomic_add, total - BIAS)
    WARN_ON(ctx, count <= 0, "percpu ref <= 0 after switching to atomic")
    await percpu_ref_call_confirm_rcu(ctx, ref)


@kernel_fn("percpu_ref_call_confirm_rcu", "lib/percpu-refcount.c", profiles="6.12..")
async def percpu_ref_call_confirm_rcu(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL-today 1.4: as in 5.3; the data stays until percpu_ref_exit()."""
    await confirm_the_switch(ctx, ref)
    if not ref.allow_reinit:
        await __percpu_ref_exit(ctx, ref)
    ref.own_refs -= 1
    await percpu_ref_put(ctx, ref)


@kernel_fn("percpu_ref_call_confirm_rcu", "lib/percpu-refcount.c", profiles="5.3..5.4-fixed")
async def percpu_ref_call_confirm_rcu_5_3(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL.md 1.7c to e: confirm the switch; free the per-CPU memory, unless the ref may be re-initialised."""
    await confirm_the_switch(ctx, ref)
    if not ref.allow_reinit:
        await percpu_ref_exit(ctx, ref)
    ref.own_refs -= 1
    await percpu_ref_put(ctx, ref)


@kernel_fn("percpu_ref_call_confirm_rcu", "lib/percpu-refcount.c", profiles="..v7")
async def percpu_ref_call_confirm_rcu_until_v7(ctx: Context, ref: PercpuRef) -> None:
    """Before 5.3 the per-CPU memory stays until percpu_ref_exit()."""
    await confirm_the_switch(ctx, ref)
    ref.own_refs -= 1
    await percpu_ref_put(ctx, ref)


async def confirm_the_switch(ctx: Context, ref: PercpuRef) -> None:
    """Call the confirm callback, then wake the execution contexts that wait for the end of the switch."""
    confirm = await ctx.ask(ref.read_confirm_switch)
    await deref(confirm, "percpu_ref_call_confirm_rcu(): ref->confirm_switch")(ctx, ref)
    await ctx.ask(ref.end_switch)


@kernel_fn("percpu_ref_exit", "lib/percpu-refcount.c", profiles="6.12..")
async def percpu_ref_exit(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL-today 1.5: free the per-CPU memory and the data; a second call does nothing."""
    has_data = await ctx.ask(ref.read_data)
    await __percpu_ref_exit(ctx, ref)
    if has_data:
        async with SpinLockIrqHeld(ctx, ctx.machine.percpu_ref_switch_lock):
            await ctx.ask(ref.drop_data)


@kernel_fn("percpu_ref_exit", "lib/percpu-refcount.c", profiles="..5.4-fixed")
async def percpu_ref_exit_until_5_4(ctx: Context, ref: PercpuRef) -> None:
    """Free the per-CPU memory; a second call does nothing."""
    switching = await ctx.ask(ref.free_percpu)
    WARN_ON(ctx, switching, "percpu_ref_exit: confirm_switch is set")


@kernel_fn("__percpu_ref_exit", "lib/percpu-refcount.c", profiles="6.12..")
async def __percpu_ref_exit(ctx: Context, ref: PercpuRef) -> None:
    """Free the per-CPU memory, if it is still there."""
    switching = await ctx.ask(ref.free_percpu)
    WARN_ON(ctx, switching, "percpu_ref_exit: confirm_switch is set")


# -- reinit and resurrect, never used for css and kmem_cache (1.9) ----------------------------------------------------


@kernel_fn("percpu_ref_reinit", "lib/percpu-refcount.c")
async def percpu_ref_reinit(ctx: Context, ref: PercpuRef) -> None:
    """Make a dead ref whose count is zero live again."""
    WARN_ON(ctx, not ref.is_zero, "percpu_ref_reinit: !percpu_ref_is_zero(ref)")
    await percpu_ref_resurrect(ctx, ref)


@kernel_fn("percpu_ref_resurrect", "lib/percpu-refcount.c")
async def percpu_ref_resurrect(ctx: Context, ref: PercpuRef) -> None:
    """Make a dead ref live again, with a new initial reference."""
    async with SpinLockIrqHeld(ctx, ctx.machine.percpu_ref_switch_lock):
        flags = await ctx.ask(ref.read_flags)
        WARN_ON(ctx, not flags & DEAD, "percpu_ref_resurrect: !DEAD")
        WARN_ON(ctx, not flags, "percpu_ref_resurrect: __ref_is_percpu(ref)")
        await ctx.ask(ref.clear_flags, DEAD)
        await percpu_ref_get(ctx, ref)
        ref.own_refs += 1
        await __percpu_ref_switch_mode(ctx, ref, None)


@kernel_fn("__percpu_ref_switch_to_percpu", "lib/percpu-refcount.c", profiles="5.3..")
async def __percpu_ref_switch_to_percpu(ctx: Context, ref: PercpuRef) -> None:
    """Return to per-CPU counters, if allow_reinit is set."""
    BUG_ON(ctx, ref.percpu is None, "__percpu_ref_switch_to_percpu: !percpu_count")
    if await ctx.ask(ref.read_flags) & ATOMIC:
        if WARN_ON(ctx, not ref.allow_reinit, "__percpu_ref_switch_to_percpu: !ref->allow_reinit"):
            return
        await ctx.ask(ref.reset_percpu)


@kernel_fn("__percpu_ref_switch_to_percpu", "lib/percpu-refcount.c", profiles="..v7")
async def __percpu_ref_switch_to_percpu_until_v7(ctx: Context, ref: PercpuRef) -> None:
    """Before 5.3: return to per-CPU counters without a check."""
    BUG_ON(ctx, ref.percpu is None, "__percpu_ref_switch_to_percpu: !percpu_count")
    if await ctx.ask(ref.read_flags) & ATOMIC:
        await ctx.ask(ref.reset_percpu)
