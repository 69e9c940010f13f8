"""Fields that CPUs share without a lock."""

from __future__ import annotations

import attrs

from actors.kernel.context import Context
from actors.system.actor import Message, Shared
from protocol.operations import COMMUTE, READ, UPDATE, operation


@attrs.define(eq=False)
class LocklessField(Shared):
    """A number that one CPU stores and others read without any lock or barrier.

    The store reaches every other CPU some time: a delivery of its own for each of them, and at the latest with the
    grace period that starts after it. Everything else in the model is sequentially consistent (docs/limits.md).
    """

    name: str
    value: int
    unseen: dict[int, int] = attrs.field(factory=dict, init=False)

    @property
    def label(self) -> str:
        return self.name

    @operation(READ)
    def read(self, cpu: int) -> int:
        """What that CPU sees."""
        return self.unseen.get(cpu, self.value)

    @operation(UPDATE)
    def store(self, ctx: Context, value: int) -> None:
        """Store *value*: visible on this CPU now, on the others later."""
        for cpu in ctx.machine.cpus:
            if cpu is not ctx.cpu:
                self.unseen.setdefault(cpu.id, self.value)
                self.actor.post(Message.mail(self.become_visible_on, cpu.id))
        self.value = value
        ctx.machine.rcu.new_stores.touch(COMMUTE)
        ctx.machine.rcu.stores[self] = None

    def become_visible_on(self, cpu: int) -> None:
        """A store reaches that CPU."""
        self.unseen.pop(cpu, None)

    def become_visible(self) -> None:
        """What a full memory barrier on every CPU does."""
        self.unseen.clear()
