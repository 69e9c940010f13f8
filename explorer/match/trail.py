"""The strategy that repeats the choices of a run along a trace, so that the run is recorded like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.system.strategy import Strategy

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


class Trail(Strategy):
    """Repeats the choices of a run along a trace in the race: the time and the lane of each step.

    If that run diverged from the trace, this one is `interrupted` there, and its log is the log of an unfinished run.
    """

    name = "match"
    controls_clock = True

    def __init__(self, steps: Sequence[tuple[int, int]], values: Sequence[int], *, is_whole: bool) -> None:
        self._steps = steps
        self._values = values
        self._is_whole = is_whole
        self._step = self._value = 0

    def advance(self, world: World) -> None:
        """Go to the time of the next step and fire due timers; stop after the last step."""
        if self._step < len(self._steps):
            world.now = max(world.now, self._steps[self._step][0])
            world.fire_timers()
        elif not self._is_whole:
            world.stop("interrupted")

    def choose(self, _lanes: tuple[Lane, ...]) -> int:
        """The recorded lane."""
        self._step += 1
        return self._steps[self._step - 1][1]

    def choose_value(self, _count: int) -> int:
        """The recorded value."""
        self._value += 1
        return self._values[self._value - 1]

    def choose_fault(self, _probability: float) -> bool:
        """Never a fault."""
        return False
