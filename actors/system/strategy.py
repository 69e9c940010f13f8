"""The interface of strategies: a strategy is the only source of nondeterminism."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


class Strategy(ABC):
    """Makes the choices of one run: the lane that steps next, and every other choice.

    A strategy that `controls_clock` decides when each step happens: it sets the clock in `advance`. Under the others
    each step takes its cost, one after the other. A strategy that `is_replay` also makes the choices of sequential
    set-up phases (see `World.begin_phase`), which otherwise are the choices of `InTurn`.
    """

    name: str
    controls_clock: bool = False
    is_replay: bool = False

    def advance(self, world: World) -> None:  # noqa: B027 -- most strategies do not need it
        """Set the clock to the time of the next step; by default, do nothing. Called only if `controls_clock`."""

    @abstractmethod
    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Return the index of the lane that steps; *lanes* is never empty and always in the order of slots."""

    @abstractmethod
    def choose_value(self, count: int) -> int:
        """Return a number below *count*."""

    def choose_fault(self, probability: float) -> bool:
        """Say whether a fault of this probability happens now; by default, a choice of two values."""
        return self.choose_value(2) == 1

    def draw_latency(self, low: int, high: int) -> int:
        """Return a latency (ns) between *low* and *high*, or 0 for none, as by default."""
        return 0


class InTurn(Strategy):
    """The non-preemptive schedule: each lane runs until it must wait, then the next one in the order of slots.

    Nothing races in it. Scenarios do their sequential set-up with it.
    """

    name = "in turn"

    def __init__(self) -> None:
        self._last = -1

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Stay with the lane that stepped last if it is enabled; otherwise take the next enabled one after it."""
        last, index = self._last, 0
        while lanes[index].slot < last:
            index += 1
            if index == len(lanes):
                index = 0
                break
        self._last = lanes[index].slot
        return index

    def went_on(self, lane: Lane) -> None:
        """Tell this schedule which lane another strategy let run."""
        self._last = lane.slot

    def choose_value(self, _count: int) -> int:
        """Choose the first possibility."""
        return 0

    def choose_fault(self, _probability: float) -> bool:
        """Choose that no fault happens."""
        return False
