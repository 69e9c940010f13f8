"""The world: one simulated machine and the single choice point of its loop.

Everything that can be done next is a bit in `mask`. A step is: update the clock, look up the enabled lanes, let the
strategy choose one, record the choice, and let the driver run the owner and the flow.

    while (lane := world.next_lane()) is not None:      # the choice
        ... the driver delivers lane's request and resumes it ...
        world.finish_step(lane)                         # time passes; invariants are checked

A world ends at quiescence: nothing is enabled, no timer is pending and no flow waits in `settle`. Flows that are still
in the middle of an operation are then a deadlock. Findings are values: `report` collects them by signature, and the
fatal kinds end the run.
"""

from __future__ import annotations

import heapq
import itertools
import operator
import sys
import traceback
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import msgspec

from actors.system.actor import Actor, Shared
from actors.system.bits import bits
from actors.system.deadlock import Deadlock
from actors.system.flow import SPIN, Flow
from actors.system.lane import RESUMERS
from actors.system.livelock import Patience, Polls, is_outside
from actors.system.naming import Named
from actors.system.strategy import InTurn, Strategy
from protocol.findings import NOWHERE, Finding, Oops
from protocol.messages import MAIL
from protocol.operations import COMMUTE, READ, Access

if TYPE_CHECKING:
    import types

    from actors.system.lane import Lane
    from actors.system.observer import Observer


_ACTORS = __file__.removesuffix("system/world.py")
_SLOT = operator.attrgetter("slot")

LEAST_ENDED = 64
"""So many slots at least are freed before the world looks for enabled sets with lanes that have ended."""


@attrs.define(eq=False)
class EnabledSet:
    """The lanes that may step, in the order of their slots; `number` is the set's id in the log."""

    lanes: tuple[Lane, ...]
    number: int = -1


@attrs.define(eq=False)
class World(Named):
    """One run's actors, clock, strategy and findings. No state lives outside a world.

    `observers` see each step, in this order. `checks` run after each step (properties, invariants), `rests` at each
    quiescence that a flow has waited for in `settle`, `endings` once at the final quiescence.

    `chooser` makes the choices of the present phase: the strategy, except in sequential set-up. `controls_clock` is the
    chooser's attribute. `function_ids` holds the ids of the code objects of all kernel functions: the actions of any
    other function are shown as actions of the kernel function that called it. `faults` gives the probability of each
    fault, by name; `fault` is the fault that happens at this moment. `on_touch` receives the accesses of a step that
    its request does not name: parts of an object that its operation changes, flows that it wakes, data of its own CPU.

    `stop_before_next` is set from outside (Ctrl-C) and takes effect between two steps. An actor has a bit in the masks
    only while mail waits for it: most actors of a large machine get hardly any mail. In a world that `recycles_slots`
    this is also true of its slot in the order of choices. `current`, `step_time` and `cost` describe the running or the
    last step: its flow, its time and its duration (ns). `patience` is the livelock bound; `polls` counts the steps of
    tasks outside of kernel functions.
    `lost_mail`, if it is a list, collects the next mail of each actor that retired before the delivery. `spoiled`
    is a violation of the world's rules by user code.
    """

    strategy: Strategy
    observers: tuple[Observer, ...] = ()
    chooser: Strategy = attrs.field(init=False)
    controls_clock: bool = attrs.field(init=False)
    now: int = 0
    steps: int = 0
    mask: int = 0
    flows: dict[Flow, None] = attrs.field(factory=dict)
    settling: list[Flow] = attrs.field(factory=list)
    checks: list[Callable[[Flow], None]] = attrs.field(factory=list)
    rests: list[Callable[[], None]] = attrs.field(factory=list)
    endings: list[Callable[[], None]] = attrs.field(factory=list)
    findings: dict[str, Finding] = attrs.field(factory=dict)
    stopped: str | None = None
    faults: Mapping[str, float] = attrs.field(factory=dict)
    function_ids: frozenset[int] = frozenset()
    stop_before_next: str | None = None
    recycles_slots: bool = False
    on_retire: Callable[[Actor], None] | None = None
    on_touch: Callable[[tuple[Hashable, Access]], None] | None = None
    current: Flow | None = None
    step_time: int = 0
    cost: int = 0
    patience: Patience = attrs.field(factory=Patience)
    polls: Polls | None = None
    lost_mail: list[tuple[Actor, Any]] | None = None
    fault: str = ""
    spoiled: BaseException | None = None
    _lanes: list[Lane] = attrs.field(factory=list)
    _free_places: list[int] = attrs.field(factory=list)
    _ended: int = 0
    _sets: dict[tuple[Lane, ...], EnabledSet] = attrs.field(factory=dict)
    _holders: list[Lane] = attrs.field(factory=list)
    _free_bits: list[int] = attrs.field(factory=list)
    _of_mask: dict[int, EnabledSet] = attrs.field(factory=dict)
    _masks_with: dict[int, set[int]] = attrs.field(factory=dict)
    _foreground_timers: int = 0
    _next_look: int = 0
    _timers: list[tuple[int, int, Flow, bool]] = attrs.field(factory=list)
    _tickets: itertools.count[int] = attrs.field(factory=itertools.count)

    def __attrs_post_init__(self) -> None:
        self._let_choose(self.strategy)

    def begin_phase(self, name: str, *, calm: bool) -> None:
        """Begin a phase of the scenario; a *calm* one is sequential set-up, without races and without the strategy."""
        self._let_choose(InTurn() if calm and not self.strategy.is_replay else self.strategy)
        for observer in self.observers:
            observer.phase(name)

    def go_on_with(self, strategy: Strategy) -> None:
        """Let *strategy* choose from the next step of the race on; the last step still takes its time."""
        was_kept = self.controls_clock
        self.strategy = strategy
        self._let_choose(strategy)
        if self.controls_clock:
            strategy.advance(self)
        elif was_kept:
            self.now += self.cost

    def _let_choose(self, chooser: Strategy) -> None:
        self.chooser = chooser
        self.controls_clock = chooser.controls_clock

    # -- lanes --------------------------------------------------------------------------------------------------------

    def add_lane(self, lane: Lane) -> None:
        """Give *lane* a bit in the masks and, unless it has one already, its slot: the first free one of each."""
        if lane.slot < 0:
            lane.slot = _give(lane, self._lanes, self._free_places)
        lane.bit = 1 << _give(lane, self._holders, self._free_bits)
        for mask in self._masks_with.pop(lane.bit, ()):  # masks of the bit's holder before
            self._of_mask.pop(mask, None)

    def spawn(self, flow: Flow, coro: Coroutine[Any, Any, None]) -> None:
        """Let *flow* run *coro*, which may access nothing shared before its first await."""
        self.add_lane(flow)
        self.flows[flow] = None
        if self.on_touch is not None:
            self.on_touch((flow, COMMUTE))
        flow.set_ready(True)
        flow.start(coro)
        if flow.finished:
            self._bury(flow)

    def retire(self, actor: Actor) -> None:
        """End *actor*: the state it owned is freed, and its pending mail is lost."""
        actor.finished = True
        if actor.mailbox:
            if self.lost_mail is not None:
                self.lost_mail.append((actor, actor.mailbox[0]))
            actor.mailbox = ()
            self.mask ^= actor.bit
            self._free_bit_of(actor)
        if actor.slot >= 0:
            self._free_slot_of(actor)
        if self.on_retire is not None:
            self.on_retire(actor)

    def moved(self, flow: Flow) -> None:
        for observer in self.observers:
            observer.moved(flow)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def next_lane(self) -> Lane | None:
        """Choose and record the next step; None when the run is over.

        A step that only enters a section is finished here, without the driver: the request that follows it must wait.
        """
        while not self._is_over():
            try:
                enabled = self._of_mask[self.mask]
            except KeyError:
                enabled = self._intern(self.mask)
            index = self.chooser.choose(enabled.lanes)
            lane = enabled.lanes[index]
            for observer in self.observers:
                observer.step(self, enabled, index, lane)
            self.steps += 1
            self.step_time = self.now
            request = lane.request  # at the end of the step, the flow has another request
            if request is None:
                self.cost = MAIL.cost
                return lane
            flow = self.current = request.flow
            self.cost = request.info.cost
            if not flow.is_entering:
                return lane
            flow.enter_section()
            if request.info is not SPIN:
                return lane
            flow.spin()
            self.finish_step(flow)
        return None

    def _is_over(self) -> bool:
        """Whether no step comes any more; otherwise, time has passed as far as the next step needs it."""
        if self.steps >= self._next_look:
            self._look_for_livelock()
        if self.stopped is not None or self.stop_before_next is not None:
            self.stop(self.stop_before_next or "")
            return True
        if self.controls_clock:
            self.chooser.advance(self)
            if self.stopped is not None:
                return True
        if self._timers and self._timers[0][0] <= self.now:
            self.fire_timers()
        return not (self.mask or self.let_time_pass())

    def finish_step(self, flow: Flow) -> None:
        """Advance the clock by the step, update the enabled flows of its CPU if need be, and check the properties."""
        if flow.finished:
            self._bury(flow)
        elif flow.cpu is not None and flow.cpu.is_stale:
            flow.cpu.refresh()
        if not self.controls_clock:
            self.now += self.cost
        for check in self.checks:
            check(flow)

    def _bury(self, flow: Flow) -> None:
        """Remove a flow that has ended: it never steps again, and it keeps the locks it still holds."""
        if flow.ready:
            flow.set_ready(False)
        del self.flows[flow]
        self._free_bit_of(flow)
        self._free_slot_of(flow)

    def _free_bit_of(self, lane: Lane) -> None:
        heapq.heappush(self._free_bits, lane.bit.bit_length() - 1)
        lane.bit = 0

    def _free_slot_of(self, lane: Lane) -> None:
        """Free the slot of *lane*; now and then drop the enabled sets with lanes that never step again."""
        heapq.heappush(self._free_places, lane.slot)
        lane.slot = -1
        self._ended += 1
        if self._ended > LEAST_ENDED + len(self._sets) // 4:
            self._ended = 0
            self._sets = {lanes: one for lanes, one in self._sets.items() if not any(lane.finished for lane in lanes)}

    def take_mail(self, actor: Actor) -> object:
        """Take the oldest mail of *actor*; this step is its delivery."""
        message, *others = actor.mailbox
        actor.mailbox = tuple(others)
        if not actor.mailbox:
            self.mask ^= actor.bit
            self._free_bit_of(actor)
            if self.recycles_slots:
                self._free_slot_of(actor)
        if not self.controls_clock:
            self.now += self.cost
        return message

    @property
    def step(self) -> int:
        """The number of the running or the last step, counted from 0 as in the log."""
        return max(self.steps - 1, 0)

    def enabled_lanes(self) -> tuple[Lane, ...]:
        """The lanes that may step now, in the order of their slots."""
        return (self._of_mask.get(self.mask) or self._intern(self.mask)).lanes

    def _intern(self, mask: int) -> EnabledSet:
        """The enabled set of *mask*: the same one for the same lanes, whatever their bits are now."""
        lanes = tuple(sorted([self._holders[place] for place in bits(mask)], key=_SLOT))
        enabled = self._sets.get(lanes) or EnabledSet(lanes)
        if not self.recycles_slots:
            self._sets[lanes] = enabled
        self._of_mask[mask] = enabled
        for lane in lanes:
            self._masks_with.setdefault(lane.bit, set()).add(mask)
        return enabled

    def let_time_pass(self) -> bool:
        """With nothing enabled: go to the next timer, or wake a flow that waits for quiescence. False: the run ends.

        A woken flow may still be unable to step, if another one never releases its CPU.
        """
        while not self.mask:
            if self._foreground_timers:
                self.now = max(self.now, self._timers[0][0])
                self.fire_timers()
            elif self.settling:
                self._look_at_rest()
                self._wake(self.settling.pop())
            else:
                self._quiesce()
                return False
        return True

    def _look_at_rest(self) -> None:
        """Call `rests` before a waiting flow goes on, unless another flow is stuck in the middle of an operation."""
        if self.rests and all(flow.request.info.idle or flow in self.settling for flow in self.flows):
            last, self.current = self.current, None
            for look in self.rests:
                look()
            self.current = last

    def _quiesce(self) -> None:
        stuck = [flow for flow in self.flows if not flow.request.info.idle]
        if stuck:
            self._report_deadlock(stuck)
            return
        self.current = None
        for ending in self.endings:
            ending()
        self.stopped = self.stopped or "quiescent"

    # -- time ---------------------------------------------------------------------------------------------------------

    def wake_at(self, time: int, flow: Flow, *, background: bool = False) -> None:
        """Let *flow* go on at *time*. Pending background timers do not delay quiescence."""
        self._foreground_timers += not background
        heapq.heappush(self._timers, (time, next(self._tickets), flow, background))

    def next_timer(self) -> int | None:
        """The time at which the earliest timer fires (ns), if one is pending."""
        return self._timers[0][0] if self._timers else None

    def ready_time(self, latency: tuple[int, int]) -> int:
        low, high = latency
        return self.now + self.chooser.draw_latency(low, high) if high else self.now

    def sleepers(self) -> set[Flow]:
        """The flows with a timer that the end of the run waits for."""
        return {flow for _, _, flow, background in self._timers if not background}

    def fire_timers(self) -> None:
        """Wake the flows whose timers are due."""
        while self._timers and self._timers[0][0] <= self.now:
            _, _, flow, background = heapq.heappop(self._timers)
            self._foreground_timers -= not background
            self._wake(flow)

    def _wake(self, flow: Flow) -> None:
        flow.set_ready(True)

    # -- choices and findings -----------------------------------------------------------------------------------------

    def choose_value(self, count: int) -> int:
        value = self.chooser.choose_value(count)
        for observer in self.observers:
            observer.value(count, value)
        return value

    def should_fail(self, fault: str) -> bool:
        """Say whether the named fault happens now; never, unless the run has a probability for it."""
        probability = self.faults.get(fault)
        if not probability:
            return False
        fails = self.chooser.choose_fault(probability)
        self.fault = fault if fails else ""
        for observer in self.observers:
            observer.value(2, int(fails))
        self.fault = ""
        return fails

    def stop(self, reason: str) -> None:
        """End the run after the current slice; the first reason stays."""
        self.stopped = self.stopped or reason

    def spoil(self, error: BaseException) -> None:
        """End the run and mark its outcome invalid: the driver raises *error*, even if user code catches it."""
        self.spoiled = self.spoiled or error
        self.stop("spoiled")

    def report(
        self,
        kind: str,
        name: str,
        message: str,
        *details: str,
        flow: Flow | None = None,
        codes: list[types.CodeType] | None = None,
    ) -> None:
        """Report a finding; a repeated signature only counts. Fatal kinds end the run.

        *codes* gives the call stack of the flow, innermost first, for a flow that has left it.
        """
        flow = flow or self.current
        stack = call_stack(flow, codes or _running_codes(flow, sys._getframe(1))) if flow else []
        finding = Finding(
            kind=kind,
            name=name,
            message=message,
            step=self.step,
            time=self.step_time,  # not `now`: a replay knows the end of a step only from the next one
            function="" if kind in NOWHERE else next((code.co_name for code in stack), ""),
            flow=flow.name if flow else "",
            cpu=flow.cpu.id if flow and flow.cpu else None,
            stack=tuple(code.co_name for code in stack),
            details=details,
        )
        known = self.findings.get(finding.signature)
        for observer in self.observers if known is None else ():
            observer.finding(finding)
        self.findings[finding.signature] = (
            finding if known is None else msgspec.structs.replace(known, count=known.count + 1)
        )
        if finding.is_fatal:
            self.stop("finding")

    def report_oops(self, lane: Lane, oops: Oops) -> None:
        """Report *oops*, raised by a flow or by an operation that an actor performed for it."""
        codes = [frame.f_code for frame, _ in traceback.walk_tb(oops.__traceback__)][:0:-1]
        self.report(oops.kind, oops.name, oops.message, *oops.details, codes=codes if lane is self.current else None)

    def report_use_after_free(self, target: Shared) -> None:
        target.touch(READ)
        self.report(
            "use-after-free",
            type(target).__name__,
            f"BUG: use-after-free in {target.label}",
            f"freed by {target.freed}",
        )

    def raise_use_after_free(self, target: Shared) -> NoReturn:
        """Record an access of the running flow to freed memory and end that flow with an oops.

        The request of the step does not name this access, so it is recorded here.
        """
        target.touch(READ)
        raise Oops(
            "use-after-free",
            type(target).__name__,
            f"BUG: use-after-free in {target.label}",
            f"freed by {target.freed}",
        )

    def _report_deadlock(self, stuck: Iterable[Flow]) -> None:
        deadlock = Deadlock.among(stuck)
        flow = deadlock.flows[0]
        self.report("deadlock", deadlock.name, "INFO: tasks blocked for ever", *deadlock.lines, flow=flow)

    def _look_for_livelock(self) -> None:
        self._next_look += self.patience.every
        flow = self.current
        if flow is None or flow.finished:
            return
        if self.polls is None and is_outside(flow, self.function_ids):
            self.polls = Polls(self, self.steps)
            self.checks.append(self.polls.look)
        call = self.patience.lost_with(flow, self.steps, self.function_ids)
        if call is None:
            return
        stack = call_stack(flow)
        began_in = next(place for place, code in enumerate(stack) if code is call)
        inside = " < ".join(code.co_name for code in stack[: began_in + 1])
        self.report(
            "livelock",
            call.co_name,
            f"INFO: {call.co_name} does not come to an end",
            f"the last step was {flow.request.info.name} in {inside}",
            flow=flow,
            codes=stack[began_in:],
        )


def call_stack(flow: Flow, codes: list[types.CodeType] | None = None) -> list[types.CodeType]:
    """The functions that *flow* is in, innermost first, as the kernel would name them, and its outermost function.

    In actors/ only kernel functions count, no helpers; in a scenario or a patch all functions do. *codes* is the full
    stack of a running flow.
    """
    codes = codes or _waiting_codes(flow)
    known = flow.world.function_ids
    return [c for c in codes if id(c) in known or not c.co_filename.startswith(_ACTORS) or c is codes[-1]]


def running_stack(flow: Flow) -> list[types.CodeType]:
    """The kernel functions that *flow*, which runs now, is in.

    For callbacks that run inside the flow and want its call stack.
    """
    return call_stack(flow, _running_codes(flow, sys._getframe(1)))


def _running_codes(flow: Flow, frame: types.FrameType | None) -> list[types.CodeType]:
    """The code objects between *frame* and the point where the flow was resumed; empty if the flow does not run."""
    codes: list[types.CodeType] = []
    if not getattr(flow.coro, "cr_running", False):
        return codes
    while frame is not None and id(frame.f_code) not in RESUMERS:
        codes.append(frame.f_code)
        frame = frame.f_back
    return codes


def _waiting_codes(flow: Flow) -> list[types.CodeType]:
    """The functions that a waiting flow is in, innermost first."""
    codes: list[types.CodeType] = []
    coro: object = flow.coro
    while coro is not None:
        code: types.CodeType | None = getattr(coro, "cr_code", None)
        if code is not None:
            codes.append(code)
        coro = getattr(coro, "cr_await", None)
    return codes[::-1]


def _give(lane: Lane, places: list[Lane], free: list[int]) -> int:
    """Put *lane* at the first free one of *places*; return its index."""
    if not free:
        places.append(lane)
        return len(places) - 1
    place = heapq.heappop(free)
    places[place] = lane
    return place
