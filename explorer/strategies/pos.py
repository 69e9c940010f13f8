"""POS: every pending step has a random priority, drawn anew when it races with one that happens.

Yuan, Yang, Gu, "Partial Order Aware Concurrency Sampling", CAV 2018. Guarantee: every partial order of a program has a
lower bound of probability, exponentially better than that of a random walk in the number of independent steps. No
parameters. Departure: racing is judged by the object that a step asks for, and whether one of the two changes it (SEARCH
4.0); what steps do to their own CPU's data on the side is not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from explorer.strategies.sampling import SPREAD, Profile, RandomValues, conflicts

if TYPE_CHECKING:
    from actors.system.lane import Lane


class PartialOrderWalk(RandomValues):
    """One schedule."""

    name = "pos"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._priorities: dict[Lane, float] = {}

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        priorities = self._priorities
        for lane in lanes:
            if lane not in priorities:
                priorities[lane] = self.random.random()
        index = max(range(len(lanes)), key=lambda i: priorities[lanes[i]])
        chosen = lanes[index]
        del priorities[chosen]
        for lane in lanes:
            if lane is not chosen and conflicts(lane, chosen):
                del priorities[lane]
        return index


@attrs.define
class Pos:
    """random priorities of steps, drawn anew for those that race with the one that happens"""

    seed: int
    needs_profile: bool = False
    drawn: int = 0

    def next_schedule(self) -> PartialOrderWalk:
        self.drawn += 1
        return PartialOrderWalk(self.seed + self.drawn * SPREAD)

    def learn(self, run: Profile) -> None:
        """Nothing: it has no parameters."""
