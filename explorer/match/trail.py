"""Making the choices of a run again, so that it is recorded as any other run is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.system.strategy import Strategy

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


class Trail(Strategy):
    """The choices of a run along a trace while the tasks raced: the time of each step, and which lane stepped.

    If that run left the trace, this one is `interrupted` where it did: its log is that of a run that did not end.
    """

    name = "match"
    controls_clock = True

    def __init__(self, steps: Sequence[tuple[int, int]], values: Sequence[int], *, is_whole: bool) -> None:
        self._steps = steps
        self._values = values
        self._is_whole = is_whole
        self._step = self._value = 0

    def advance(self, world: World) -> None:
        """Go to the time of the next step, at which what is due fires; or stop behind the last one."""
        if self._step < len(self._steps):
            world.now = max(world.now, self._steps[self._step][0])
            world.fire_timers()
        elif not self._is_whole:
            world.stop("interrupted")

    def choose(self, _lanes: tuple[Lane, ...]) -> int:
        """The lane that stepped."""
        self._step += 1
        return self._steps[self._step - 1][1]

    def choose_value(self, _count: int) -> int:
        """The value that was chosen."""
        self._value += 1
        return self._values[self._value - 1]

    def choose_fault(self, _probability: float) -> bool:
        """Nothing failed."""
        return False
