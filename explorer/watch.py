"""The watch: an observer that computes the trace class of a run, the lengths of its lanes, and its coverage.

The trace class is a hash over the order of accesses, thing by thing. The dependence relation is in `explorer.accesses`.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from typing import TYPE_CHECKING, Any

import attrs

from actors.system.flow import Flow, Level
from actors.system.observer import Observer
from explorer.accesses import CONTEXTS, Accesses, add_access, becomes_reader, has_become_reader, part_of
from explorer.profile import SEED_MASK, SPREAD, RunProfile, is_of_interest
from protocol.operations import COMMUTE, READ, UPDATE, Access

if TYPE_CHECKING:
    import types

    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from protocol.operations import OperationInfo
    from protocol.schedule import Choice


Site = tuple[int, int]
"""The place of a request: the ids of the kernel function's code and of the operation's declaration.

Ids are used because hashing a code object hashes all of its content each time.
"""

NO_SITE: Site = (0, 0)

RacingPair = tuple[tuple[str, str], tuple[str, str]]

BATCH = 4096
"""Most entries of a journal, and most chains that are held for the sum."""

LENGTH_OF_STEP, LENGTH_OF_ACCESS = 9, 2
"""The kinds of entries in a journal have different lengths."""

END = ()
"""The entry at the end of a step, where no other step follows at once."""


@attrs.define(eq=False)
class AccessHash:
    """A hash over the order of the accesses to one thing; stored on the thing, so both have the same lifetime.

    `group` is the sum of the successive steps that commute with each other, since the last that did not. `mode` is
    their access, and `step` the last of them. `closed` is the hash of the groups before. `lane`, `lane_mode` and
    `site` are those of the last request.

    The watch sums the values of all chains. While the sum has the value of this one, `mode` is None, as in a new chain,
    and `counted_mode` has the mode. A machine may have very many chains, so they are small.
    """

    closed: int = 0
    group: int = 0
    mode: Access | None = None
    step: int = -1
    lane: Lane | None = None
    lane_mode: Access = READ
    site: Site = NO_SITE
    parts: dict[int | str, AccessHash] | None = None
    counted_mode: Access | None = None

    @property
    def value(self) -> int:
        """The hash of all groups."""
        return 0 if self.mode is None else mix(self.closed + self.mode, self.group)

    def part(self, name: int | str) -> AccessHash:
        """The chain of one part of the thing."""
        if self.parts is None:
            self.parts = {}
        chain = self.parts.get(name)
        if chain is None:
            chain = self.parts[name] = AccessHash()
        return chain


log10 = functools.cache(math.log10)


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
    """Counts of one lane: its steps, and the steps of interest.

    `number` is a hash of its name, and `step` a hash of its last step.
    """

    number: int
    step: int
    steps: int = 0
    marked: int = 0


class Watch(Observer):
    """An observer of the race: trace class, lengths of lanes, coverage.

    It ignores the sequential set-up, where nothing races. During the run it only keeps a journal. `_read` reads it, up
    to `BATCH` entries at once: one loop over local variables costs less than several calls for each step.

    An entry is a step, an access (thing and mode), a value (number of alternatives, value, and None), or `END`. A step
    has its lane, the number of enabled lanes, whether it is of interest and whether it makes its flow a reader; of its
    request the code, the operation, the target and the part; and the data that its flow has in use. With *notes_from*,
    `schedule` has the choices of the race from that step of the run on.
    """

    def __init__(
        self, world: World, *, word: str = "", wants_accesses: bool = False, notes_from: int | None = None
    ) -> None:
        self._choices = 0
        self._switches = 0
        self._log10_alternatives = 0.0
        self._world = world
        self._word = word
        self._schedule: list[Choice] = []
        self._notes_from = math.inf if notes_from is None else notes_from
        self._skipped = 0.0
        self._journal: list[tuple[Any, ...]] = []
        self._watches = False
        self._flow: Flow | None = None
        self._sections = 0
        self._held = Level.NONE
        self._lanes: dict[str, LaneCounts] = {}
        self._sites: dict[Site, tuple[Site, types.CodeType, OperationInfo]] = {}
        self._pairs: set[tuple[Site, Site]] = set()
        self._chains: list[AccessHash] = []
        self._contexts = AccessHash()
        self._total = 0
        self._lane: Lane | None = None
        self._last_lane: Lane | None = None
        self._step = 0
        if wants_accesses:
            world.lost_mail = []  # deliveries that a retired actor has missed

    # -- the observer -------------------------------------------------------------------------------------------------

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Begin the step of *lane*."""
        if not self._watches:
            return
        flow = self._flow
        if flow is not None and (flow.sections != self._sections or flow.held > self._held or flow.in_use):
            self._end_flow(flow)
        if len(self._journal) > BATCH:
            self._read()
        request, count = lane.request, len(enabled.lanes)
        if request is None:
            self._flow = None
            mail = lane.mailbox[0]  # type: ignore[attr-defined]  # an actor with mail
            self._journal.append((lane, count, False, False, None, mail.info, mail.target, None, ()))
            return
        flow, info, target = request.flow, request.info, request.target
        self._flow, self._sections, self._held = flow, flow.sections, flow.held
        self._journal.append(
            (
                lane,
                count,
                is_of_interest(lane, self._word) if self._word else info.lifecycle,
                flow.is_entering and becomes_reader(flow),
                request.code,
                info,
                target,
                info.part or (part_of(request) if request.actor is None else None),
                tuple(flow.in_use) if flow.in_use else (),
            )
        )

    def value(self, count: int, value: int) -> None:
        """Add a choice that the environment made within the step."""
        if self._watches:
            self._journal.append((count, value, None))

    def phase(self, name: str) -> None:
        """Watch the race only."""
        self.end_step()
        self._watches = name == "race"
        if self._watches:
            self._skipped = self._notes_from - self._world.steps
        self._world.on_touch = self._journal.append if self._watches else None

    def end_step(self) -> None:
        """End the current step, if there is one: the accesses up to the next one belong to no step."""
        if self._watches:
            if self._flow is not None:
                self._end_flow(self._flow)
            self._journal.append(END)

    def _end_flow(self, flow: Flow) -> None:
        """Add the changes that the step of *flow* made to its context, and the data that it has in use."""
        self._flow = None
        if flow.sections != self._sections or has_become_reader(flow, was_reader=bool(self._held)):
            self._journal.append((CONTEXTS, COMMUTE))
        for thing in flow.in_use:
            self._journal.append((thing, UPDATE))

    @property
    def accesses(self) -> Accesses:
        """The accesses of the last step, up to now or to its end."""
        journal = self._journal
        place = next((place for place in reversed(range(len(journal))) if len(journal[place]) == LENGTH_OF_STEP), None)
        if place is None:
            return {}
        lane, _, _, enters, code, info, target, part, used = journal[place]
        if code is None:
            accesses: Accesses = {lane: UPDATE, target: info.access}
        else:
            accesses = dict.fromkeys(used, UPDATE)
            if target is not None:
                add_access(accesses, target, info.access if part is None else READ)
                if part is not None:
                    accesses[target, part] = info.access
            if info.looks_at_contexts:
                accesses[CONTEXTS] = UPDATE
            elif enters:
                accesses[CONTEXTS] = COMMUTE
        for entry in itertools.takewhile(lambda entry: entry is not END, journal[place + 1 :]):
            if len(entry) == LENGTH_OF_ACCESS and entry[0] is not lane:
                add_access(accesses, *entry)
        return accesses

    # -- results ------------------------------------------------------------------------------------------------------

    @property
    def choices(self) -> int:
        """The number of steps of the race at which more than one lane was enabled."""
        self._read()
        return self._choices

    @property
    def switches(self) -> int:
        """The number of steps of the race by another lane than the step before."""
        self._read()
        return self._switches

    @property
    def log10_alternatives(self) -> float:
        """The decimal logarithm of the product of the numbers of alternatives at all choices of the race."""
        self._read()
        return self._log10_alternatives

    @property
    def schedule(self) -> list[Choice]:
        """The choices of the race, from step *notes_from* of the run on."""
        self._read()
        return self._schedule

    def trace_class(self) -> str:
        """The hash of the run's Mazurkiewicz trace class: 16 hexadecimal digits.

        Schedules that differ only in the order of independent steps have the same one. The hash covers, for each thing,
        which lane accessed it in which order; the things need no names for that.
        """
        self.phase("")
        self._read()
        self._count(self._chains)
        return f"{self._total & SEED_MASK:016x}"

    def profile(self) -> RunProfile:
        """The profile of the run, for strategies that use run statistics."""
        self._read()
        return RunProfile(
            {name: record.steps for name, record in self._lanes.items()},
            {name: record.marked for name, record in self._lanes.items() if record.marked},
            self._choices,
        )

    def covered_functions(self) -> set[str]:
        """The kernel functions that made a step in the race."""
        self._read()
        return {code.co_name for _, code, _ in self._sites.values()}

    def racing_pairs(self) -> set[RacingPair]:
        """Pairs of (function, operation) of different lanes, one directly before the other on the same thing."""
        self._read()
        names = {site: (code.co_name, info.name) for site, code, info in self._sites.values()}
        return {(names[first], names[second]) for first, second in self._pairs}

    # -- the journal --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the journal, and empty it."""
        lane, step = self._lane, self._step
        for entry in self._journal:
            length = len(entry)
            if length == LENGTH_OF_STEP:
                lane = entry[0]
                step = self._begin_step(entry)
            elif length != LENGTH_OF_ACCESS:
                lane = self._end_or_choose(entry, lane, step)
            elif lane is not None and lane is not entry[0]:
                thing, mode = entry
                if isinstance(thing, Flow):
                    self._wake(thing.name, step)
                    continue
                self._add(self._chain_of(thing), step, mode)
        self._journal.clear()
        self._lane, self._step = lane, step
        if len(self._chains) > BATCH:
            self._count(self._chains)

    def _begin_step(self, entry: tuple[Any, ...]) -> int:  # noqa: C901 -- calls would cost more than the work
        """Add the accesses that the request of a step names, and the data that its flow has in use; return its hash."""
        lane, enabled, is_marked, _, code, info, target, part, used = entry
        counts = self._lanes.get(lane.name) or self._meet(lane.name)
        counts.steps += 1
        counts.step = step = counts.step + SPREAD
        if enabled > 1:
            self._choices += 1
            self._log10_alternatives += log10(enabled)
        if lane is not self._last_lane:
            self._switches += 1
            self._last_lane = lane
        if is_marked:
            counts.marked += 1
        if self._skipped <= 0:
            self._schedule.append(lane.name)
        else:
            self._skipped -= 1
        for thing in used:
            self._add(self._chain_of(thing), step, UPDATE)
        mode = info.access
        if code is None:
            self._add(self._chain_of(lane), step, UPDATE)
            self._add(self._chain_of(target), step, mode)
            return step
        site = id(code), id(info)
        known = self._sites.get(site)
        if known is None:
            known = self._sites[site] = site, code, info
        site = known[0]  # one object for all chains
        if target is not None:
            chain: AccessHash = target.trace or self._chain_of(target)
            if part is not None:
                self._add(chain, step, READ)
                chain = chain.part(part)
            before = chain.lane
            if before is not None and before is not lane and (mode is UPDATE or chain.lane_mode is not mode):
                self._pairs.add((chain.site, site))
            chain.lane, chain.lane_mode, chain.site = lane, mode, site
            self._add(chain, step, mode)
        if info.looks_at_contexts:
            self._add(self._contexts, step, UPDATE)
        return step

    def _end_or_choose(self, entry: tuple[Any, ...], lane: Lane | None, step: int) -> Lane | None:
        """Add a value that the environment chose in this step, or end the step; return its lane until then."""
        if entry is END:
            return None
        count, value, _ = entry
        if self._schedule:
            self._schedule.append(value)
        self._total += mix(step, value * count)
        self._log10_alternatives += log10(count)
        return lane

    def _wake(self, name: str, step: int) -> None:
        """Add the wake-up of a flow that has stepped before."""
        woken = self._lanes.get(name)
        if woken is not None:
            self._total += mix(step, woken.number + woken.steps)

    def _add(self, chain: AccessHash, step: int, mode: Access) -> None:
        """Add an access of a step to a chain; once, if the step has made it before."""
        if mode is chain.mode and mode is not UPDATE:
            if chain.step != step:
                chain.step = step
                chain.group += step
        elif chain.step != step or chain.mode is not UPDATE:
            self._begin_group(chain, step, mode)

    def _begin_group(self, chain: AccessHash, step: int, mode: Access) -> None:
        """Add a step that does not commute with the steps before it, or that follows the count of the chain."""
        if chain.mode is None:
            self._chains.append(chain)
            chain.mode = chain.counted_mode
            self._total -= chain.value
            if mode is chain.mode and mode is not UPDATE:
                self._add(chain, step, mode)
                return
        if chain.mode is not None:
            chain.closed = mix(chain.closed + chain.mode, chain.group)
        chain.group = chain.step = step
        chain.mode = mode

    def _count(self, chains: list[AccessHash]) -> None:
        """Add the values of *chains* to the sum, and remove them from the list, so that they can be freed."""
        for chain in chains:
            self._total += chain.value
            chain.counted_mode, chain.mode, chain.step = chain.mode, None, -1
        chains.clear()

    def _chain_of(self, thing: Any) -> AccessHash:
        """The chain of a thing: of an object, an actor, a part of an object, or the contexts."""
        if type(thing) is tuple:
            of, part = thing
            return self._chain_of(of).part(part)
        if thing is CONTEXTS:
            return self._contexts
        chain: AccessHash | None = thing.trace
        if chain is None:
            chain = thing.trace = AccessHash()
        return chain

    def _meet(self, name: str) -> LaneCounts:
        record = self._lanes[name] = LaneCounts(number_of(name), number_of(name))
        return record
