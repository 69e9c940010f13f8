"""Fields that CPUs share without a lock."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from actors.machine.context import Context
from actors.system.actor import Shared
from protocol.messages import Message
from protocol.operations import COMMUTE, READ, UPDATE, operation

_NOTHING: Mapping[int, int] = MappingProxyType({})
"""What is unseen of nearly all fields; one object for all."""


@attrs.define(eq=False)
class LocklessField(Shared):
    """A number that one CPU stores and other CPUs read without any lock or barrier.

    The store reaches each other CPU by a delivery of its own, and at the latest with the grace period that starts after
    it. All other accesses in the model are sequentially consistent (docs/limits.md).
    """

    name: str
    value: int
    view: View = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.view = View(self.actor, self)

    @property
    def label(self) -> str:
        return self.name

    @operation(READ)
    def read(self, cpu: int) -> int:
        """The value that this CPU sees."""
        self.view.touch(READ)
        return self.view.unseen.get(cpu, self.value)

    @operation(UPDATE)
    def store(self, ctx: Context, value: int) -> None:
        """Store *value*: visible on this CPU at once, on the others later."""
        self.view.touch(UPDATE)
        for cpu in ctx.machine.cpus:
            if cpu is not ctx.cpu:
                self.view.become_stale_on(cpu.id, self.value)
                self.actor.post(Message.mail(self.view.become_visible_on, cpu.id))
        self.value = value
        ctx.machine.rcu.touch_part("stores", COMMUTE)
        ctx.machine.rcu.stores[self] = None


@attrs.define(eq=False)
class View(Shared):
    """Per-CPU stale values of a LocklessField: a store-buffer model. It is no part of the field's memory."""

    field: LocklessField
    unseen: Mapping[int, int] = attrs.field(default=_NOTHING, init=False)

    @property
    def label(self) -> str:
        return f"view of {self.field.name}"

    def become_stale_on(self, cpu: int, value: int) -> None:
        """Let that CPU see *value*, unless it sees an older one already."""
        self.unseen = {cpu: value, **self.unseen}

    @operation(COMMUTE)
    def become_visible_on(self, cpu: int) -> None:
        """A store reaches that CPU."""
        self.unseen = {other: value for other, value in self.unseen.items() if other != cpu} or _NOTHING

    def become_visible(self) -> None:
        """A full memory barrier on every CPU, within the current step."""
        self.touch(COMMUTE)
        if self.unseen:
            self.unseen = _NOTHING
