"""What the world asks of a strategy: the only source of nondeterminism."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


class Strategy(Protocol):
    """Who steps next, and every other choice.

    `keeps_time` strategies decide when each step happens (they set the clock in `advance`); for the others each
    step simply takes its cost, one after the other. A strategy that `follows_a_log` also makes the choices of the
    calm phases (see `World.begin_phase`), which are otherwise made by `InTurn`.
    """

    name: str
    keeps_time: bool
    follows_a_log: bool

    def advance(self, world: World) -> None:
        """Bring the clock to the time of the next step (only called if `keeps_time`)."""

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Return the index of the lane that steps; *lanes* is never empty and always in the same order."""

    def choose_value(self, count: int) -> int:
        """Return a number below *count*."""

    def choose_fault(self, probability: float) -> bool:
        """Say whether something goes wrong that does so with that probability."""

    def draw_latency(self, low: int, high: int) -> int:
        """Return how long (ns) something takes that takes between *low* and *high*; 0 if time is not kept."""


class InTurn:
    """Each lane runs until it has to wait, then the next one does, in the order of their creation.

    The order in which nothing races: stages are set with it.
    """

    name = "in turn"
    keeps_time = False
    follows_a_log = False

    def __init__(self) -> None:
        self._last = 0

    def advance(self, world: World) -> None:
        """Time passes with the steps."""

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

    def draw_latency(self, _low: int, _high: int) -> int:
        """Nothing takes longer than it must."""
        return 0
