"""Timers of one CPU, which run in its softirq: those of delayed work. kernel/time/timer.c @5.3."""

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
    """struct timer_base of one CPU: timers by their time (ns), and those that have expired."""

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
        """The time of the earliest timer, once there is one."""
        return min(time for time, _ in self.timers)

    @operation(UPDATE)
    def expire(self, now: int) -> None:
        """The timer interrupt: what is due runs in the softirq."""
        due = [action for time, action in self.timers if time <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        self.expired += due
        if due:
            self.softirq.raise_now(TIMER_SOFTIRQ)

    @operation(UPDATE, cost=ATOMIC_NS)
    def add_timer(self, time: int, action: Action) -> None:
        """Have *action* called in the softirq of this CPU at *time*, or later."""
        self.timers.append((time, action))


async def timer_interrupt(ctx: Context, base: TimerBase) -> None:
    """What drives the timers of one CPU, for ever."""
    while True:
        due = await ctx.ask(base.next_expiry)
        await ctx.sleep_in_background(max(0, due - ctx.world.now))
        await ctx.ask(base.expire, ctx.world.now)


@kernel_fn("run_timer_softirq", "kernel/time/timer.c")
async def run_timer_softirq(ctx: Context, base: TimerBase) -> None:
    """Call what has expired."""
    while base.expired:
        await base.expired.pop(0)(ctx)
