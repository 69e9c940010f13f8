"""The commutation self-test: what `explorer.watch` calls independent has to be so.

Classes of schedules, dpor's proofs, and shrinking all rest on one claim: two neighbouring steps that do not depend on
each other lead to the same state in either order. Here it is tried out. Of a random schedule two neighbouring steps of
different lanes are taken that were both enabled and are independent by what they accessed; the schedule is run once
more with these two exchanged and everything after them as it was. Nothing may differ: not the class of the run, not
what is left at its end, not a finding, not what any later step did, nor who was enabled then. Where something differs,
somebody has seen state of another flow without a request, a `touch` or a name that both orders share.

The second of the two may take the CPU from the first, for a while: that a CPU is busy is no dependence. The first then
comes as soon as it can; if what comes before that depends on it, there is nothing to try.

A flow that leaves a read-side section has a share in the end of a grace period that began before, and none if it begins
after: nobody can tell the difference, but it is noted. Where one of the two steps begins one, only what happens is
compared.

Time passes only when nothing else can happen, as in the exact searches: with time that passes in steps every step
would depend on every other one through the timers.
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
"""How many pairs of one random schedule are tried: the schedule itself has to be run, too."""

MODES = {READ: "reads", UPDATE: "updates", COMMUTE: "commutes"}

STATE, ACCESSES, CLASS = "state", "accesses", "class"

Site = tuple[str, str]


class StandingWalk(RandomWalk):
    """A random walk for which time stands still while anything can step."""

    controls_clock = True


@attrs.frozen
class Violation:
    """Two steps that were taken for independent and are not. `difference` is the first thing that their order changes.

    `kind`: what happened afterwards was different (STATE), or only what the steps are said to access (ACCESSES), or
    only the hash of that (CLASS). The first makes proofs wrong, the others count one class as two. `schedule` is the
    number of the random schedule, `position` that of the first of the two in its race, from 0.
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
    """Tries pairs of *experiment* until *pairs* have been tried, or as many schedules in a row had none to try.

    The pairs of a schedule are drawn at random, those first whose functions and operations have been tried least.
    """

    experiment: Experiment
    pairs: int
    seed: int = 0
    progress: Callable[[SelfTest], None] | None = None
    tried: int = 0
    held: int = 0
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
            except PairHeldError:
                self.held += 1
                continue
            self.tried += 1
            if violation is not None:
                self.violations.append(violation)

    def _choose(self, trace: Trace, draw: random.Random) -> Iterator[int]:
        """Some positions of independent pairs."""
        candidates = list(independent_pairs(trace))
        draw.shuffle(candidates)
        for _ in range(min(PAIRS_PER_SCHEDULE, self.pairs - self.tried, len(candidates))):
            position = min(candidates, key=lambda at: self.sites[sites_at(trace, at)])
            candidates.remove(position)
            self.sites[sites_at(trace, position)] += 1
            yield position


def independent_pairs(trace: Trace) -> Iterator[int]:
    """Positions of steps that could as well have come after the next one, if the watch is right."""
    for position, (first, second) in enumerate(zip(trace.steps, trace.steps[1:], strict=False)):
        if first.lane != second.lane and second.lane in first.enabled and not clash(first.accesses, second.accesses):
            yield position


def try_pair(experiment: Experiment, trace: Trace, schedule: int, position: int) -> Violation | None:
    """Run the schedule of *trace* with the two steps at *position* exchanged; say what differs, if anything does.

    PairHeldError if the first of them cannot come after the second.
    """
    exchange = Exchange(trace.steps, position)
    other = run_traced(experiment, exchange)
    if exchange.is_held or (exchange.is_waiting and ended_early(trace) and ended_early(other)):
        raise PairHeldError
    difference = first_difference(trace, other, exchange)
    if difference is None:
        return None
    kind, text = difference
    first, second = trace.steps[position : position + 2]
    if kind != STATE and UPDATE in (first.accesses.get(CONTEXTS), second.accesses.get(CONTEXTS)):
        return None
    return Violation(kind, schedule, position, describe(first), describe(second), text, site_of(first), site_of(second))


class PairHeldError(Exception):
    """Two steps cannot be exchanged, although they are independent: the second keeps the CPU to itself for too long."""


class Exchange(Strategy):
    """Follows a run, but with the step at *position* after the next one, or as soon as it is enabled from then on.

    `order` are the numbers of the run's steps in the order in which they come now. `misfit` says what cannot be
    followed, if something cannot; the world stops there.
    """

    name = "exchange"
    controls_clock = True

    def __init__(self, steps: Sequence[TracedStep], position: int) -> None:
        self.is_held = False
        self.is_waiting = True
        self.misfit: str | None = None
        self.order: list[int] = []
        self.position = position
        self._steps = steps
        self._left = deque(number for number in range(len(steps)) if number != position)
        self._values: deque[int] = deque()

    def advance(self, world: World) -> None:
        """Leave the time as it is."""
        self._world = world

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Take the lane of the step that is due."""
        names = [lane.name for lane in lanes]
        number = self._next(names)
        if number is None:
            self._world.stop("misfit")
            return 0
        self.order.append(number)
        self._values = deque(self._steps[number].values)
        return names.index(self._steps[number].lane)

    def _next(self, names: list[str]) -> int | None:
        """The step that is due; None if it cannot come."""
        steps, late = self._steps, self.position
        if self.is_waiting and self.order[-1:] > [late] and steps[late].lane in names:
            self.is_waiting = False
            return late
        if not self._left:
            self.misfit = f"after the last step {', '.join(names)} can go on"
            return None
        number = self._left[0]
        if self.is_waiting and number > late + 1 and clash(steps[number].accesses, steps[late].accesses):
            self.is_held = True
            return None
        if steps[number].lane not in names:
            self.misfit = f"step {number} of the race cannot come, enabled are only {', '.join(names)}"
            return None
        return self._left.popleft()

    def choose_value(self, count: int) -> int:
        """As then."""
        return min(self._values.popleft(), count - 1) if self._values else 0


def ended_early(trace: Trace) -> bool:
    """Whether a fatal finding was its end."""
    return trace.stage.world.stopped == "finding"


def first_difference(one: Trace, other: Trace, exchange: Exchange) -> tuple[str, str] | None:
    """The kind of what the exchange changes, and the first such thing; None if nothing differs."""
    after = exchange.order.index(exchange.position) if not exchange.is_waiting else len(exchange.order)
    pairs = [(one.steps[number], now) for number, now in zip(exchange.order, other.steps, strict=False)]
    for place, (then, now) in enumerate(pairs):
        difference = step_difference(then, now, is_later=place > after)
        if difference is not None:
            return STATE, f"step {exchange.order[place]} of the race: {difference}"
    difference = exchange.misfit or end_difference(one, other)
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
    """How one step differs from what it was; who was enabled is compared if both have happened by then."""
    if describe(then) != describe(now) or then.values != now.values:
        return f"was {describe(then)} {then.values}, is {describe(now)} {now.values}"
    if is_later and set(then.enabled) != set(now.enabled):
        return f"enabled were {difference_of(then.enabled, now.enabled)} before {describe(then)}"
    return None


def end_difference(one: Trace, other: Trace) -> str | None:
    """How two runs whose steps are the same differ in what they came to."""
    if len(one.steps) != len(other.steps):
        return f"{len(one.steps)} steps, now {len(other.steps)}"
    ends = (
        ("findings", findings_of(one), findings_of(other)),
        ("figures", one.stage.ledger.figures(), other.stage.ledger.figures()),
    )
    return next((f"{what} were {then}, are {now}" for what, then, now in ends if then != now), None)


def findings_of(trace: Trace) -> list[tuple[str, int]]:
    """The findings of a run, and how often each was made; who made it first may well change."""
    return sorted((signature, finding.count) for signature, finding in trace.stage.world.findings.items())


def named(step: TracedStep) -> set[tuple[str, str]]:
    """What a step accessed, by names that hold in every run."""
    return {(name_of(thing), MODES[mode]) for thing, mode in step.accesses.items()}


def difference_of(then: tuple[str, ...], now: tuple[str, ...]) -> str:
    """Two sets of lanes by what each has alone."""
    gone, new = sorted(set(then) - set(now)), sorted(set(now) - set(then))
    return ", ".join([*(f"-{lane}" for lane in gone), *(f"+{lane}" for lane in new)])


def describe(step: TracedStep) -> str:
    """One step in words."""
    where = "" if step.cpu is None else f" on CPU {step.cpu}"
    return f"{step.lane}{where} in {step.function}: {step.operation}" + (f" of {step.owner}" if step.owner else "")


def site_of(step: TracedStep) -> Site:
    """What a step is, whoever does it."""
    return step.function, step.operation


def sites_at(trace: Trace, position: int) -> tuple[Site, Site]:
    """What the two steps at *position* are."""
    return site_of(trace.steps[position]), site_of(trace.steps[position + 1])
