"""One grace period for each callback: the behaviours of RCU in fewer schedules. For exact searches.

call_rcu() promises only that the callback runs after a grace period that starts after the call. A grace period that
starts at the call waits for the fewest readers; one that starts later waits for more. Each behaviour that is possible
with the later one is possible with the earlier one, whose callback may also run late. So no behaviour is lost if each
callback has its own grace period, which starts at the call. No kthread then decides which callbacks share a grace
period; the ways to decide that are most of the schedules of a small race. A later grace period waits for all readers
that an earlier one still waits for, so callbacks become ready in the order of their calls, as in the kernel.

Separate grace periods may end at any distance from each other: a task may run between two callbacks of one CPU. So
each callback runs in a softirq of its own, which the next one may follow at once.
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
    """The grace period of one callback: the readers it still waits for, and the stores that are visible at its end."""

    rdp: RcuData
    readers: set[Flow]
    stores: dict[LocklessField, None]

    def touch(self) -> None:
        """Record that the current step takes part in the end. The end does not depend on which reader leaves last."""
        self.rdp.touch_part("done", COMMUTE)
        self.rdp.softirq.touch(COMMUTE)
        for store in self.stores:
            store.view.touch(COMMUTE)


@attrs.define(eq=False)
class EagerRcu(Rcu):
    """RCU whose grace periods start at the call and end with their last reader."""

    call_rcu_step: ClassVar[OperationInfo] = attrs.evolve(CALL_RCU, looks_at_contexts=True)

    under_way: dict[RcuHead, GracePeriod] = attrs.field(factory=dict, init=False)

    def batch_limit(self, _rdp: RcuData) -> int:
        """One: the grace period of the next callback may end later."""
        return 1

    def enqueue(self, rdp: RcuData, head: RcuHead) -> None:
        """Take a snapshot of the readers; *head* waits for them."""
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
        """No grace period waits for that reader any more."""
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
            rdp.done.append(rdp.waiting_for_end.popleft())  # rcu_barrier()'s marker
        rdp.softirq.raise_now(RCU_SOFTIRQ)
