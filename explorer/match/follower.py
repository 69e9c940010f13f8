"""The strategy that steers a run along a trace.

At each step it prefers lanes in this order; a flow whose entry is not due yet may not step at all:

mail                        a store that reaches another CPU late changes nothing here
blockers of the due flow    a handler or a section on its CPU, or the holder of its lock
softirqs that have begun    nothing else on their CPU can go on before they end
silent flows                the trace has no further line of them, so they run as early as possible
flows with lines            first the flow whose last line is the oldest: it has had the most time since then
softirqs that have not      they take the CPU until their end, with all callbacks that are ready; those without a
                            further line first, then those whose line comes first: CPUs learn of a grace period's end
                            one after the other
grace periods               as late as possible, so that a callback gets into the same grace period as in the trace

This is nearly always right, because parallel CPUs behave like this. Tasks that were preempted for long do not: for them
a *lazy* follower lets only the due flow run among the flows with lines, and ends a grace period before it lets another
of them go on. The search deviates from these preferences where they lead nowhere. A deviation is the number of a
choice, with the place of the lane to take instead. That lane then goes on for as long as it can.

Virtual time follows the trace: a timer that is due at the time of the next line fires. If nothing else can be done, the
next timer fires whatever the trace's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from actors.system.flow import Flow, Kind
from actors.system.strategy import Strategy
from explorer.match.cursor import Cursor, Entry
from explorer.match.races import ChoicePoint, touched_by

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World

MAIL, NEEDED, BEGUN, SILENT, RUNNING, SOFTIRQ, BACKGROUND, NOT_DUE = range(8)
MICROSECOND = 1_000
DEEPEST_WAIT = 8
PATIENCE_NS = 60_000_000_000
"""Most virtual time after the last line: housekeeping timers never end by themselves."""


class Follower(Strategy):
    """Follows the trace of *cursor*, except for the choices in *plan*: number of the choice, place of the lane to take.

    `trail` lists the choices with their times, and `values` the environment's choices; to repeat both is to repeat the
    run. `choices` has the alternatives, too.
    """

    name = "match"
    controls_clock = True

    def __init__(self, cursor: Cursor, plan: Mapping[int, int], *, is_lazy: bool = False) -> None:
        self.cursor = cursor
        self.is_lazy = is_lazy
        self.trail: list[tuple[int, int]] = []
        self.values: list[int] = []
        self.choices: list[ChoicePoint] = []
        self._plan = plan
        self._favourite: Lane | None = None
        self._offset: int | None = None
        self._end = 0

    def entered(self, entry: Entry, world: World) -> None:
        """Pass an entry into a compared function to the cursor, in the race only, until the first mismatch."""
        if world.chooser is self and self.cursor.mismatch is None and not self.cursor.enter(entry):
            world.stop("mismatch")

    # -- the strategy -------------------------------------------------------------------------------------------------

    def advance(self, world: World) -> None:
        """Go to the time of the next line, or, if no lane may step then, of the next timer; or stop the world."""
        if self._offset is None:
            first = self.cursor.events[0].time if self.cursor.events else 0
            self._offset = world.now - first * MICROSECOND
            self._end = self.cursor.events[-1].time * MICROSECOND + self._offset + PATIENCE_NS
        due = self.cursor.due()
        if due:
            world.now = max(world.now, due[0].time * MICROSECOND + self._offset)
            world.fire_timers()
        while not self._may_go_on(world) and (timer := world.next_timer()) is not None and timer <= self._end:
            world.now = max(world.now, timer)
            world.fire_timers()
        if not self._may_go_on(world) and (world.mask or not self.cursor.is_done):
            world.stop("stuck")

    def _may_go_on(self, world: World) -> bool:
        return bool(world.mask) and any(map(self._may_step, world.enabled_lanes()))

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """The best lane, or the plan's."""
        ranked = self._ranked(lanes)
        place = self._plan.get(len(self.choices))
        if place is not None:
            self._favourite = lanes[ranked[place]]
        index = next((index for index in ranked if lanes[index] is self._favourite), ranked[0])
        lane = lanes[index]
        if lane is not self._favourite:
            self._favourite = None
        self.choices.append(ChoicePoint(tuple(lanes[index] for index in ranked), ranked.index(index), touched_by(lane)))
        self.trail.append((lane.world.now, index))
        return index

    def choose_value(self, count: int) -> int:
        """The first value, or the plan's."""
        value = self._plan.get(len(self.choices), 0)
        self.choices.append(ChoicePoint(taken=value, values=count))
        self.values.append(value)
        return value

    def choose_fault(self, _probability: float) -> bool:
        """Never a fault."""
        return False

    # -- preferences --------------------------------------------------------------------------------------------------

    def _may_step(self, lane: Lane) -> bool:
        return not (isinstance(lane, Flow) and self.cursor.has_pending(lane))

    def _ranked(self, lanes: tuple[Lane, ...]) -> list[int]:
        """The indices of the lanes that may step, the best first."""
        needed = self._needed(lanes)
        ranked = [(*self._rank(lane, needed), index) for index, lane in enumerate(lanes) if self._may_step(lane)]
        return [index for *_, index in sorted(ranked)]

    def _rank(self, lane: Lane, needed: set[Flow]) -> tuple[int, int]:
        """The rank of *lane*; lower is better."""
        if not isinstance(lane, Flow):
            return MAIL, 0
        if lane in needed:
            return NEEDED, 0
        if lane.kind is Kind.KTHREAD:
            return BACKGROUND, 0
        if lane.kind is Kind.SOFTIRQ:
            following = self.cursor.next_of(lane)
            return (BEGUN, 0) if lane.in_handler else (SOFTIRQ, following.line if following else 0)
        return self._rank_running(lane)

    def _rank_running(self, flow: Flow) -> tuple[int, int]:
        """The rank of a task, a kworker or an interrupt."""
        following = self.cursor.next_of(flow)
        if following is None:
            return SILENT, 0
        if self.is_lazy and following not in self.cursor.due():
            return NOT_DUE, following.line
        return RUNNING, self.cursor.last_of(flow)

    def _needed(self, lanes: tuple[Lane, ...]) -> set[Flow]:
        """The flows that block the due flows, transitively."""
        enabled = set(lanes)
        found: set[Flow] = set()
        for event in self.cursor.due():
            waiter = self.cursor.binding.flows.get(event.flow)
            for _ in range(DEEPEST_WAIT):
                if waiter is None or waiter in enabled:
                    break
                waiter = whom_it_waits_for(waiter)
                if waiter is not None:
                    found.add(waiter)
        return found


def whom_it_waits_for(flow: Flow) -> Flow | None:
    """The flow that keeps *flow* from stepping, on its CPU or by a lock; None if it is not a single flow."""
    cpu = flow.cpu
    if flow.ready and cpu is not None:
        runs = (cpu.hardirq if cpu.in_hardirq else None, cpu.softirq if cpu.in_softirq else None, cpu.holder)
        return next((other for other in runs if other is not None and other is not flow), None)
    target = flow.request.target
    holder = getattr(target, "holder", None) or getattr(target, "writer", None)
    return holder if isinstance(holder, Flow) and holder is not flow else None
