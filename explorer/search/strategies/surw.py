"""SURW: uniform over the orders of the steps of interest (SEARCH.md 4.3).

Zhao, Wolff, Mathur, Roychoudhury, "Selectively Uniform Concurrency Testing", ASPLOS 2025, section 4. Some steps are of
interest. The lane that makes the next of these is drawn as in URW, and other lanes that reach such a step are held
until then. Guarantee: if the counts are right, uniform over the projections onto these steps; every schedule keeps a
probability above zero.

By default the operations declared with `lifecycle=True` are of interest; with `surw:OBJECT`, the operations on objects
whose label contains the word. Departures: counts are learnt as in URW; other steps are chosen uniformly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.profile import Knowledge, is_of_interest
from explorer.search.strategies.sampling import RandomValues, draw

if TYPE_CHECKING:
    from actors.system.lane import Lane


class SelectiveWalk(RandomValues):
    """One schedule, with the counts of steps of interest in *known*."""

    name = "surw"

    def __init__(self, seed: int, word: str, known: Knowledge) -> None:
        super().__init__(seed)
        self._word = word
        self._left = known.expected_marked()
        self._intended: str | None = None
        self._held: set[str] = set()

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Draw a lane; hold it if its step is of interest and another lane is to make the next one."""
        while True:
            free = [index for index, lane in enumerate(lanes) if lane.name not in self._held]
            if not free:
                self._release()
                continue
            index = free[int(self.random() * len(free))]
            lane = lanes[index]
            if not is_of_interest(lane, self._word):
                return index
            if self._intended is None:
                self._intended = self._draw([lanes[i].name for i in free])
            if lane.name == self._intended:
                self._left[lane.name] = self._left.get(lane.name, 1.0) - 1.0
                self._release()
                return index
            self._held.add(lane.name)

    def _release(self) -> None:
        self._held.clear()
        self._intended = None

    def _draw(self, names: list[str]) -> str:
        return names[draw(self.random(), [max(self._left.get(name, 1.0), 1.0) for name in names])]
