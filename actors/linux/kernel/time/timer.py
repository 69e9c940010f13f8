"""Timers of one CPU, which run in its softirq; only delayed work has timers. kernel/time/timer.c @5.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.softirq import TIMER_SOFTIRQ
from actors.machine.context import Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.kernel.softirq import Action, Softirq


@attrs.define(eq=False)
class TimerBase(Shared):
    """struct timer_base of one CPU: pending timers with their times (ns), and expired ones."""

    softirq: Softirq
    timers: list[tuple[int, Action]] = attrs.field(factory=list, init=False)
    expired: list[Action] = attrs.field(factory=list, init=False)

    @property
    def label(self) -> str:
        return f"timers of {self.actor.name}"

    def has_timer(self) -> bool:
        return bool(self.timers)

    @operation(UPDATE, when=has_timer, idle=True)
    def next_expiry(self) -> int:
        """Wait until there is a timer; return the time of the earliest."""
        return min(time for time, _ in self.timers)

    @operation(UPDATE)
    def expire(self, now: int) -> None:
        """The timer interrupt: move the due timers to the softirq."""
        due = [action for time, action in self.timers if time <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        self.expired += due
        if due:
            self.softirq.raise_now(TIMER_SOFTIRQ)

    @operation(UPDATE, cost=ATOMIC_NS)
    def add_timer(self, time: int, action: Action) -> None:
        """Call *action* in the softirq of this CPU at *time* or later."""
        self.timers.append((time, action))

    def is_pending(self, action: Action) -> bool:
        """timer_pending(): the softirq has not taken it yet."""
        return action in self.expired or any(timer[1] is action for timer in self.timers)

    def del_timer(self, action: Action) -> None:
        """Remove a pending timer, for the operation of another object."""
        self.touch(UPDATE)
        self.timers = [timer for timer in self.timers if timer[1] is not action]
        self.expired = [other for other in self.expired if other is not action]
        self.reconsider()


async def timer_interrupt(ctx: Context, base: TimerBase) -> None:
    """The clock of one CPU: waits for its timers and makes them expire; loops for ever."""
    while True:
        due = await ctx.ask(base.next_expiry)
        await ctx.sleep_in_background(max(0, due - ctx.world.now))
        await ctx.ask(base.expire, ctx.world.now)


@kernel_fn("run_timer_softirq", "kernel/time/timer.c")
async def run_timer_softirq(ctx: Context, base: TimerBase) -> None:
    """Call the expired timers."""
    while base.expired:
        await base.expired.pop(0)(ctx)
