"""URW: every interleaving with the same probability.

Zhao, Wolff, Mathur, Roychoudhury, "Selectively Uniform Concurrency Testing", ASPLOS 2025, section 3. A lane is chosen with a
probability proportional to the steps that it has yet to do. Guarantee: if the counts are right and nothing blocks, each
of the (sum e)! / prod(e!) interleavings is equally likely. Departures: counts are the running mean of earlier runs, by the
stable name of the lane; a lane that nobody has seen gets the smallest count; a count never falls below one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

from explorer.strategies.sampling import SPREAD, Profile, RandomValues

if TYPE_CHECKING:
    from actors.system.lane import Lane


class UniformWalk(RandomValues):
    """One schedule: *left* are the steps that each lane is expected to do yet."""

    name = "urw"

    def __init__(self, seed: int, left: dict[str, float], unknown: float) -> None:
        super().__init__(seed)
        self._left = left
        self._unknown = unknown

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        left = self._left
        weights = [max(left.get(lane.name, self._unknown), 1.0) for lane in lanes]
        point = self.random.random() * sum(weights)
        index = 0
        while point >= weights[index] and index < len(lanes) - 1:
            point -= weights[index]
            index += 1
        left[lanes[index].name] = weights[index] - 1.0
        return index


@attrs.define
class LearntCounts:
    """How many steps each lane does in a race, as the mean of the runs seen so far."""

    totals: Counter[str] = attrs.field(factory=Counter)
    runs: int = 0

    def learn(self, run: Profile) -> None:
        """Add one run."""
        self.totals.update(run.steps)
        self.runs += 1

    def expected(self) -> dict[str, float]:
        """The means, by lane."""
        return {name: total / self.runs for name, total in self.totals.items()}


@attrs.define
class Urw:
    """uniform over interleavings; the lengths of the lanes are learnt"""

    seed: int
    needs_profile: bool = True
    counts: LearntCounts = attrs.field(factory=LearntCounts)
    drawn: int = 0

    def next_schedule(self) -> UniformWalk:
        self.drawn += 1
        left = self.counts.expected()
        return UniformWalk(self.seed + self.drawn * SPREAD, left, min(left.values(), default=1.0))

    def learn(self, run: Profile) -> None:
        self.counts.learn(run)
