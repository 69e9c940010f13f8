"""The commutation self-test of the dependence relation: steps that `explorer.watch` calls independent have to commute.

Trace classes, dpor's proofs and shrinking rest on one claim: two neighbouring steps that do not depend on each other
lead to the same state in either order. The self-test tries this claim. It takes a random schedule, and in it two
neighbouring steps of different lanes that were both enabled and have independent accesses. It runs the schedule again
with these two steps swapped and all later steps as before. Nothing may differ: not the trace class, not the final
state, not a finding, not any later step, and not the lanes enabled at it. A difference means that some code reads state
of another flow without a request, a `touch`, or a name that is the same in both orders.

The second step may take the CPU from the first lane for a while: a busy CPU is not a dependence. The first step then
comes as soon as it is enabled. If a step that comes before it depends on it, the pair cannot be tried.

A flow that leaves a read-side section takes part in the end of a grace period that began before, and not in one that
begins after. This has no effect, but it is recorded as an access. So if one of the two steps begins a grace period, the
test compares the steps and the final state, but not the accesses and the trace class.

Time passes only when nothing is enabled, as in the exact searches. If it passed with the steps, every step would depend
on every other one through the timers.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.system.strategy import Strategy
from explorer.accesses import CONTEXTS, clash, name_of
from explorer.profile import seed_of
from explorer.search.strategies.simple import RandomWalk
from explorer.trace import Trace, TracedStep, run_traced
from protocol.operations import COMMUTE, READ, UPDATE

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World
    from explorer.experiment import Experiment

PAIRS_PER_SCHEDULE = 8
"""Pairs tried per random schedule; several, because the schedule itself costs a run, too."""

MODES = {READ: "reads", UPDATE: "updates", COMMUTE: "commutes"}

STATE, ACCESSES, CLASS = "state", "accesses", "class"

Site = tuple[str, str]


class StandingWalk(RandomWalk):
    """A random walk in which time stands still while anything is enabled."""

    controls_clock = True


@attrs.frozen
class Violation:
    """Two steps that count as independent, and are not. `difference` is the first effect of their order.

    `kind` is STATE if later steps or the final state differ, ACCESSES if only the accesses of a step differ, and CLASS
    if only their hash does. STATE makes proofs wrong; the others count one trace class twice. `schedule` is the number
    of the random schedule, and `position` the place of the first of the two steps in its race, from 0.
    """

    kind: str
    schedule: int
    position: int
    first: str
    second: str
    difference: str
    first_site: Site
    second_site: Site

    @property
    def in_words(self) -> str:
        """One line of a report."""
        return (
            f"schedule {self.schedule}, steps {self.position} and {self.position + 1} of the race: {self.first} | "
            f"{self.second}: {self.kind}: {self.difference}"
        )


@attrs.define
class SelfTest:
    """Tries *pairs* pairs of *experiment*; gives up after as many schedules in a row without a pair to try.

    The pairs of a schedule are drawn at random, with preference for the functions and operations that were tried least.
    """

    experiment: Experiment
    pairs: int
    seed: int = 0
    progress: Callable[[SelfTest], None] | None = None
    tried: int = 0
    unswapped: int = 0
    schedules: int = 0
    sites: Counter[tuple[Site, Site]] = attrs.field(factory=Counter)
    violations: list[Violation] = attrs.field(factory=list)

    def run(self) -> None:
        """Try all pairs."""
        without = 0
        while self.tried < self.pairs and without < self.pairs:
            tried = self.tried
            self._try_schedule(self.schedules)
            self.schedules += 1
            without = without + 1 if self.tried == tried else 0
            if self.progress is not None:
                self.progress(self)

    def distinct(self) -> dict[tuple[str, Site, Site], list[Violation]]:
        """The violations by their kind, and by the functions and operations of the two steps."""
        found: dict[tuple[str, Site, Site], list[Violation]] = {}
        for violation in self.violations:
            found.setdefault((violation.kind, violation.first_site, violation.second_site), []).append(violation)
        return found

    def _try_schedule(self, number: int) -> None:
        seed = seed_of(self.seed, number)
        trace = run_traced(self.experiment, StandingWalk(seed))
        for position in self._choose(trace, random.Random(seed)):
            try:
                violation = try_pair(self.experiment, trace, number, position)
            except NotSwappedError:
                self.unswapped += 1
                continue
            self.tried += 1
            if violation is not None:
                self.violations.append(violation)

    def _choose(self, trace: Trace, draw: random.Random) -> Iterator[int]:
        """Draw some positions of independent pairs."""
        candidates = list(independent_pairs(trace))
        draw.shuffle(candidates)
        for _ in range(min(PAIRS_PER_SCHEDULE, self.pairs - self.tried, len(candidates))):
            position = min(candidates, key=lambda at: self.sites[sites_at(trace, at)])
            candidates.remove(position)
            self.sites[sites_at(trace, position)] += 1
            yield position


def independent_pairs(trace: Trace) -> Iterator[int]:
    """Positions of steps that could as well have come after the next one, by the dependence relation."""
    for position, (first, second) in enumerate(zip(trace.steps, trace.steps[1:], strict=False)):
        if first.lane != second.lane and second.lane in first.enabled and not clash(first.accesses, second.accesses):
            yield position


def try_pair(experiment: Experiment, trace: Trace, schedule: int, position: int) -> Violation | None:
    """Run the schedule of *trace* with the two steps at *position* swapped; return the first difference, if any.

    NotSwappedError if the first step cannot come after the second.
    """
    exchange = Exchange(trace.steps, position)
    other = run_traced(experiment, exchange)
    if exchange.is_blocked or (exchange.is_waiting and ended_early(trace) and ended_early(other)):
        raise NotSwappedError
    difference = first_difference(trace, other, exchange)
    if difference is None:
        return None
    kind, text = difference
    first, second = trace.steps[position : position + 2]
    if kind != STATE and UPDATE in (first.accesses.get(CONTEXTS), second.accesses.get(CONTEXTS)):
        return None
    return Violation(kind, schedule, position, describe(first), describe(second), text, site_of(first), site_of(second))


class NotSwappedError(Exception):
    """Two independent steps that cannot be swapped: the second lane keeps the CPU for too long."""


class Exchange(Strategy):
    """Swap: repeats a run, with the step at *position* after the next one, or as soon after it as it is enabled.

    `order` lists the numbers of the run's steps in their new order. `divergence` describes the first one, if there is
    one; the world stops there.
    """

    name = "exchange"
    controls_clock = True

    def __init__(self, steps: Sequence[TracedStep], position: int) -> None:
        self.is_blocked = False
        self.is_waiting = True
        self.divergence: str | None = None
        self.order: list[int] = []
        self.position = position
        self._steps = steps
        self._left = deque(number for number in range(len(steps)) if number != position)
        self._values: deque[int] = deque()

    def advance(self, world: World) -> None:
        """Leave the time as it is."""
        self._world = world

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Take the lane of the next step."""
        names = [lane.name for lane in lanes]
        number = self._next(names)
        if number is None:
            self._world.stop("diverged")
            return 0
        self.order.append(number)
        self._values = deque(self._steps[number].values)
        return names.index(self._steps[number].lane)

    def _next(self, names: list[str]) -> int | None:
        """The number of the next step; None if it is not enabled."""
        steps, late = self._steps, self.position
        if self.is_waiting and self.order[-1:] > [late] and steps[late].lane in names:
            self.is_waiting = False
            return late
        if not self._left:
            self.divergence = f"after the last step, {', '.join(names)} can still step"
            return None
        number = self._left[0]
        if self.is_waiting and number > late + 1 and clash(steps[number].accesses, steps[late].accesses):
            self.is_blocked = True
            return None
        if steps[number].lane not in names:
            self.divergence = f"step {number} of the race is not enabled; enabled are only {', '.join(names)}"
            return None
        return self._left.popleft()

    def choose_value(self, count: int) -> int:
        """The recorded value."""
        return min(self._values.popleft(), count - 1) if self._values else 0


def ended_early(trace: Trace) -> bool:
    """Whether a fatal finding ended the run."""
    return trace.stage.world.stopped == "finding"


def first_difference(one: Trace, other: Trace, exchange: Exchange) -> tuple[str, str] | None:
    """The kind and the text of the first difference that the swap makes; None if nothing differs."""
    after = exchange.order.index(exchange.position) if not exchange.is_waiting else len(exchange.order)
    pairs = [(one.steps[number], now) for number, now in zip(exchange.order, other.steps, strict=False)]
    for place, (then, now) in enumerate(pairs):
        difference = step_difference(then, now, is_later=place > after)
        if difference is not None:
            return STATE, f"step {exchange.order[place]} of the race: {difference}"
    difference = exchange.divergence or end_difference(one, other)
    if difference is not None:
        return STATE, difference
    for then, now in pairs:
        if named(then) != named(now):
            gone, new = sorted(named(then) - named(now)), sorted(named(now) - named(then))
            return ACCESSES, f"{describe(then)} accessed {gone}, now {new}"
    if one.trace_class != other.trace_class:
        return CLASS, f"the trace class was {one.trace_class}, is {other.trace_class}"
    return None


def step_difference(then: TracedStep, now: TracedStep, *, is_later: bool) -> str | None:
    """The difference between a step and its counterpart; enabled lanes are compared once both steps have happened."""
    if describe(then) != describe(now) or then.values != now.values:
        return f"was {describe(then)} {then.values}, is {describe(now)} {now.values}"
    if is_later and set(then.enabled) != set(now.enabled):
        return f"enabled lanes were {difference_of(then.enabled, now.enabled)} before {describe(then)}"
    return None


def end_difference(one: Trace, other: Trace) -> str | None:
    """The difference between the results of two runs with the same steps."""
    if len(one.steps) != len(other.steps):
        return f"{len(one.steps)} steps, now {len(other.steps)}"
    ends = (
        ("findings", findings_of(one), findings_of(other)),
        ("figures", one.stage.ledger.figures(), other.stage.ledger.figures()),
    )
    return next((f"{what} were {then}, are {now}" for what, then, now in ends if then != now), None)


def findings_of(trace: Trace) -> list[tuple[str, int]]:
    """The findings of a run with their counts; the flow that made a finding first may differ."""
    return sorted((signature, finding.count) for signature, finding in trace.stage.world.findings.items())


def named(step: TracedStep) -> set[tuple[str, str]]:
    """The accesses of a step, by names that are the same in every run."""
    return {(name_of(thing), MODES[mode]) for thing, mode in step.accesses.items()}


def difference_of(then: tuple[str, ...], now: tuple[str, ...]) -> str:
    """The lanes that are in one of two sets only: `-` for the first, `+` for the second."""
    gone, new = sorted(set(then) - set(now)), sorted(set(now) - set(then))
    return ", ".join([*(f"-{lane}" for lane in gone), *(f"+{lane}" for lane in new)])


def describe(step: TracedStep) -> str:
    """One step in words."""
    where = "" if step.cpu is None else f" on CPU {step.cpu}"
    return f"{step.lane}{where} in {step.function}: {step.operation}" + (f" of {step.owner}" if step.owner else "")


def site_of(step: TracedStep) -> Site:
    """The function and operation of a step, whatever its lane."""
    return step.function, step.operation


def sites_at(trace: Trace, position: int) -> tuple[Site, Site]:
    """The sites of the two steps at *position*."""
    return site_of(trace.steps[position]), site_of(trace.steps[position + 1])
