"""What the world asks of a strategy: the only source of nondeterminism."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


class Strategy(Protocol):
    """Who steps next, and every other choice.

    `keeps_time` strategies decide when each step happens (they set the clock in `advance`); for the others each
    step simply takes its cost, one after the other.
    """

    name: str
    keeps_time: bool

    def advance(self, world: World) -> None:
        """Bring the clock to the time of the next step (only called if `keeps_time`)."""

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Return the index of the lane that steps; *lanes* is never empty and always in the same order."""

    def choose_value(self, count: int) -> int:
        """Return a number below *count*."""

    def draw_latency(self, low: int, high: int) -> int:
        """Return how long (ns) something takes that takes between *low* and *high*; 0 if time is not kept."""
