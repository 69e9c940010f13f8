"""Schedules by lane name: a form of a run's choices that survives edits elsewhere, and can be cut down.

A schedule lists the choices of the race in order: the name of the lane that stepped, or a number for a choice of the
environment. Where a choice is missing or does not fit any more, the non-preemptive order (`InTurn`) applies: the lane
that stepped last continues, then the next one.
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
    """Recording: delegates every choice to another strategy, and records the schedule."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.name = strategy.name
        self.controls_clock = strategy.controls_clock
        self.choices: list[Choice] = []

    def advance(self, world: World) -> None:
        """Delegate to the other strategy."""
        self.strategy.advance(world)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Delegate the choice, and record the lane."""
        index = self.strategy.choose(lanes)
        self.choices.append(lanes[index].name)
        return index

    def choose_value(self, count: int) -> int:
        """Delegate the choice, and record the value."""
        value = self.strategy.choose_value(count)
        self.choices.append(value)
        return value

    def choose_fault(self, probability: float) -> bool:
        """Delegate the choice, and record it as 0 or 1."""
        fails = self.strategy.choose_fault(probability)
        self.choices.append(int(fails))
        return fails

    def draw_latency(self, low: int, high: int) -> int:
        """Delegate to the other strategy."""
        return self.strategy.draw_latency(low, high)


class Follow(Strategy):
    """Replay by name: follows a schedule as far as it fits, and then the non-preemptive order.

    A lane that is not enabled when its turn comes is skipped: a divergence. `diverges_at` is the number of the first
    skipped choice, and `enabled_there` lists the lanes that could step then. Time passes with the steps; with
    *controls_clock* it passes only when nothing is enabled, so that schedules of exact searches come out the same.
    """

    name = "follow"

    def __init__(self, schedule: Iterable[Choice], *, controls_clock: bool = False) -> None:
        self._choices = list(schedule)
        self._next = 0
        self._plain = InTurn()
        self.controls_clock = controls_clock
        self.diverges_at: int | None = None
        self.enabled_there: tuple[str, ...] = ()

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
            if self.diverges_at is None:
                self.diverges_at = self._next - 1
                self.enabled_there = tuple(lane.name for lane in lanes)
        return self._plain.choose(lanes)

    def choose_value(self, count: int) -> int:
        """Take the number that comes next in the schedule; 0 if none does."""
        if self._next < len(self._choices):
            choice = self._choices[self._next]
            if isinstance(choice, int):
                self._next += 1
                return min(choice, count - 1)
        return 0
