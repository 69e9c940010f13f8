"""URW: every interleaving with the same probability (SEARCH.md 4.2).

Zhao, Wolff, Mathur, Roychoudhury, "Selectively Uniform Concurrency Testing", ASPLOS 2025, section 3. A lane is chosen
with a probability proportional to the number of its remaining steps. Guarantee: if the counts are right and nothing
blocks, each of the (sum e)! / prod(e!) interleavings is equally likely. Departures: counts are the running mean of
earlier runs, by the stable name of the lane; a lane that is new gets the smallest count; a count never falls below one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.profile import Knowledge
from explorer.search.strategies.sampling import RandomValues, draw

if TYPE_CHECKING:
    from actors.system.lane import Lane


class UniformWalk(RandomValues):
    """One schedule, with the lengths of the lanes in *known*."""

    name = "urw"

    def __init__(self, seed: int, known: Knowledge) -> None:
        super().__init__(seed)
        self._left = known.expected_steps()
        self._unknown = max(min(self._left.values(), default=1.0), 1.0)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Draw a lane, weighted by its remaining steps."""
        left = self._left
        weights = [max(left.get(lane.name, self._unknown), 1.0) for lane in lanes]
        index = draw(self.random(), weights)
        left[lanes[index].name] = weights[index] - 1.0
        return index
