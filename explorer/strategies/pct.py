"""PCT: priorities, and few changes of them.

Burckhardt, Kothari, Musuvathi, Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS
2010. Lanes get random priorities; the highest enabled one steps; at d-1 random points the lane that steps falls below all
others. Guarantee: a bug of depth d (d ordering constraints) is found with probability at least 1/(n k^(d-1)) a run, for n
lanes and k steps. Departures: k is learnt from earlier runs and counts only steps at which there was a choice; lanes that
come up later get a random place among the others; a lane is a flow with its one pending request, or an actor with mail,
so that races inside one mailbox are reordered, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from explorer.strategies.sampling import SPREAD, Profile, RandomValues

if TYPE_CHECKING:
    from actors.system.lane import Lane

DEPTH = 3


class PriorityWalk(RandomValues):
    """One schedule; *length* is how many choices there are expected to be."""

    name = "pct"

    def __init__(self, seed: int, depth: int, length: int) -> None:
        super().__init__(seed)
        points = self.random.sample(range(max(length, depth)), depth - 1)
        self._change_points = {point: -1.0 - rank for rank, point in enumerate(sorted(points))}
        self._priorities: dict[str, float] = {}
        self._choices = 0

    def choose(self, lanes: tuple[Lane, ...]) -> int:
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
        priorities = self._priorities
        for lane in lanes:
            if lane.name not in priorities:
                priorities[lane.name] = self.random.random()
        return max(range(len(lanes)), key=lambda index: priorities[lanes[index].name])


@attrs.define
class Pct:
    """priorities with D-1 random changes (pct:D; D is 3 if not said); the length of a run is learnt"""

    seed: int
    depth: int = DEPTH
    needs_profile: bool = True
    length: int = 1
    drawn: int = 0

    def next_schedule(self) -> PriorityWalk:
        self.drawn += 1
        return PriorityWalk(self.seed + self.drawn * SPREAD, self.depth, self.length)

    def learn(self, run: Profile) -> None:
        """The longest run so far: a change point beyond the end is only a wasted one."""
        self.length = max(self.length, run.choices)
