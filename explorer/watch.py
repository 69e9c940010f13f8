"""What a search sees of a run: what each step touched, and what follows from that.

Two steps depend on each other if they are of one lane, or touch the same thing in ways that do not commute (SEARCH 4.0).
The messages say what is touched: the object that a request names, and how its operation is declared. Beside that:

- a flow that has IRQs or preemption off, and a handler, may touch anything of its CPU's own data, which belongs to
  nobody else; so does the access that a `this_cpu` step names;
- what the code between two steps does to others (wake them, raise a softirq, post mail) is told to `World.on_touch`;
- a grace period begins by looking at who is in a read-side section; entering or leaving one depends on that.

That a CPU, or a lock, is busy is no dependence of its own: what is done under it is.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs

from explorer.strategies.sampling import SEED_MASK, SPREAD, Profile
from explorer.strategies.surw import is_of_interest
from protocol.operations import READ

if TYPE_CHECKING:
    import types

    from actors.system.actor import Shared
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
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
    """The accesses to one thing, in their order: codes of the steps, and how each accessed it."""

    steps: list[int] = attrs.field(factory=list)
    modes: bytearray = attrs.field(factory=bytearray)

    def digest(self) -> int:
        """A number that is the same for orders that differ only by commuting neighbours."""
        digest = hashlib.blake2b(digest_size=8)
        group, group_mode = 0, -1
        for step, mode in zip(self.steps, self.modes, strict=True):
            if mode != group_mode or mode == UPDATES:
                digest.update(group.to_bytes(8))
                group, group_mode = 0, mode
            group = (group + (step ^ mode) * SPREAD) & SEED_MASK
        digest.update(group.to_bytes(8))
        return int.from_bytes(digest.digest())


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
        self._chains: dict[Hashable, Chain] = {}
        self._last: dict[Hashable, tuple[Lane, int, Site]] = {}
        self._values: list[int] = []
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
            self._values.append(self._code ^ (value * count + 1))

    def moved(self, flow: object) -> None:
        """Where a flow runs follows from what it does."""

    def phase(self, name: str) -> None:
        """Watch the race only."""
        self.end_step()
        self._watches = name == "race"

    def finding(self, finding: Finding) -> None:
        """The world keeps them."""

    def touch(self, thing: Hashable) -> None:
        """The step that runs does something to *thing* that it has not asked for."""
        if self._lane is not None and thing is not self._lane:
            add_access(self.accesses, thing, TOUCHES)

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
        for thing, mode in self.accesses.items():
            chain = self._chains.get(thing)
            if chain is None:
                chain = self._chains[thing] = Chain()
            chain.steps.append(self._code)
            chain.modes.append(mode)
        return self.accesses

    # -- what comes out -----------------------------------------------------------------------------------------------

    def trace_class(self) -> str:
        """The same for schedules that differ only in the order of independent steps: 16 hexadecimal digits.

        It is a hash over who accessed what in which order, thing by thing; the things need no names for that.
        """
        self.end_step()
        self._watches = False
        total = sum(chain.digest() for chain in self._chains.values() if len(chain.steps) > 1)
        digest = hashlib.blake2b(digest_size=8)
        digest.update((total & SEED_MASK).to_bytes(8))
        digest.update(array("Q", sorted(self._values)).tobytes())
        for name in sorted(self.steps):
            digest.update(f"{name}={self.steps[name]} ".encode())
        return digest.hexdigest()

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

    def _note_pair(self, lane: Lane, target: Shared, site: Site) -> None:
        mode = READS if site[1].access is READ else UPDATES
        last = self._last.get(target)
        if last is not None and last[0] is not lane and (mode == UPDATES or last[1] == UPDATES):
            self._pairs.add((last[2], site))
        self._last[target] = lane, mode, site

    def _number(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
            number = self._names[name] = int.from_bytes(digest)
        return number
