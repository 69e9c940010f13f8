"""DPOR: one schedule of each trace class; when the search ends, the answer is a proof (SEARCH.md 4.6).

Abdulla, Aronis, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction", POPL 2014, with source sets and sleep sets
(their algorithm 1). A schedule is run to its end. Then, for each pair of its steps that race, the reverse order is
scheduled to be tried at the state before the first of the two. Guarantee: each class of schedules that differ only in
the order of independent steps is explored; if the search ends, there is no other class. No class is run twice to its
end, unless flows keep each other off a CPU. `explorer.watch` defines independence. Time passes only when nothing else
can happen, so timers do not race with steps; choices of values and faults are enumerated.

Departures from the paper: races are computed after a run, and the order of events is updated from run to run only where
it has changed. Steps may have to wait, for a lock or for their CPU. Where a reversal would begin with a step that is
not enabled, it is scheduled at the last earlier state at which the step was enabled. Where only the first of the two
steps makes the second possible, there is no reversal. To keep other flows off a CPU is no dependence, but the steps of
the flow that does it form a block, and steps of the others cannot come between them. So a reversal begins before each
block, on any CPU, that keeps off a step that it needs and that does not end without the step to be reversed. A reversal
does not begin with such a block. A step that begins a block does not sleep while other flows act there (`Sleeper`). A
flow that spins holds its CPU until others have done something: it depends on all steps of the flows that it keeps off
(`turns_of`). If a run ends with a fatal finding, it is tried once more with the step that led to the finding moved to
the end, so that the other lanes' further steps are seen, too. If a run ends because a CPU is kept for ever, it is tried
once more with the block that keeps it moved to the end. Source sets may explore the beginning of a class that a sleep
set then cuts off: `cut_off` counts these runs. tests/litmus compares all of this with an independent enumerator.
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import attrs

from actors.system.flow import SPIN, Flow
from actors.system.lane import Lane
from explorer import signals
from explorer.accesses import (
    Accesses,
    accesses_of,
    accesses_of_mail,
    add_access,
    clash,
    cpu_of,
    keeps_off,
    name_of,
    rank_of,
)
from explorer.causality import Event, Order
from explorer.search.strategies.prefix import Following, State
from explorer.search.strategies.races import Races
from protocol.operations import COMMUTE, UPDATE

if TYPE_CHECKING:
    from actors.system.world import World
    from explorer.search.jobs import JobReport
    from explorer.watch import Watch
    from protocol.schedule import Choice

ASLEEP = "asleep"
"""The world's stop reason when all enabled lanes are asleep, so that no continuation has to be tried."""


@attrs.define(eq=False)
class Tried(Event):
    """A step of the current run.

    `values` are the environment's choices within the step, out of `counts`. `named` are its accesses, by names that are
    the same in every run. `is_seen`: the step has an effect outside its own flow. `spins`: the step only enters a
    section, to wait there. `place` is the lane's place among the enabled ones. `is_meeting`: the step accesses a thing
    that no step before it has accessed.
    """

    values: list[int] = attrs.field(factory=list)
    counts: list[int] = attrs.field(factory=list)
    named: Accesses = attrs.field(factory=dict)
    is_seen: bool = False
    spins: bool = False
    place: int = 0
    is_meeting: bool = False


@attrs.frozen
class Sleeper:
    """A step that need not be tried: its accesses, and the CPU and rank that its flow keeps off afterwards.

    Flows that are kept off could not come directly after the step, but only after its whole block. If such a flow steps
    first, and other flows see the effect, they may come into the block; so the step then has to be tried again.
    """

    accesses: Accesses
    cpu: int | None
    keeps_off: int

    @classmethod
    def of(cls, event: Tried) -> Sleeper:
        """A sleeper for a step that has been tried."""
        return cls(event.named, event.cpu, event.keeps_off)

    def is_woken_by(self, event: Tried) -> bool:
        """Whether *event*, if it happens first, may lead to a state that has not been explored."""
        is_kept_off = event.cpu == self.cpu and 0 < event.rank <= self.keeps_off
        return clash(self.accesses, event.named) or (is_kept_off and event.is_seen)


@attrs.define(eq=False)
class Node:
    """A state on the path of the search, and the step that is tried there now.

    `to_try` are the lanes that have to be tried here, each with the values that remain to be tried. `sleeping` are the
    lanes that need not be tried: all continuations with them were explored. `waiting` are the lanes whose step is not
    possible here, even with a CPU. `state` is compared with the state of every run that comes here.
    """

    enabled: tuple[str, ...]
    sleeping: dict[str, Sleeper]
    event: Tried
    to_try: dict[str, list[list[int]]] = attrs.field(factory=dict)
    waiting: frozenset[str] = frozenset()
    state: State | None = None

    def next_branch(self) -> Tried | None:
        """The step to be tried next; None if everything was tried at this state."""
        lane = self.event.lane
        if not self.to_try[lane]:
            self.sleeping[lane] = Sleeper.of(self.event)
        for name, branches in self.to_try.items():
            if branches and name not in self.sleeping:
                return Tried(name, values=branches.pop())
        return None

    def go_on(self) -> bool:
        """Go to the step to be tried next; False if everything was tried at this state."""
        event = self.next_branch()
        if event is not None:
            self.event = event
        return event is not None

    def copy(self) -> Node:
        """A copy that can go on to other steps."""
        to_try = {lane: [values.copy() for values in branches] for lane, branches in self.to_try.items()}
        return Node(self.enabled, self.sleeping.copy(), self.event, to_try, self.waiting, self.state)

    @property
    def has_branch(self) -> bool:
        """Whether another step has to be tried here."""
        return any(branches and name not in self.sleeping for name, branches in self.to_try.items())

    def want(self, lanes: AbstractSet[str], lane: str) -> None:
        """Schedule *lane* to be tried here, unless one of *lanes* is tried here, was tried, or need not be."""
        if not self.covers(lanes):
            self.to_try[lane] = [[]]

    def covers(self, lanes: AbstractSet[str]) -> bool:
        """Whether one of *lanes* is tried here, was tried, or need not be."""
        return not (lanes.isdisjoint(self.to_try) and lanes.isdisjoint(self.sleeping))


@attrs.frozen
class Want:
    """A lane to be tried at a state of the path, unless one of *lanes* is covered there."""

    at: int
    lanes: frozenset[str]
    lane: str


class Dpor:
    """The search (`explorer.search.protocol`): a schedule follows the path to a state, and takes another step there.

    It can be a part of a search: the subtree below the first *floor* states of the path. The last state of the path
    then has the step to begin with. Of the other steps at the first *floor* states, the search of the subtree reads
    nothing; it stores in `wants` the ones that it would schedule there. So a subtree is the same whenever it is
    explored, and whatever is explored before it.
    """

    def __init__(self, path: list[Node] | None = None, floor: int = 0, *, has_next: bool = True) -> None:
        """With *has_next*, the step at the last state of *path* is to be run first; an empty path begins a search."""
        self.completed = 0
        self.cut_off = 0
        self.path: list[Node] = [] if path is None else path
        self.floor = floor
        self.wants: list[Want] = []
        self._order = Order()
        self._is_due = has_next
        self._under_way: int | None = None

    def next_schedule(self, room: int = 1) -> Branch | None:  # noqa: ARG002 -- it hands out one at a time
        """The next schedule; None if everything has been explored."""
        with signals.held_back():  # `state` must not see a step that is taken and not under way
            if self._is_due or self.go_on():
                self._is_due = False
                self._under_way = len(self.path)
                return Branch(self.path)
        return None

    @property
    def state(self) -> tuple[list[Node], bool, list[JobReport]]:
        """The path, whether the step at its last state was not run yet, and nothing: the schedules that wait.

        A schedule under way has extended the path; that does not count before it is learnt.
        """
        if self._under_way is None:
            return self.path, self._is_due, []
        path = self.path[: self._under_way]
        if path:
            event = path[-1].event
            path[-1] = attrs.evolve(path[-1], event=Tried(event.lane, values=event.values))
        return path, True, []

    def go_on(self) -> bool:
        """Go to the next step to be tried; False if there is none."""
        while len(self.path) > self.floor:
            if self.path[-1].go_on():
                return True
            self.path.pop()
        return False

    def learn(self, branch: Branch, report: JobReport) -> None:  # noqa: ARG002 -- the branch knows more of its run
        """Compute the races of a finished run, and schedule their reversals."""
        world = branch.world
        assert world is not None, "only a finished run is learnt"
        assert branch.divergence is None, "a search that diverged proves nothing"
        self.wants = []
        self._under_way = None
        asleep: tuple[str, ...] = ()
        if world.stopped == ASLEEP:
            self.cut_off += 1
            asleep = self.path.pop().enabled  # continuations with these lanes were tried, with the last step, too
        else:
            self.completed += 1
        if world.stopped == "finding" and self.path:
            self._put_off_last()
        for node in self.path[branch.common :]:
            add_values(node)
        races = Races(self.path, self._order, self._want)
        races.put_down(branch.common)
        self._put_off_keepers(world, asleep)
        for flow in world.flows:
            is_at_rest = flow.request.info.idle and not flow.ready
            if is_at_rest:
                self._want_what_was_disabled(flow.name)
            elif flow.name not in asleep:
                event = Tried(flow.name, may_wait=True, cpu=cpu_of(flow), rank=rank_of(flow))
                event.accesses = branch.number({**accesses_of(flow), flow: UPDATE, **turns_of(event)})
                races.put_down_pending(event)
        for actor, mail in world.lost_mail or ():
            races.put_down_pending(Event(actor.name, branch.number(accesses_of_mail(actor, mail))))

    @property
    def done(self) -> bool:
        """Whether no step is left to be tried at any state of the path."""
        return not self._is_due and not any(node.has_branch for node in self.path[self.floor :])

    def _want(self, at: int, lanes: AbstractSet[str], lane: str) -> None:
        """Schedule *lane* at a state of the path, unless one of *lanes* is covered there."""
        if at >= self.floor:
            self.path[at].want(lanes, lane)
        elif not self.path[at].covers(lanes):
            self.wants.append(Want(at, frozenset(lanes), lane))

    def _put_off_last(self) -> None:
        """Schedule another lane instead of the step that ended the run."""
        node = self.path[-1]
        others = {lane for lane in node.enabled if lane != node.event.lane}
        if others:
            self._want(len(self.path) - 1, others, min(others, key=node.enabled.index))

    def _want_what_was_disabled(self, lane: str) -> None:
        """Schedule the step of a lane at the last state where it was enabled, if another step disabled it for good."""
        for at in range(len(self.path) - 1, self._order.latest(lane), -1):
            if lane in self.path[at].enabled:
                self._want(at, {lane}, lane)
                return

    def _put_off_keepers(self, world: World, enabled: tuple[str, ...]) -> None:
        """Schedule lanes before a block that keeps them off for ever, or until a sleeping lane has stepped.

        *enabled* are the lanes that could have stepped at the end.
        """
        for flow in world.flows:
            if keeps_off(flow) and not (flow.ready or flow.request.info.idle):
                for begin in self._order.begins_of_block(flow.name):
                    node = self.path[begin]
                    then = self.path[begin + 1].enabled if begin + 1 < len(self.path) else enabled
                    for lane in node.enabled:
                        if lane not in then:
                            self._want(begin, {lane}, lane)


def add_values(node: Node) -> None:
    """Schedule the other values that the environment could have chosen within the step."""
    event = node.event
    for position, count in enumerate(event.counts):
        if position >= len(event.values):
            event.values.append(0)
            node.to_try[event.lane] += [[*event.values[:-1], value] for value in range(1, count)]


class Branch(Following):
    """One schedule: along the path to its last node, and then by the first lane that is not asleep.

    The lane that stepped last continues if it can, so that a class is represented by a schedule with few switches.
    """

    name = strategy = "dpor"
    controls_clock = True
    is_replay = False

    def __init__(self, path: list[Node]) -> None:
        super().__init__()
        self.common = max(len(path) - 1, 0)
        self.path = path
        self._given = len(path)
        self._next = 0
        self._is_quiet = False
        self.world: World | None = None
        self._watch: Watch | None = None
        self._lane: Lane | None = None
        self._values = 0
        self._enabled: dict[int, tuple[str, ...]] = {}
        self._kept: list[tuple[Lane, ...]] = []
        self._names: dict[Hashable, str] = {}
        self.numbers: dict[Hashable, int] = {}

    def watched_by(self, watch: Watch) -> None:
        """Take the accesses of each step from *watch*; called before the run."""
        self._watch = watch

    # -- the strategy -------------------------------------------------------------------------------------------------

    @property
    def is_known(self) -> bool:
        """Whether the step that runs was part of the previous run, so that nothing about it is new."""
        return 0 < self._next <= self.common

    def advance(self, world: World) -> None:
        """Leave the time as it is, and note whether it is about to pass by itself."""
        self._world = world
        self._is_quiet = not world.mask

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Follow the path, or extend it."""
        step, path, last = self._next, self.path, self._lane
        if last is not None and (step > self.common or path[step - 1].event.is_meeting):
            self.end_event()
        enabled = self._enabled.get(id(lanes)) or self._names_of(lanes)
        if step < self._given:
            node = path[step]
            if node.state is None or not node.state.is_now(enabled, last):
                self.part(node.state, State.of(enabled, last))
                return 0
        else:
            node = self._extend(enabled, lanes)
            node.state = State.of(enabled, last)
        self._next = step + 1
        self._values = 0
        event = node.event
        if step >= self.common:
            self._begin_event(event, lanes, enabled.index(event.lane))
        self._lane = lanes[event.place]
        return event.place

    def _names_of(self, lanes: tuple[Lane, ...]) -> tuple[str, ...]:
        """The names of *lanes*, which is one object at all choices between equal lanes."""
        self._kept.append(lanes)  # so that no other lanes ever have its id
        names = self._enabled[id(lanes)] = tuple(lane.name for lane in lanes)
        return names

    def _begin_event(self, event: Tried, lanes: tuple[Lane, ...], place: int) -> None:
        """Store the properties of a new step that are known before it."""
        lane = lanes[place]
        event.place = place
        event.may_wait = lane.request is not None and lane.request.info.when is not None
        event.spins = lane.request is not None and lane.request.info is SPIN
        event.after_quiet = self._is_quiet
        event.cpu, event.rank = cpu_of(lane), rank_of(lane)

    def choose_value(self, count: int) -> int:
        """The value on the path, or the first possibility."""
        event = self.path[self._next - 1].event
        position = self._values
        self._values += 1
        if not self.is_known:
            event.counts.append(count)
        elif (then := event.counts[position] if position < len(event.counts) else 0) != count:
            self.part(f"one of {then} values" if then else "no value", f"one of {count} values")
            return 0
        return event.values[position] if position < len(event.values) else 0

    @property
    def choices(self) -> list[Choice]:
        """The lanes of the path, each with the values of its step."""
        choices: list[Choice] = []
        for node in self.path:
            event = node.event
            choices.append(event.lane)
            choices += event.values[: len(event.counts)]
            choices += [0] * (len(event.counts) - len(event.values))
        return choices

    # -- the path -----------------------------------------------------------------------------------------------------

    def _extend(self, enabled: tuple[str, ...], lanes: tuple[Lane, ...]) -> Node:
        sleeping: dict[str, Sleeper] = {}
        last = ""
        if self.path:
            before = self.path[-1]
            last = before.event.lane
            event = before.event
            sleeping = {lane: step for lane, step in before.sleeping.items() if not step.is_woken_by(event)}
        awake = [lane for lane in enabled if lane not in sleeping]
        assert self._world is not None, "advance() comes before choose()"
        if not awake:
            self._world.stop(ASLEEP)
        first = [lane.name for lane in lanes if begins_grace_period(lane) and lane.name in awake]
        chosen = first[0] if first else last if last in awake else (awake or enabled)[0]
        waiting = frozenset(flow.name for flow in self._world.flows if not flow.ready)
        node = Node(enabled, sleeping, Tried(chosen), {chosen: []}, waiting)
        self.path.append(node)
        return node

    def end_event(self) -> None:
        """Store the accesses of the step that has ended; of a known step, only number the things that it met."""
        if not self._next or self._watch is None or self._lane is None:
            return
        event = self.path[self._next - 1].event
        self._watch.end_step()
        if self.is_known:
            numbers = self.numbers
            for thing in (*self._watch.accesses, self._lane, *turns_of(event)):
                numbers.setdefault(thing, len(numbers))
            return
        accesses = {**self._watch.accesses, self._lane: UPDATE}
        event.is_seen = len(accesses) > 1 or event.cpu != cpu_of(self._lane)
        event.keeps_off = keeps_off(self._lane) if isinstance(self._lane, Flow) else 0
        accesses.update(turns_of(event))
        met = len(self.numbers)
        event.accesses = self.number(accesses)
        event.is_meeting = len(self.numbers) > met
        event.named = self._name(accesses)

    def number(self, accesses: Accesses) -> Accesses:
        """The accesses by numbers, in the order of first access: equal in all runs with the same beginning."""
        numbers = self.numbers
        return {numbers.setdefault(thing, len(numbers)): mode for thing, mode in accesses.items()}

    def _name(self, accesses: Accesses) -> Accesses:
        """The accesses by names; things that share a name get the strongest of their accesses."""
        named: Accesses = {}
        for thing, mode in accesses.items():
            name = self._names.get(thing)
            if name is None:
                name = self._names[thing] = name_of(thing, in_full=True)
            add_access(named, name, mode)
        return named

    def end(self, world: World) -> None:
        """Check at the end of the run that the whole path was followed."""
        self.world = world
        self.end_event()
        if self._next < self._given:
            self.part(self.path[self._next].state, "the end of the run")


def turns_of(event: Tried) -> Accesses:
    """Accesses by which a spinner depends on the steps of the flows that it keeps off its CPU."""
    if event.spins:
        return {f"turns of rank {rank} on CPU {event.cpu}": UPDATE for rank in range(1, event.keeps_off + 1)}
    return {f"turns of rank {event.rank} on CPU {event.cpu}": COMMUTE} if event.cpu is not None else {}


def begins_grace_period(lane: Lane) -> bool:
    """Whether the pending step of *lane* reads the contexts of all flows."""
    return lane.request is not None and lane.request.info.looks_at_contexts
