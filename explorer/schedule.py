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
