"""A run once more, with two of its steps the other way round."""

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
"""What ends by itself."""

TOO_LONG = "too long"
"""Why a world stops that goes on for much longer than the run that is explained: it turns in a circle."""

MORE_STEPS = 2_000
"""How many steps more than three times its race a run may take."""


class Way(enum.Enum):
    """How the later step comes before the earlier one."""

    MOVED = "moved ahead, with what it needs"
    HELD = "the first one's lane held back until it is done"
    LAST = "the first one's lane held back until nobody else can go on"


class Swapping(Follow):
    """Follows a schedule in which steps have changed places.

    Whoever sleeps and is wanted is woken: the time goes to the end of its sleep. The lane called *last* comes behind
    all others, once the first *before* choices are made. A run that is not over after step *most* is stopped.
    """

    def __init__(self, schedule: Schedule, most: int, *, controls_clock: bool, last: str = "", before: int = 0) -> None:
        super().__init__(schedule, controls_clock=True)
        self._most = most
        self._time_passes = not controls_clock
        self._last = last
        self._before = before

    def advance(self, world: World) -> None:
        """Let the last step take its time, and end the sleep of who is wanted next, if that is what it waits for."""
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
        """As the schedule has it; afterwards the last one only if there is no other."""
        if not self._last or self._next < self._before:
            return super().choose(lanes)
        others = tuple(lane for lane in lanes if lane.name != self._last) or lanes
        return lanes.index(others[super().choose(others)])


def wake(world: World, flow: Flow) -> None:
    """Let the time pass until the sleep of *flow* is over."""
    while not flow.ready:
        timer = world.next_timer()
        assert timer is not None, "who sleeps has a timer"
        world.now = max(world.now, timer)
        world.fire_timers()


@attrs.define
class Swaps:
    """Makes the runs. `runs` of at most *budget* were made."""

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
        """Whether there is no run left."""
        return self.runs >= self.budget

    def run(self, first: int, second: int, way: Way) -> Trace | None:
        """The run in which *second* came before *first*; None if it cannot, that way, or if no run is left."""
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
        """The schedule with step *second*, and what it needs, before step *first*, and all else in its order."""
        past, between = self.order.past, range(first + 1, second)
        needed = [at for at in between if past[second] >> at & 1 and not past[at] >> first & 1]
        others = [at for at in between if at not in needed]
        return self.choices([*range(first), *needed, second, first, *others, *range(second + 1, self.steps)])

    def held_back(self, first: int, second: int, way: Way) -> Schedule:
        """The schedule with all that the lane of *first* does from there on behind step *second*, or left out."""
        lane = self.trace.steps[first].lane
        end = second + 1 if way is Way.HELD else self.steps
        own = [at for at in range(first, end) if self.trace.steps[at].lane == lane] if way is Way.HELD else []
        others = [at for at in range(first, end) if self.trace.steps[at].lane != lane]
        return self.choices([*range(first), *others, *own, *range(end, self.steps)])

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return len(self.trace.steps)

    def choices(self, numbers: Iterable[int]) -> Schedule:
        """The choices of these steps."""
        return tuple(choice for number in numbers for choice in self.trace.steps[number].choices)


def is_swapped(trace: Trace, swapped: Trace, first: int, second: int) -> bool:
    """Whether the later step came before the earlier one this time, if that came at all."""
    here, there = names(trace), places(swapped)
    return is_reversed(there.get(here[first]), there.get(here[second]))


def change(trace: Trace, swapped: Trace, pairs: Iterable[Pair]) -> tuple[int, int]:
    """How far *swapped* is from *trace*: how many of the steps it does not make, how many of *pairs* it reverses."""
    here, there = names(trace), places(swapped)
    missing = sum(name not in there for name in here)
    return missing, sum(is_reversed(there.get(here[pair.first]), there.get(here[pair.second])) for pair in pairs)


def is_reversed(first: int | None, second: int | None) -> bool:
    """Whether what came second has its place before what came first, if that has one."""
    return second is not None and (first is None or second < first)


def places(trace: Trace) -> dict[tuple[str | int, ...], int]:
    """Where each step is, by a name that it has in other runs, too."""
    return {name: place for place, name in enumerate(names(trace))}


def names(trace: Trace) -> list[tuple[str | int, ...]]:
    """What each step does, and the how manieth it is that does it."""
    seen: Counter[tuple[str, ...]] = Counter()
    named: list[tuple[str | int, ...]] = []
    for step in trace.steps:
        named.append((*step.words, seen[step.words]))
        seen[step.words] += 1
    return named
