"""DPOR: one schedule of each trace class, and then the answer is a proof.

Abdulla, Aronis, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction", POPL 2014, with source sets and sleep sets
(their algorithm 1). A schedule is run to its end; then, for each pair of its steps that race, the reverse order is put
down to be tried at the state before the first of the two. Guarantee: each class of schedules that differ only in the
order of independent steps is explored, and none twice to its end; if the search ends, there is no other. Independence
is what `explorer.watch` says. Time passes only when nothing else can happen, so timers do not race with steps; choices
of values and faults are enumerated.

Departures: races are looked for once a run is over. Steps may wait (for a lock, for their CPU): where the reversal
would begin with a step that is not enabled, it is put down at the last state before in which it was. A run that ends
with a fatal finding is tried once more with the step that led to it put off to the end, so that what others would have
done is seen, too. Source sets may explore the beginning of a class that a sleep set then cuts off: `cut_off` counts
these.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs

from actors.system.actor import Shared
from actors.system.cpu import Cpu
from actors.system.lane import Lane
from explorer.watch import CONTEXTS, TOUCHES, UPDATES, accesses_of, add_access
from protocol.errors import InternalError

if TYPE_CHECKING:
    from actors.system.world import World
    from explorer.watch import Accesses, Watch

ASLEEP = "asleep"
"""Why a world stops whose enabled lanes need not be tried."""


@attrs.define(eq=False)
class Event:
    """One step of the run at hand: who steps, and what it accesses; `named` is that by names that hold in every run.

    `values` are what the environment chose within it, out of `counts`.

    `after_quiet`: nothing was enabled before it, and time had to pass. `may_wait`: it has to be possible first.
    """

    lane: str
    values: list[int] = attrs.field(factory=list)
    counts: list[int] = attrs.field(factory=list)
    accesses: Accesses = attrs.field(factory=dict)
    named: Accesses = attrs.field(factory=dict)
    after_quiet: bool = False
    may_wait: bool = False


@attrs.define(eq=False)
class Node:
    """A state on the path of the search, and the step that is tried there now.

    `to_try` are the lanes that have to be tried here, each with the values that its step has yet to be tried with;
    `sleeping` are those that need not be, because what begins with them has been explored.
    """

    enabled: tuple[str, ...]
    sleeping: dict[str, Accesses]
    event: Event
    to_try: dict[str, list[list[int]]] = attrs.field(factory=dict)

    def next_branch(self) -> Event | None:
        """The step to be tried next; None if this state is done with."""
        lane = self.event.lane
        if not self.to_try[lane]:
            self.sleeping[lane] = self.event.named
        for name, branches in self.to_try.items():
            if branches and name not in self.sleeping:
                return Event(name, branches.pop())
        return None

    def want(self, lane: str) -> None:
        """Put *lane* down to be tried."""
        self.to_try.setdefault(lane, [[]])

    def covers(self, lanes: set[str]) -> bool:
        """Whether the step of one of *lanes* is, was or need not be tried first here."""
        return not (lanes.isdisjoint(self.to_try) and lanes.isdisjoint(self.sleeping))


class Dpor:
    """The search: run what `next_schedule` gives to its end, `learn` from it, and ask for the next."""

    def __init__(self) -> None:
        self.completed = 0
        self.cut_off = 0
        self.path: list[Node] = []
        self._has_begun = False

    def next_schedule(self) -> Branch | None:
        """The next schedule; None when there is none left: everything has been explored."""
        if not self._has_begun:
            self._has_begun = True
            return Branch(self.path)
        while self.path:
            event = self.path[-1].next_branch()
            if event is not None:
                self.path[-1].event = event
                return Branch(self.path)
            self.path.pop()
        return None

    def watch(self, branch: Branch, watch: Watch) -> None:
        """Learn from *watch* what each step accesses."""
        branch.watched_by(watch)

    def learn(self, branch: Branch, world: World) -> None:
        """Look for the races of a schedule that has been run, and put down their reversals."""
        branch.end_event()
        if world.stopped == ASLEEP:
            self.cut_off += 1
        else:
            self.completed += 1
        if world.stopped == "finding" and self.path:
            put_off(self.path[-1])
        for node in self.path[branch.common :]:
            add_values(node)
        races = Races(self.path, branch.common)
        races.put_down()
        for flow in world.flows:
            if not flow.request.info.idle:
                races.put_down_pending(flow.name, {**accesses_of(flow), flow: UPDATES})


def put_off(node: Node) -> None:
    """Let the others go on without the step that ended the run."""
    others = {lane for lane in node.enabled if lane != node.event.lane}
    if others and not node.covers(others):
        node.want(min(others, key=node.enabled.index))


def add_values(node: Node) -> None:
    """Have the other values tried that the environment could have chosen within the step."""
    event = node.event
    for position, count in enumerate(event.counts):
        if position >= len(event.values):
            event.values.append(0)
            node.to_try[event.lane] += [[*event.values[:-1], value] for value in range(1, count)]


class Branch:
    """One schedule: along the path to its last node, and from there on by the first lane that need not be left out.

    The lane that stepped last goes on if it can: the schedule with the fewest switches stands for its class.
    """

    name = "dpor"
    keeps_time = True
    follows_a_log = False

    def __init__(self, path: list[Node]) -> None:
        self.common = max(len(path) - 1, 0)
        self._path = path
        self._given = len(path)
        self._next = 0
        self._is_quiet = False
        self._watch: Watch | None = None
        self._names: dict[Hashable, str] = {}

    def watched_by(self, watch: Watch) -> None:
        """Learn from *watch* what each step accesses; before the run."""
        self._watch = watch

    # -- the strategy -------------------------------------------------------------------------------------------------

    def advance(self, world: World) -> None:
        """Leave the time as it is, and see whether it is going to pass by itself."""
        self._world = world
        self._is_quiet = not world.mask

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Follow the path, or add to it."""
        self.end_event()
        enabled = tuple(lane.name for lane in lanes)
        if self._next < self._given:
            node = self._path[self._next]
            if node.enabled != enabled:
                self._complain(node, enabled)
        else:
            node = self._extend(enabled, lanes)
        index = enabled.index(node.event.lane)
        request = lanes[index].request
        node.event.may_wait = request is not None and request.info.when is not None
        node.event.after_quiet = self._is_quiet
        self._next += 1
        self._lane = lanes[index]
        return index

    def choose_value(self, count: int) -> int:
        """Choose as the path says, or the first possibility."""
        event = self._path[self._next - 1].event
        event.counts.append(count)
        position = len(event.counts) - 1
        return event.values[position] if position < len(event.values) else 0

    def choose_fault(self, _probability: float) -> bool:
        """A fault is a choice like any other."""
        return self.choose_value(2) == 1

    def draw_latency(self, _low: int, _high: int) -> int:
        """Nothing takes longer than it must."""
        return 0

    # -- the path -----------------------------------------------------------------------------------------------------

    def _extend(self, enabled: tuple[str, ...], lanes: tuple[Lane, ...]) -> Node:
        sleeping: dict[str, Accesses] = {}
        last = ""
        if self._path:
            before = self._path[-1]
            last = before.event.lane
            named = before.event.named
            sleeping = {lane: of for lane, of in before.sleeping.items() if not clash(of, named)}
        awake = [lane for lane in enabled if lane not in sleeping]
        if not awake:
            self._world.stop(ASLEEP)
        first = [lane.name for lane in lanes if begins_grace_period(lane) and lane.name in awake]
        chosen = first[0] if first else last if last in awake else (awake or enabled)[0]
        node = Node(enabled, sleeping, Event(chosen), {chosen: []})
        self._path.append(node)
        return node

    def end_event(self) -> None:
        """The step before is over: keep what it accessed."""
        if self._next and self._watch is not None:
            event = self._path[self._next - 1].event
            self._watch.end_step()
            event.accesses = {**self._watch.accesses, self._lane: UPDATES}
            event.named = self._name(event.accesses)

    def _name(self, accesses: Accesses) -> Accesses:
        """The same by names: the strongest access where things share one."""
        named: Accesses = {}
        for thing, mode in accesses.items():
            name = self._names.get(thing)
            if name is None:
                name = self._names[thing] = name_of(thing)
            add_access(named, name, mode)
        return named

    def _complain(self, node: Node, enabled: tuple[str, ...]) -> None:
        msg = (
            f"the same choices led to another state at choice {self._next}: enabled were {', '.join(node.enabled)}; "
            f"now {', '.join(enabled)}"
        )
        raise InternalError(msg)


def name_of(thing: Hashable) -> str:
    """What *thing* is called in every run; things that share a name are taken for one, which is safe."""
    if isinstance(thing, Cpu | Shared):
        return thing.label
    if isinstance(thing, Lane):
        return f"lane {thing.name}"
    if isinstance(thing, tuple):
        return " of ".join(map(name_of, thing))
    return str(thing)


def begins_grace_period(lane: Lane) -> bool:
    """Whether the pending step of *lane* looks at the contexts of all flows."""
    return lane.request is not None and lane.request.info.looks_at_contexts


def clash(one: Accesses, other: Accesses) -> bool:
    """Whether two steps that access these depend on each other."""
    if len(other) < len(one):
        one, other = other, one
    for name, mode in one.items():
        other_mode = other.get(name)
        if other_mode is not None and (mode != other_mode or mode == UPDATES):
            return True
    return False


@attrs.define(eq=False)
class Group:
    """Steps in a row that accessed one thing in a commuting way, and the group before them."""

    mode: int
    steps: list[int]
    before: Group | None


class Races:
    """The races of one run: pairs of steps that depend on each other, with nothing in between that orders them.

    Sets of steps are the bits of an integer; `past[j]` are those that happen before step j. `own[j]` is the step of the
    same lane before step j, or -1.
    """

    def __init__(self, path: list[Node], common: int) -> None:
        self._path = path
        self._common = common
        self._past: list[int] = []
        self._own: list[int] = []
        self._groups: dict[Hashable, Group] = {}

    def put_down(self) -> None:
        """Have every race tried the other way round, but those among the *common* steps: that was done before."""
        last_of_lane: dict[str, int] = {}
        before_barrier = 0
        for step, node in enumerate(self._path):
            event = node.event
            self._own.append(last_of_lane.get(event.lane, -1))
            last_of_lane[event.lane] = step
            if event.after_quiet:
                before_barrier = (1 << step) - 1
            groups = self._add(step, event.accesses)
            direct = {other for group in groups for other in group.steps}
            past = before_barrier
            for other in direct:
                past |= self._past[other] | 1 << other
            self._past.append(past)
            if step >= self._common:
                for group in groups:
                    self._reverse_group(group, step, direct)

    def put_down_pending(self, lane: str, accesses: Accesses) -> None:
        """The same for the step that *lane* still waits to do: what made it wait may come later instead."""
        step = len(self._path)
        self._own.append(max((s for s, node in enumerate(self._path) if node.event.lane == lane), default=-1))
        groups = [group for thing in accesses if (group := self._groups.get(thing)) is not None]
        direct = {other for group in groups for other in group.steps}
        past = 0
        for other in direct:
            past |= self._past[other] | 1 << other
        self._past.append(past)
        self._path.append(Node((), {}, Event(lane, may_wait=True)))
        for group in groups:
            self._reverse_group(group, step, direct)
        self._path.pop()
        self._past.pop()
        self._own.pop()

    def _add(self, step: int, accesses: Accesses) -> list[Group]:
        """Add a step; return the groups of steps that it directly depends on."""
        groups = []
        for thing, mode in accesses.items():
            last = self._groups.get(thing)
            if last is not None and last.mode == mode != UPDATES:
                last.steps.append(step)
                last = last.before
            else:
                self._groups[thing] = Group(mode, [step], last)
            if last is not None and not (thing is CONTEXTS and mode == TOUCHES):
                groups.append(last)
        return groups

    def _reverse_group(self, group: Group | None, second: int, direct: set[int]) -> None:
        """Reverse the races of step *second* with a group; with the one before it where that cannot be."""
        own = self._own[second]
        known = self._past[own] | 1 << own if own >= 0 else 0
        is_direct = True
        while group is not None:
            done = True
            for first in group.steps:
                if known >> first & 1:
                    continue
                if is_direct and any(self._past[other] >> first & 1 for other in direct):
                    continue
                done &= self._reverse(first, second)
            if done:
                return
            group, is_direct = group.before, False

    def _reverse(self, first: int, second: int) -> bool:
        """Put down that step *second* comes before step *first*; False if it may not have been enabled by then.

        A step that may have to wait, and whose lane came to it only after *first*, could turn out to have to wait
        there.
        """
        initials = self._initials(first, second)
        node = self._path[first]
        is_sure = self._own[second] < first or not self._path[second].event.may_wait
        if node.covers(set(initials)):
            return is_sure
        for lane in initials:
            if lane in node.enabled:
                node.want(lane)
                return is_sure
        for lane, step in initials.items():
            for earlier in range(first - 1, self._own[step], -1):
                node = self._path[earlier]
                if lane in node.enabled:
                    if not node.covers({lane}):
                        node.want(lane)
                    return True
        return False

    def _initials(self, first: int, second: int) -> dict[str, int]:
        """The lanes that the reversal may begin with, and their steps; that of *second* first, if it is one.

        The reversal is what happens between the two but not because of *first*, and then *second*.
        """
        path, past = self._path, self._past
        reversal = [step for step in range(first + 1, second) if not past[step] >> first & 1]
        mask = 1 << second
        for step in reversal:
            mask |= 1 << step
        initials = {} if past[second] & mask else {path[second].event.lane: second}
        for step in reversal:
            if not past[step] & mask:
                initials.setdefault(path[step].event.lane, step)
        return initials
