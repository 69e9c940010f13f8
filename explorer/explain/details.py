"""Details of each step for pictures of a run: stacks, wake-ups, counters, and the non-preemptive order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.workqueue import Worker
from actors.machine.context import Context
from actors.system.actor import Actor, Shared
from actors.system.flow import BACKGROUND, SETTLE, SLEEP, STALL, Flow, Kind
from actors.system.observer import Observer
from actors.system.strategy import InTurn
from actors.system.world import call_stack
from protocol.findings import Finding

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World

BY_TIME = frozenset({SLEEP, BACKGROUND, STALL, SETTLE})
"""Conditions of a flow that become true with time, not by another step."""


@attrs.define(eq=False)
class Detail:
    """Details of one step of the race.

    `plain` is the lane that would have stepped in the non-preemptive order. `stack` are the kernel functions that the
    flow is in, outermost first, and `call` is the first of them that is the kernel's own. `woken` are the lanes that
    this step made ready, with the way (`wakes`, `starts`, `mails`). `counts` are the counters that the step changed, by
    name: the counted thing and the number. `origin` is the flow that queued the running callback or work, with the
    step. `faults` were injected.
    """

    lane: str
    plain: str
    stack: tuple[str, ...]
    call: str = ""
    origin: tuple[str, int] | None = None
    woken: dict[str, str] = attrs.field(factory=dict)
    counts: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    faults: list[str] = attrs.field(factory=list)


class Details(Observer):
    """An observer that makes a `Detail` for each step of the race; `before` are the counters when the race begins."""

    def __init__(self) -> None:
        self.steps: list[Detail] = []
        self.before: dict[str, tuple[str, int]] = {}
        self._world: World | None = None
        self._races = False
        self._awake: dict[Lane, None] = {}
        self._counters: dict[Shared, tuple[str, int]] = {}

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Record the step; only now are the effects of the step before complete."""
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
        """Record the effects of the last step."""
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
        """Record an injected fault; other values are in the trace."""
        if self._races and self.steps and self._world is not None and self._world.fault:
            self.steps[-1].faults.append(self._world.fault)

    def phase(self, name: str) -> None:
        """Record the race only."""
        if self._races:
            self.end_step()
        self._races = name == "race"
        self._plain = InTurn()

    def finding(self, finding: Finding) -> None:  # noqa: ARG002 -- the protocol
        """Update the origin: the flow may have begun its callback or work within the step of the finding."""
        if self._races and self.steps and self._world is not None and self._world.current is not None:
            self.steps[-1].origin = origin_of(self._world.current)


def origin_of(lane: Lane) -> tuple[str, int] | None:
    """The flow that queued the callback or work that *lane* runs, and the step; None if it runs on its own."""
    if isinstance(lane, Worker):
        return lane.current.work.queued_by if lane.current is not None else None
    if isinstance(lane, Context) and lane.kind is Kind.SOFTIRQ:
        rdp = lane.machine.rcu.per_cpu[lane.smp_processor_id]
        return rdp.called.queued_by if rdp.in_batch and rdp.called is not None else None
    return None


def awake_lanes(world: World) -> dict[Lane, None]:
    """The flows whose condition is true, and the actors with mail."""
    mailed = (lane for lane in world.enabled_lanes() if isinstance(lane, Actor))
    return dict.fromkeys([*(flow for flow in world.flows if flow.ready), *mailed])


def how_woken(lane: Lane) -> str:
    """The way in which another lane's step made *lane* ready; empty if time did."""
    if isinstance(lane, Actor):
        return "mails"
    if isinstance(lane, Flow) and lane.request.info in BY_TIME:
        return ""
    return "starts" if isinstance(lane, Flow) and lane.request.info.name == "begin" else "wakes"
