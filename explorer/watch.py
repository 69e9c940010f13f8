"""The watch: an observer that computes the trace class of a run, the lengths of its lanes, and its coverage.

The trace class is a hash over the order of accesses, thing by thing. The dependence relation is in `explorer.accesses`.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs

from actors.system.flow import Flow
from actors.system.observer import Observer
from explorer.accesses import CONTEXTS, Accesses, accesses_of, add_access, has_become_reader, part_of
from explorer.profile import SEED_MASK, SPREAD, RunProfile, is_of_interest
from protocol.operations import COMMUTE, READ, UPDATE, Access

if TYPE_CHECKING:
    import types

    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from protocol.messages import Request
    from protocol.operations import OperationInfo


Site = tuple[int, int]
"""The place of a request: the ids of the kernel function's code and of the operation's declaration.

Ids are used because hashing a code object hashes all of its content each time.
"""

RacingPair = tuple[tuple[str, str], tuple[str, str]]


@attrs.define(eq=False)
class AccessHash:
    """A hash over the order of the accesses to one thing; stored on the thing, so both have the same lifetime.

    `group` is the sum of the successive steps that commute with each other, since the last that did not. `mode` is
    their access, and `step` the last of them. `last` is the lane, the access and the site of the last request.
    """

    closed: int = 0
    group: int = 0
    mode: Access | None = None
    step: int = -1
    value: int = 0
    last: tuple[Lane, Access, Site] | None = None
    parts: dict[int | str, AccessHash] = attrs.field(factory=dict)

    def part(self, name: int | str) -> AccessHash:
        """The chain of one part of the thing."""
        chain = self.parts.get(name)
        if chain is None:
            chain = self.parts[name] = AccessHash()
        return chain

    def add(self, step: int, mode: Access) -> int:
        """Add a step; return the change of the hash."""
        if step == self.step and (self.mode is mode or self.mode is UPDATE):
            return 0
        if mode is not self.mode or mode is UPDATE:
            self.closed = self.value
            self.group = 0
            self.mode = mode
        self.step = step
        self.group += step
        before, self.value = self.value, mix(self.closed + mode, self.group)
        return self.value - before


def mix(one: int, other: int) -> int:
    """A 64-bit hash of two numbers; their order matters."""
    x = ((one * SPREAD + other + 1) & SEED_MASK) * 0xBF58476D1CE4E5B9 & SEED_MASK
    return x ^ x >> 31


@functools.lru_cache(maxsize=1 << 16)
def number_of(name: str) -> int:
    """A 64-bit number for a name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


@attrs.define(eq=False)
class LaneCounts:
    """Counts of one lane: its steps, and the steps of interest; `number` is a hash of its name."""

    number: int
    steps: int = 0
    marked: int = 0


class Watch(Observer):
    """An observer of the race: trace class, lengths of lanes, coverage.

    It ignores the sequential set-up, where nothing races. `accesses` holds the accesses of the last step, if
    *wants_accesses*.
    """

    def __init__(self, world: World, *, word: str = "", wants_accesses: bool = False) -> None:
        self.choices = 0
        self.switches = 0
        self.log10_alternatives = 0.0
        self.accesses: Accesses = {}
        self._wants_accesses = wants_accesses
        self._word = word
        self._lanes: dict[str, LaneCounts] = {}
        self._sites: dict[Site, tuple[types.CodeType, OperationInfo]] = {}
        self._pairs: set[tuple[Site, Site]] = set()
        self._contexts = AccessHash()
        self._total = 0
        self._lane: Lane | None = None
        self._last_lane: Lane | None = None
        self._code = 0
        self._sections = 0
        self._was_reader = False
        self._watches = False
        world.on_touch = self.touch
        if wants_accesses:
            world.lost_mail = []  # deliveries that a retired actor has missed

    # -- the observer -------------------------------------------------------------------------------------------------

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Begin the step of *lane*."""
        if not self._watches:
            return
        if self._lane is not None:
            self.end_step()
        record = self._lanes.get(lane.name) or self._meet(lane.name)
        record.steps += 1
        self._code = (record.number + record.steps * SPREAD) & SEED_MASK
        if len(enabled.lanes) > 1:
            self.choices += 1
            self.log10_alternatives += math.log10(len(enabled.lanes))
        if lane is not self._last_lane:
            self.switches += 1
            self._last_lane = lane
        self._lane = lane
        if self._wants_accesses:
            self.accesses = accesses_of(lane)
        request = lane.request
        if request is None:
            for thing, mode in accesses_of(lane).items():
                self._access(thing, mode)
            return
        self._sections, self._was_reader = request.flow.sections, bool(request.flow.held)
        if is_of_interest(lane, self._word):
            record.marked += 1
        self._handle(lane, request)

    def value(self, count: int, value: int) -> None:
        """Add a choice that the environment made within the step."""
        if self._watches:
            self._total += mix(self._code, value * count)
            self.log10_alternatives += math.log10(count)

    def phase(self, name: str) -> None:
        """Watch the race only."""
        self.end_step()
        self._watches = name == "race"

    def touch(self, thing: Hashable, access: Access) -> None:
        """Add an access of the current step to *thing* that its request does not name."""
        if self._lane is None or thing is self._lane:
            return
        if self._wants_accesses:
            add_access(self.accesses, thing, access)
        if not isinstance(thing, Flow):
            self._access(thing, access)
        elif (record := self._lanes.get(thing.name)) is not None:
            self._total += mix(self._code, record.number + record.steps)

    def end_step(self) -> None:
        """End the current step, if there is one: add the changes that it made to its context."""
        lane, self._lane = self._lane, None
        if lane is None or lane.request is None:
            return
        flow = lane.request.flow
        if flow.sections != self._sections or has_become_reader(flow, was_reader=self._was_reader):
            self._total += self._contexts.add(self._code, COMMUTE)
            if self._wants_accesses:
                add_access(self.accesses, CONTEXTS, COMMUTE)
        for thing in flow.in_use:
            self._access(thing, UPDATE)
            if self._wants_accesses:
                self.accesses[thing] = UPDATE

    # -- results ------------------------------------------------------------------------------------------------------

    def trace_class(self) -> str:
        """The hash of the run's Mazurkiewicz trace class: 16 hexadecimal digits.

        Schedules that differ only in the order of independent steps have the same one. The hash covers, for each thing,
        which lane accessed it in which order; the things need no names for that.
        """
        self.end_step()
        self._watches = False
        return f"{self._total & SEED_MASK:016x}"

    def profile(self) -> RunProfile:
        """The profile of the run, for strategies that use run statistics."""
        return RunProfile(
            {name: record.steps for name, record in self._lanes.items()},
            {name: record.marked for name, record in self._lanes.items() if record.marked},
            self.choices,
        )

    def covered_functions(self) -> set[str]:
        """The kernel functions that made a step in the race."""
        return {code.co_name for code, _ in self._sites.values()}

    def racing_pairs(self) -> set[RacingPair]:
        """Pairs of (function, operation) of different lanes, one directly before the other on the same thing."""
        names = {site: (code.co_name, info.name) for site, (code, info) in self._sites.items()}
        return {(names[first], names[second]) for first, second in self._pairs}

    # -- one step -----------------------------------------------------------------------------------------------------

    def _handle(self, lane: Lane, request: Request) -> None:
        """Add the accesses of a request: the same as `accesses_of`, without building the dictionary."""
        target, info, code, flow = request.target, request.info, request.code, request.flow
        site = id(code), id(info)
        self._sites[site] = code, info
        for thing in flow.in_use:
            self._access(thing, UPDATE)
        if target is not None:
            mode, part = info.access, part_of(request)
            chain: AccessHash | None = target.trace
            if chain is None:
                chain = target.trace = AccessHash()
            if part is not None:
                self._total += chain.add(self._code, READ)
                chain = chain.part(part)
            last, chain.last = chain.last, (lane, mode, site)
            if last is not None and last[0] is not lane and (mode is UPDATE or last[1] is not mode):
                self._pairs.add((last[2], site))
            self._total += chain.add(self._code, mode)
        if info.looks_at_contexts:
            self._total += self._contexts.add(self._code, UPDATE)

    def _access(self, thing: Hashable, mode: Access) -> None:
        if isinstance(thing, tuple):
            of, part = thing
            if of.trace is None:
                of.trace = AccessHash()
            self._total += of.trace.part(part).add(self._code, mode)
            return
        chain: AccessHash | None = thing.trace  # type: ignore[attr-defined]  # it is a Shared or a Lane
        if chain is None:
            chain = thing.trace = AccessHash()  # type: ignore[attr-defined]  # as above
        self._total += chain.add(self._code, mode)

    def _meet(self, name: str) -> LaneCounts:
        record = self._lanes[name] = LaneCounts(number_of(name))
        return record
