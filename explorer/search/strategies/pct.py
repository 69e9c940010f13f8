"""PCT: random priorities with few changes (SEARCH.md 4.4).

Burckhardt, Kothari, Musuvathi, Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs",
ASPLOS 2010. Lanes get random priorities; the highest enabled one steps; at d-1 random points the lane that steps falls
below all others. Guarantee: a bug of depth d (d ordering constraints) is found with probability at least 1/(n k^(d-1))
a run, for n lanes and k steps. Departures: k is learnt from earlier runs, and counts only steps with more than one
enabled lane; lanes that are created later get a random place among the others; a lane is a flow with its one pending
request, or an actor with mail, so that races inside one mailbox are reordered, too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from explorer.profile import Knowledge
from explorer.search.strategies.sampling import RandomValues

if TYPE_CHECKING:
    from actors.system.lane import Lane


class PriorityWalk(RandomValues):
    """One schedule; the expected number of choices is that of the longest run *known*."""

    name = "pct"

    def __init__(self, seed: int, depth: int, known: Knowledge) -> None:
        super().__init__(seed)
        points = self._source.sample(range(max(known.longest, depth)), depth - 1)
        self._change_points = {point: -1.0 - rank for rank, point in enumerate(points)}
        self._priorities: dict[str, float] = {}
        self._choices = 0

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Take the lane with the highest priority; at a change point, lower its priority first."""
        if len(lanes) == 1:
            return 0
        index = self._highest(lanes)
        below_all = self._change_points.get(self._choices)
        self._choices += 1
        if below_all is None:
            return index
        self._priorities[lanes[index].name] = below_all
        return self._highest(lanes)

    def _highest(self, lanes: tuple[Lane, ...]) -> int:
        priorities, best, highest = self._priorities, 0, -math.inf
        for index, lane in enumerate(lanes):
            priority = priorities.get(lane.name)
            if priority is None:
                priority = priorities[lane.name] = self.random()
            if priority > highest:
                best, highest = index, priority
        return best
