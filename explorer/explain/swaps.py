"""Swapped runs: a run repeated with two of its steps in the other order."""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from actors.system.flow import SLEEP, STALL
from explorer.schedule import Follow
from explorer.trace import Trace, run_traced
from protocol.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actors.system.flow import Flow
    from actors.system.lane import Lane
    from actors.system.world import World
    from explorer.causality import Order
    from explorer.experiment import Experiment
    from explorer.explain.pairs import Pair

SLEEPS = frozenset({SLEEP, STALL})
"""Waits that end by themselves."""

TOO_LONG = "too long"
"""The world's stop reason when a swapped run is much longer than the original: it loops."""

MORE_STEPS = 2_000
"""Steps that a swapped run may take in addition to three times the original's."""


class Way(enum.Enum):
    """The method that brings the later step before the earlier one."""

    MOVED = "moved ahead, with what it needs"
    HELD = "the first one's lane held back until it is done"
    LAST = "the first one's lane held back until no other lane can go on"


class Swapping(Follow):
    """Follows a schedule in which steps have changed places.

    If the next lane sleeps, it is woken: the time advances to the end of its sleep. After the first *before* choices,
    the lane *last* steps only if no other can. The run is stopped after step *most*.
    """

    def __init__(self, schedule: Schedule, most: int, *, controls_clock: bool, last: str = "", before: int = 0) -> None:
        super().__init__(schedule, controls_clock=True)
        self._most = most
        self._time_passes = not controls_clock
        self._last = last
        self._before = before

    def advance(self, world: World) -> None:
        """Advance the time by the last step's cost; wake the next lane of the schedule if it sleeps."""
        if world.steps > self._most:
            world.stop(TOO_LONG)
        if self._time_passes:
            world.now += world.cost
        enabled = {lane.name for lane in world.enabled_lanes()}
        asleep = {flow.name: flow for flow in world.flows if not flow.ready and flow.request.info in SLEEPS}
        for choice in self._choices[self._next :]:
            if choice in enabled:
                return
            if choice in asleep:
                wake(world, asleep[str(choice)])
                return

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Choose as the schedule does; after *before* choices, take the lane *last* only if there is no other."""
        if not self._last or self._next < self._before:
            return super().choose(lanes)
        others = tuple(lane for lane in lanes if lane.name != self._last) or lanes
        return lanes.index(others[super().choose(others)])


def wake(world: World, flow: Flow) -> None:
    """Advance the time until the sleep of *flow* is over."""
    while not flow.ready:
        timer = world.next_timer()
        assert timer is not None, "a sleeping flow has a timer"
        world.now = max(world.now, timer)
        world.fire_timers()


@attrs.define
class Swaps:
    """Makes swapped runs. `runs` counts them, up to *budget*."""

    experiment: Experiment
    trace: Trace
    controls_clock: bool
    budget: int
    runs: int = 0
    order: Order = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.order = self.trace.order()

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        return self.runs >= self.budget

    def run(self, first: int, second: int, way: Way) -> Trace | None:
        """The run with *second* before *first*; None if this way cannot reorder them, or if no run is left."""
        if self.is_spent:
            return None
        self.runs += 1
        strategy = Swapping(
            self.moved(first, second) if way is Way.MOVED else self.held_back(first, second, way),
            self.trace.steps[-1].number + 2 * self.steps + MORE_STEPS,
            controls_clock=self.controls_clock,
            last=self.trace.steps[first].lane if way is Way.LAST else "",
            before=len(self.choices(range(first))),
        )
        swapped = run_traced(self.experiment, strategy, self.trace.signature)
        if swapped.stage.world.stopped == TOO_LONG:
            return None
        return swapped if is_swapped(self.trace, swapped, first, second) else None

    def moved(self, first: int, second: int) -> Schedule:
        """The schedule with step *second*, and the steps it needs, before step *first*; the rest keeps its order."""
        past, between = self.order.past, range(first + 1, second)
        needed = [at for at in between if past[second] >> at & 1 and not past[at] >> first & 1]
        others = [at for at in between if at not in needed]
        return self.choices([*range(first), *needed, second, first, *others, *range(second + 1, self.steps)])

    def held_back(self, first: int, second: int, way: Way) -> Schedule:
        """The schedule in which the lane of *first* makes its steps from there on after step *second*, or never."""
        lane = self.trace.steps[first].lane
        end = second + 1 if way is Way.HELD else self.steps
        own = [at for at in range(first, end) if self.trace.steps[at].lane == lane] if way is Way.HELD else []
        others = [at for at in range(first, end) if self.trace.steps[at].lane != lane]
        return self.choices([*range(first), *others, *own, *range(end, self.steps)])

    @property
    def steps(self) -> int:
        """The number of steps of the run."""
        return len(self.trace.steps)

    def choices(self, numbers: Iterable[int]) -> Schedule:
        """The choices of these steps."""
        return tuple(choice for number in numbers for choice in self.trace.steps[number].choices)


def is_swapped(trace: Trace, swapped: Trace, first: int, second: int) -> bool:
    """Whether the later step came before the earlier one in *swapped*, or the earlier one did not come."""
    here, there = names(trace), places(swapped)
    return is_reversed(there.get(here[first]), there.get(here[second]))


def change(trace: Trace, swapped: Trace, pairs: Iterable[Pair]) -> tuple[int, int]:
    """The distance of *swapped* from *trace*: the number of steps that it lacks, and of *pairs* that it reverses."""
    here, there = names(trace), places(swapped)
    missing = sum(name not in there for name in here)
    return missing, sum(is_reversed(there.get(here[pair.first]), there.get(here[pair.second])) for pair in pairs)


def is_reversed(first: int | None, second: int | None) -> bool:
    """Whether *second* is there, and *first* is later or missing."""
    return second is not None and (first is None or second < first)


def places(trace: Trace) -> dict[tuple[str | int, ...], int]:
    """The place of each step, by a name that is the same in other runs."""
    return {name: place for place, name in enumerate(names(trace))}


def names(trace: Trace) -> list[tuple[str | int, ...]]:
    """The words of each step, with its number among the steps with equal words."""
    seen: Counter[tuple[str, ...]] = Counter()
    named: list[tuple[str | int, ...]] = []
    for step in trace.steps:
        named.append((*step.words, seen[step.words]))
        seen[step.words] += 1
    return named
