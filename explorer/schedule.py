"""A schedule by names: what a run is made of, in a form that outlives edits elsewhere, and can be cut down.

A schedule lists the choices of the race, in order: the name of the lane that stepped, or a number for what the
environment chose. Where choices are left out, or do not fit any more, the plain order takes over: the lane that stepped
last goes on, then the next one (`InTurn`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.system.strategy import InTurn, Strategy
from protocol.schedule import Choice

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


class Noting(Strategy):
    """A strategy that chooses as another does, and notes the schedule."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.name = strategy.name
        self.controls_clock = strategy.controls_clock
        self.choices: list[Choice] = []

    def advance(self, world: World) -> None:
        """As the other."""
        self.strategy.advance(world)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """As the other, and note the lane."""
        index = self.strategy.choose(lanes)
        self.choices.append(lanes[index].name)
        return index

    def choose_value(self, count: int) -> int:
        """As the other, and note the value."""
        value = self.strategy.choose_value(count)
        self.choices.append(value)
        return value

    def choose_fault(self, probability: float) -> bool:
        """As the other, and note it as 0 or 1."""
        fails = self.strategy.choose_fault(probability)
        self.choices.append(int(fails))
        return fails

    def draw_latency(self, low: int, high: int) -> int:
        """As the other."""
        return self.strategy.draw_latency(low, high)


class Follow(Strategy):
    """A strategy that follows a schedule as far as it fits, and then takes the plain order.

    A lane that is not enabled when its turn comes is passed over; `first_misfit` is the number of the first choice that
    did not fit, and `enabled_at_misfit` who could step then. Time is kept by nobody: it passes with the steps, or, if
    *controls_clock*, only when nothing is enabled (as in exact searches, so that their schedules come out the same).
    """

    name = "follow"

    def __init__(self, schedule: Iterable[Choice], *, controls_clock: bool = False) -> None:
        self._choices = list(schedule)
        self._next = 0
        self._plain = InTurn()
        self.controls_clock = controls_clock
        self.first_misfit: int | None = None
        self.enabled_at_misfit: tuple[str, ...] = ()

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Take the next lane of the schedule that can step."""
        choices = self._choices
        while self._next < len(choices):
            choice = choices[self._next]
            self._next += 1
            for index, lane in enumerate(lanes):
                if lane.name == choice:
                    self._plain.went_on(lane)
                    return index
            if self.first_misfit is None:
                self.first_misfit = self._next - 1
                self.enabled_at_misfit = tuple(lane.name for lane in lanes)
        return self._plain.choose(lanes)

    def choose_value(self, count: int) -> int:
        """Take the number that comes next in the schedule, if one does."""
        if self._next < len(self._choices):
            choice = self._choices[self._next]
            if isinstance(choice, int):
                self._next += 1
                return min(choice, count - 1)
        return 0
