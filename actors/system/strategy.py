"""What the world asks of a strategy: the only source of nondeterminism."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


class Strategy(ABC):
    """Makes the choices of one run: which lane steps next, and every other one.

    `controls_clock` strategies decide when each step happens (they set the clock in `advance`); for the others each
    step simply takes its cost, one after the other. A strategy that `is_replay` also makes the choices of the
    calm phases (see `World.begin_phase`), which are otherwise made by `InTurn`.
    """

    name: str
    controls_clock: bool = False
    is_replay: bool = False

    def advance(self, world: World) -> None:  # noqa: B027 -- most strategies do not need it
        """Set the clock to the time of the next step. Called only if `controls_clock`; the default does nothing."""

    @abstractmethod
    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Return the index of the lane that steps; *lanes* is never empty and always in the same order."""

    @abstractmethod
    def choose_value(self, count: int) -> int:
        """Return a number below *count*."""

    def choose_fault(self, probability: float) -> bool:
        """Say whether something goes wrong that does so with that probability; by default, a choice of two values."""
        return self.choose_value(2) == 1

    def draw_latency(self, low: int, high: int) -> int:
        """Return how long (ns) something takes that takes between *low* and *high*; by default, no time."""
        return 0


class InTurn(Strategy):
    """Each lane runs until it has to wait, then the next one does, in the order of their creation.

    The order in which nothing races: stages are set with it.
    """

    name = "in turn"

    def __init__(self) -> None:
        self._last = 0

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Stay with the lane that stepped last, if it can; or take the next one after it."""
        last, index = self._last, 0
        while lanes[index].bit < last:
            index += 1
            if index == len(lanes):
                index = 0
                break
        self._last = lanes[index].bit
        return index

    def went_on(self, lane: Lane) -> None:
        """Take it that *lane* stepped last, though somebody else chose it."""
        self._last = lane.bit

    def choose_value(self, _count: int) -> int:
        """Choose the first possibility, always."""
        return 0

    def choose_fault(self, _probability: float) -> bool:
        """Choose that nothing goes wrong."""
        return False
