"""What a picture of a run shows of each step beside what a trace has: stacks, wake-ups, counters, the plain order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.workqueue import Worker
from actors.machine.context import Context
from actors.system.actor import Actor, Shared
from actors.system.flow import BACKGROUND, SETTLE, SLEEP, STALL, Flow, Kind
from actors.system.strategy import InTurn
from actors.system.world import call_stack
from protocol.findings import Finding

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World

BY_TIME = frozenset({SLEEP, BACKGROUND, STALL, SETTLE})
"""What a flow waits for that no other step brings about."""


@attrs.define(eq=False)
class Detail:
    """More about one step of the race.

    `plain` is the lane that would have stepped in the plain order, `stack` the kernel functions that the flow is in,
    outermost first, `call` the first of them that is the kernel's own. `woken` are the lanes that this step made ready,
    by what it did to them (`wakes`, `starts`, `mails`); `counts` the counters that are not what they were before it, as
    (what is counted, how many) by name. `origin` is who queued what the flow runs, the callback or the work, and in
    which step; `faults` were injected.
    """

    lane: str
    plain: str
    stack: tuple[str, ...]
    call: str = ""
    origin: tuple[str, int] | None = None
    woken: dict[str, str] = attrs.field(factory=dict)
    counts: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    faults: list[str] = attrs.field(factory=list)


class Details:
    """An observer that keeps a `Detail` for each step of the race; `before` are the counters as the race found them."""

    def __init__(self) -> None:
        self.steps: list[Detail] = []
        self.before: dict[str, tuple[str, int]] = {}
        self._world: World | None = None
        self._races = False
        self._awake: dict[Lane, None] = {}
        self._counters: dict[Shared, tuple[str, int]] = {}

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Keep the step; what the one before it has done is known now."""
        if not self._races:
            return
        self._world = world
        self.end_step()
        plain = self._plain.choose(enabled.lanes)
        self._plain.went_on(lane)
        stack = call_stack(lane) if isinstance(lane, Flow) else []
        names = tuple(code.co_name for code in reversed(stack))
        call = next((code.co_name for code in reversed(stack) if id(code) in world.function_ids), lane.name)
        self.steps.append(Detail(lane.name, enabled.lanes[plain].name, names, call, origin_of(lane)))
        target = lane.request.target if lane.request is not None else None
        if target is not None and target not in self._counters and target.tally is not None:
            self._counters[target] = target.tally
            self.before.setdefault(target.label, target.tally)

    def end_step(self) -> None:
        """See what the last step has changed."""
        if self._world is None:
            return
        awake = awake_lanes(self._world)
        if self.steps:
            detail = self.steps[-1]
            for lane in awake:
                if lane not in self._awake and (how := how_woken(lane)):
                    detail.woken[lane.name] = how
            for counter, before in self._counters.items():
                now = counter.tally
                if now is not None and now != before:
                    detail.counts[counter.label] = self._counters[counter] = now
        self._awake = awake

    def value(self, count: int, value: int) -> None:  # noqa: ARG002 -- the protocol
        """The trace has it; that it is a fault is to be seen here only."""
        if self._races and self.steps and self._world is not None and self._world.fault:
            self.steps[-1].faults.append(self._world.fault)

    def moved(self, flow: Flow) -> None:
        """The next step says where."""

    def phase(self, name: str) -> None:
        """Only the race is kept."""
        if self._races:
            self.end_step()
        self._races = name == "race"
        self._plain = InTurn()

    def finding(self, finding: Finding) -> None:  # noqa: ARG002 -- the protocol
        """The trace has it. What the flow runs may have begun in the slice in which it was found."""
        if self._races and self.steps and self._world is not None and self._world.current is not None:
            self.steps[-1].origin = origin_of(self._world.current)


def origin_of(lane: Lane) -> tuple[str, int] | None:
    """Who queued what *lane* runs now, and in which step; None if it runs of itself."""
    if isinstance(lane, Worker):
        return lane.current.work.queued_by if lane.current is not None else None
    if isinstance(lane, Context) and lane.kind is Kind.SOFTIRQ:
        rdp = lane.machine.rcu.per_cpu[lane.smp_processor_id]
        return rdp.called.queued_by if rdp.in_batch and rdp.called is not None else None
    return None


def awake_lanes(world: World) -> dict[Lane, None]:
    """The flows that could step as far as what they wait for goes, and the actors that have mail."""
    mailed = (lane for lane in world.enabled_lanes() if isinstance(lane, Actor))
    return dict.fromkeys([*(flow for flow in world.flows if flow.ready), *mailed])


def how_woken(lane: Lane) -> str:
    """What another lane's step did that *lane* is ready now; empty if it was the time."""
    if isinstance(lane, Actor):
        return "mails"
    if isinstance(lane, Flow) and lane.request.info in BY_TIME:
        return ""
    return "starts" if isinstance(lane, Flow) and lane.request.info.name == "begin" else "wakes"
