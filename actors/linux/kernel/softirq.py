"""Softirqs and the timers that run in them. kernel/softirq.c, kernel/time/timer.c @5.3.

Each CPU has one softirq context. It runs the pending vectors with interrupts on, timers before RCU. The only timers
are those of delayed work. They tick in the background, so a machine may be quiescent although a timer is still to
expire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.machine.context import WARN_ON, Context
from actors.system.actor import Shared
from protocol.operations import COMMUTE, UPDATE, operation

if TYPE_CHECKING:
    from actors.system.cpu import Cpu

SOFTIRQ_NS = (1_000, 20_000)

TIMER_SOFTIRQ, RCU_SOFTIRQ = 1, 9

Action = Callable[[Context], Awaitable[None]]


@attrs.define(eq=False)
class Softirq(Shared):
    """The softirq state of one CPU: the pending vectors, and the action of each vector."""

    cpu: Cpu
    actions: dict[int, Action] = attrs.field(factory=dict, init=False)
    pending: set[int] = attrs.field(factory=set, init=False)

    @property
    def label(self) -> str:
        return f"softirqs of {self.cpu.label}"

    def is_pending(self) -> bool:
        return bool(self.pending)

    def raise_now(self, vector: int) -> None:
        """raise_softirq(), called from the operation that makes the vector pending."""
        self.touch(COMMUTE)
        self.pending.add(vector)
        self.reconsider()

    @operation(UPDATE, when=is_pending, idle=True, latency=SOFTIRQ_NS, lifecycle=True)
    def irq_exit(self) -> list[int]:
        """Clear the pending vectors and return them in order; the softirqs begin."""
        vectors = sorted(self.pending)
        self.pending.clear()
        return vectors


async def run_softirqs(ctx: Context, softirq: Softirq) -> None:
    """The softirq context of one CPU, which loops for ever (__do_softirq)."""
    while True:
        vectors = await ctx.ask(softirq.irq_exit)
        ctx.begin_handler()
        for vector in vectors:
            await softirq.actions[vector](ctx)
            check_preempt_count(ctx)
        ctx.end_handler()


def check_preempt_count(ctx: Context) -> None:
    """__do_softirq()'s check of the preempt count: warn if a vector left it changed, and restore it."""
    if WARN_ON(ctx, ctx.preempt_off or ctx.softirqs_off, "huh, entered softirq, exited with another preempt_count"):
        ctx.preempt_off = ctx.softirqs_off = 0
