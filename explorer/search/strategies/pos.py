"""POS: every pending step has a random priority, which is drawn anew if it races with a step taken (SEARCH.md 4.5).

Yuan, Yang, Gu, "Partial Order Aware Concurrency Sampling", CAV 2018. Guarantee: every partial order of a program has a
lower bound of probability, exponentially better than that of a random walk in the number of independent steps. No
parameters. Departure: two steps race if they request the same object and one of them changes it (SEARCH.md 4.0);
further accesses of a step to the data of its own CPU do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.accesses import conflicts
from explorer.search.strategies.sampling import RandomValues

if TYPE_CHECKING:
    from actors.system.lane import Lane


class PartialOrderWalk(RandomValues):
    """One schedule."""

    name = "pos"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._priorities: dict[Lane, float] = {}

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Take the step with the highest priority, and draw anew for the steps that race with it."""
        if len(lanes) == 1:
            self._priorities.pop(lanes[0], None)
            return 0
        priorities = self._priorities
        for lane in lanes:
            if lane not in priorities:
                priorities[lane] = self.random()
        index = max(range(len(lanes)), key=lambda i: priorities[lanes[i]])
        chosen = lanes[index]
        del priorities[chosen]
        for lane in lanes:
            if lane is not chosen and conflicts(lane, chosen):
                del priorities[lane]
        return index
