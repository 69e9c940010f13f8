"""What a search sees of a run: what each step touched, and what follows from that.

Two steps depend on each other if they are of one lane, or touch the same thing in ways that do not commute (SEARCH
4.0). The messages say what is touched: the object that a request names, and how its operation is declared. Beside that:

- a flow that has IRQs or preemption off, and a handler, may touch anything of its CPU's own data, which belongs to
  nobody else; so does the access that a `this_cpu` step names;
- what the code between two steps does to others (wake them, raise a softirq, post mail) is told to `World.on_touch`;
- a grace period begins by looking at who is in a read-side section; entering or leaving one depends on that.

That a CPU, or a lock, is busy is no dependence of its own: what is done under it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs

from actors.system.actor import Actor
from explorer.strategies.sampling import SEED_MASK, SPREAD, Profile
from explorer.strategies.surw import is_of_interest
from protocol.operations import READ

if TYPE_CHECKING:
    import types

    from actors.system.actor import Shared
    from actors.system.flow import Flow
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, Observer, World
    from protocol.findings import Finding
    from protocol.operations import OperationInfo

READS, UPDATES, TOUCHES = range(3)
"""How a step accesses something. Two that access it in the same way commute, unless they update it."""

CONTEXTS = "contexts"
"""The thing that is updated by who looks at the contexts of all flows, and touched by who changes its own."""

Accesses = dict[Hashable, int]
Site = tuple["types.CodeType", "OperationInfo"]
Pair = tuple[tuple[str, str], tuple[str, str]]


def accesses_of(lane: Lane) -> Accesses:
    """What the pending step of *lane* is known to access before it happens, and how."""
    request = lane.request
    if request is None:
        mail = lane.mailbox[0]  # type: ignore[attr-defined]  # a lane without a request is an actor with mail
        return {lane: UPDATES, mail.target: UPDATES}
    target, info, cpu = request.target, request.info, request.flow.cpu
    accesses: Accesses = {lane: UPDATES}
    if target is not None:
        mode = READS if info.access is READ else UPDATES
        if request.actor is not None:
            accesses[target] = mode
        else:
            accesses |= {target: READS, (target, cpu): mode, cpu: TOUCHES}
    if info.looks_at_contexts:
        accesses[CONTEXTS] = UPDATES
    if cpu is not None and request.flow.owns_cpu:
        accesses[cpu] = UPDATES
    return accesses


def add_access(accesses: Accesses, thing: Hashable, mode: int) -> None:
    """Add one more access; two different ones to the same thing are taken for an update."""
    accesses[thing] = mode if accesses.get(thing, mode) == mode else UPDATES


@attrs.define(eq=False)
class Chain:
    """The order in which steps accessed one thing, as a hash; kept on the thing, so that it goes when the thing goes.

    `group` is the sum of the steps since the last that did not commute with its neighbours, `mode` how they accessed
    it. `last` is who accessed it last, how, and where.
    """

    closed: int = 0
    group: int = 0
    mode: int = -1
    value: int = 0
    last: tuple[Lane, int, Site] | None = None
    by_cpu: dict[Hashable, Chain] = attrs.field(factory=dict)

    def add(self, step: int, mode: int) -> int:
        """Add a step; return by how much the hash has changed."""
        if mode != self.mode or mode == UPDATES:
            self.closed = self.value
            self.group = 0
            self.mode = mode
        self.group += (step ^ mode) * SPREAD
        before, self.value = self.value, mix(self.closed, self.group)
        return self.value - before


def mix(one: int, other: int) -> int:
    """A 64-bit hash of two numbers, in their order (the finalizer of splitmix64)."""
    x = (one * SPREAD + other + 1) & SEED_MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & SEED_MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & SEED_MASK
    return x ^ x >> 31


class Watch:
    """An observer of the race: its trace class, the lengths of its lanes, what it covered.

    Steps of calm phases are not watched: nothing races there. `names` are the numbers of lane names, shared by the runs
    of one search because they cost a hash each. `accesses` is what the step that runs has accessed so far.
    """

    def __init__(self, world: World, names: dict[str, int], *, word: str = "") -> None:
        self.steps: Counter[str] = Counter()
        self.marked: Counter[str] = Counter()
        self.choices = 0
        self.switches = 0
        self.accesses: Accesses = {}
        self._names = names
        self._word = word
        self._functions: set[types.CodeType] = set()
        self._pairs: set[tuple[Site, Site]] = set()
        self._contexts = Chain()
        self._total = 0
        self._lane: Lane | None = None
        self._last_lane: Lane | None = None
        self._code = 0
        self._was_atomic = False
        self._watches = False
        world.on_touch = self.touch

    # -- the observer -------------------------------------------------------------------------------------------------

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """*lane* steps now."""
        if not self._watches:
            return
        self.end_step()
        name = lane.name
        done = self.steps[name] = self.steps[name] + 1
        self.choices += len(enabled.lanes) > 1
        self.switches += lane is not self._last_lane
        if is_of_interest(lane, self._word):
            self.marked[name] += 1
        self._lane = self._last_lane = lane
        self._code = (self._number(name) + done * SPREAD) & SEED_MASK
        self.accesses = accesses_of(lane)
        request = lane.request
        if request is not None:
            self._was_atomic = request.flow.is_atomic
            self._functions.add(request.code)
            if request.target is not None:
                self._note_pair(lane, request.target, (request.code, request.info))

    def value(self, count: int, value: int) -> None:
        """The environment chose within the step."""
        if self._watches:
            self._total += mix(self._code, value * count)

    def moved(self, flow: object) -> None:
        """Where a flow runs follows from what it does."""

    def phase(self, name: str) -> None:
        """Watch the race only."""
        self.end_step()
        self._watches = name == "race"

    def finding(self, finding: Finding) -> None:
        """The world keeps them."""

    def touch(self, thing: Hashable) -> None:
        """The step that runs does something to *thing* that it has not asked for; mail keeps its order."""
        if self._lane is not None and thing is not self._lane:
            add_access(self.accesses, thing, UPDATES if isinstance(thing, Actor) else TOUCHES)

    def end_step(self) -> Accesses:
        """The step, if one runs, is over: see what its slice did to its context; return what the last step accessed."""
        lane, self._lane = self._lane, None
        if lane is None:
            return self.accesses
        if lane.request is not None:
            flow = lane.request.flow
            if flow.is_atomic != self._was_atomic:
                add_access(self.accesses, CONTEXTS, TOUCHES)
            if flow.owns_cpu and flow.cpu is not None:
                self.accesses[flow.cpu] = UPDATES
        code, total = self._code, self._total
        for thing, mode in self.accesses.items():
            total += self._chain_of(thing).add(code, mode)
        self._total = total & SEED_MASK
        return self.accesses

    # -- what comes out -----------------------------------------------------------------------------------------------

    def trace_class(self) -> str:
        """The same for schedules that differ only in the order of independent steps: 16 hexadecimal digits.

        It is a hash over who accessed what in which order, thing by thing; the things need no names for that.
        """
        self.end_step()
        self._watches = False
        return f"{self._total:016x}"

    def profile(self) -> Profile:
        """What strategies learn from."""
        return Profile(dict(self.steps), dict(self.marked), self.choices)

    def covered_functions(self) -> set[str]:
        """The kernel functions that took a step in the race."""
        return {code.co_name for code in self._functions}

    def racing_pairs(self) -> set[Pair]:
        """Which (function, operation) came right before which on the same thing, of different lanes."""
        return {
            ((first.co_name, first_op.name), (second.co_name, second_op.name))
            for (first, first_op), (second, second_op) in self._pairs
        }

    # -- one step -----------------------------------------------------------------------------------------------------

    def _chain_of(self, thing: Hashable) -> Chain:
        if thing is CONTEXTS:
            return self._contexts
        if isinstance(thing, tuple):
            of, cpu = thing
            return self._chain_of(of).by_cpu.setdefault(cpu, Chain())
        chain: Chain | None = thing.trace  # type: ignore[attr-defined]  # everything else is a Shared or a Lane
        if chain is None:
            chain = thing.trace = Chain()  # type: ignore[attr-defined]  # as above
        return chain

    def _note_pair(self, lane: Lane, target: Shared, site: Site) -> None:
        mode = READS if site[1].access is READ else UPDATES
        chain = self._chain_of(target)
        last, chain.last = chain.last, (lane, mode, site)
        if last is not None and last[0] is not lane and (mode == UPDATES or last[1] == UPDATES):
            self._pairs.add((last[2], site))

    def _number(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
            number = self._names[name] = int.from_bytes(digest)
        return number


@attrs.frozen
class Both:
    """Two observers: the second sees everything after the first."""

    first: Observer
    second: Observer

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        """A step."""
        self.first.step(world, enabled, index, lane)
        self.second.step(world, enabled, index, lane)

    def value(self, count: int, value: int) -> None:
        """A choice of the environment."""
        self.first.value(count, value)
        self.second.value(count, value)

    def moved(self, flow: Flow) -> None:
        """A migration."""
        self.first.moved(flow)
        self.second.moved(flow)

    def phase(self, name: str) -> None:
        """A phase of the scenario."""
        self.first.phase(name)
        self.second.phase(name)

    def finding(self, finding: Finding) -> None:
        """A finding."""
        self.first.finding(finding)
        self.second.finding(finding)
