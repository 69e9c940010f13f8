"""Grace periods of their own for each callback: what RCU can lead to, in fewer schedules. For exact searches.

call_rcu() promises no more than that the callback comes after a grace period that starts from then on. One that starts
in that very moment waits for the fewest readers; one that starts later waits for more, and whatever can happen with
that one can happen with the other, whose callback need not be called as soon as it may. So nothing is lost if each
callback has its own grace period, from the call on, and no kthread decides which callbacks share one: the number of
ways in which it could is what makes most of the schedules of a small race. A later grace period waits for all whom an
earlier one still waits for, so callbacks become ready in the order of their calls, as they do in the kernel.

Grace periods of their own may end at any distance: a task may come between two callbacks of one CPU. So each is called
in a softirq of its own, which the next one may follow at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from actors.linux.kernel.rcu.tree import CALL_RCU, Rcu, RcuData, RcuHead
from actors.linux.kernel.softirq import RCU_SOFTIRQ
from protocol.operations import COMMUTE, UPDATE, OperationInfo

if TYPE_CHECKING:
    from actors.machine.lockless import LocklessField
    from actors.system.flow import Flow


@attrs.define(eq=False)
class GracePeriod:
    """Whom one callback still waits for, and what every CPU has seen by its end."""

    rdp: RcuData
    readers: set[Flow]
    stores: dict[LocklessField, None]

    def touch(self) -> None:
        """Say that the step that runs has a share in its end: whoever of the readers leaves last, it is the same."""
        self.rdp.touch_part("done", COMMUTE)
        self.rdp.softirq.touch(COMMUTE)
        for store in self.stores:
            store.view.touch(COMMUTE)


@attrs.define(eq=False)
class EagerRcu(Rcu):
    """RCU whose grace periods start with the calls and end with their last reader."""

    call_rcu_step: ClassVar[OperationInfo] = attrs.evolve(CALL_RCU, looks_at_contexts=True)

    under_way: dict[RcuHead, GracePeriod] = attrs.field(factory=dict, init=False)

    def batch_limit(self, _rdp: RcuData) -> int:
        """One: the next callback's grace period may end later."""
        return 1

    def enqueue(self, rdp: RcuData, head: RcuHead) -> None:
        """Note who reads now: *head* waits for them."""
        self.started += 1
        rdp.touch_part("new", UPDATE)
        self.touch_part("stores", UPDATE)
        rdp.waiting_for_end.append(head)
        readers = {flow for flow in self.actor.world.flows if flow.held}
        for flow in readers:
            flow.blocks = self.reader_left
        self.under_way[head] = GracePeriod(rdp, readers, self.stores)
        self.stores = {}
        self._end_those_without_readers()

    def reader_left(self, flow: Flow) -> None:
        """Nobody waits any longer for that reader."""
        flow.blocks = None
        for period in self.under_way.values():
            if flow in period.readers:
                period.readers.remove(flow)
                period.touch()
        self._end_those_without_readers()

    def _end_those_without_readers(self) -> None:
        for head, period in list(self.under_way.items()):
            if period.readers:
                return
            del self.under_way[head]
            self._end(period)

    def _end(self, period: GracePeriod) -> None:
        self.completed += 1
        period.touch()
        for store in period.stores:
            store.view.become_visible()
        rdp = period.rdp
        rdp.done.append(rdp.waiting_for_end.popleft())
        while rdp.waiting_for_end and rdp.waiting_for_end[0] not in self.under_way:
            rdp.done.append(rdp.waiting_for_end.popleft())  # what rcu_barrier() put behind it
        rdp.softirq.raise_now(RCU_SOFTIRQ)
