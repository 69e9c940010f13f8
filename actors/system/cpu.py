"""The scheduling rules of a CPU, KERNEL.md 0.2.

A CPU runs one flow at a time, and each step chooses which. A hard IRQ (HI) preempts everything unless IRQs are off. A
softirq (SI) preempts tasks and kworkers unless softirqs or IRQs are off. Tasks (T) and kworkers (KW) preempt each other
unless the running one has preemption off. A handler that has begun runs to its end. Locks and waits never spin: a flow
that waits is not enabled. A flow that waits for a spinlock still holds its CPU, from the step that disables preemption.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.system.actor import Actor, Shared
from actors.system.flow import Level

if TYPE_CHECKING:
    from actors.system.flow import Flow
    from actors.system.world import World


@attrs.define(eq=False)
class Cpu(Shared):
    """One CPU. `ready` is the mask of its flows with a request that could be handled, `mask` of those that may step.

    `holder` is the one task or kworker that has preemption (or more) off. Once `in_softirq` or `in_hardirq` is set,
    only that handler and the contexts that may interrupt it run until it ends. `is_stale`: one of these fields, or the
    level of a flow, changed in the current slice; `mask` is computed again at the end of the step.
    """

    id: int
    world: World
    ready: int = attrs.field(default=0, init=False)
    mask: int = attrs.field(default=0, init=False)
    holder: Flow | None = attrs.field(default=None, init=False)
    softirq: Flow | None = attrs.field(default=None, init=False)
    hardirq: Flow | None = attrs.field(default=None, init=False)
    in_softirq: bool = attrs.field(default=False, init=False)
    in_hardirq: bool = attrs.field(default=False, init=False)
    is_stale: bool = attrs.field(default=False, init=False)

    @classmethod
    def boot(cls, world: World, number: int) -> Cpu:
        """Create CPU *number* and the actor that owns its per-CPU data."""
        return cls(Actor(world, f"cpu{number}"), number, world)

    @property
    def label(self) -> str:
        return self.actor.name

    @property
    def keeper(self) -> Flow | None:
        """The flow that keeps other flows off this CPU."""
        return self.hardirq if self.in_hardirq else self.softirq if self.in_softirq else self.holder

    def enabled(self) -> int:
        """The mask of the flows of this CPU that may step now."""
        softirq_bit = self.softirq.bit if self.softirq else 0
        hardirq_bit = self.hardirq.bit if self.hardirq else 0
        if self.in_hardirq:
            return self.ready & hardirq_bit
        running = self.softirq if self.in_softirq else self.holder
        if running is None:
            return self.ready
        allowed = running.bit
        if running.held < Level.NO_IRQS:
            allowed |= hardirq_bit
            if running.held < Level.NO_SOFTIRQS:
                allowed |= softirq_bit
        return self.ready & allowed

    def refresh(self) -> None:
        """Update this CPU's part of the world's enabled set, after a change of the state that `enabled` reads."""
        self.is_stale = False
        mask = self.enabled()
        if mask != self.mask:
            self.world.mask ^= self.mask ^ mask
            self.mask = mask
