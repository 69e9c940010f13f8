"""SURW: uniform over the orders of the steps that matter.

Zhao, Wolff, Mathur, Roychoudhury, "Selectively Uniform Concurrency Testing", ASPLOS 2025, section 4. Some steps are of
interest; which lane does the next of these is drawn as in URW, and lanes that come to such a step out of turn are held
until it has happened. Guarantee: if the counts are right, uniform over the projections onto those steps; every schedule
keeps a probability above zero.

Of interest by default are the steps of the lifecycle (`LIFECYCLE`); `surw:OBJECT` takes those that ask for an object
whose label contains the word. Departures: counts are learnt as in URW; other steps are chosen uniformly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.system.flow import Flow
from explorer.strategies.sampling import SPREAD, Profile, RandomValues
from explorer.strategies.urw import LearntCounts

if TYPE_CHECKING:
    from actors.system.lane import Lane

LIFECYCLE = frozenset(
    [
        "set_flags",
        "clear_flags",
        "begin_switch",
        "end_switch",
        "atomic_add",
        "free_percpu",
        "start_gp",
        "end_gp",
        "irq_exit",
        "insert",
        "take",
        "set_dying",
        "read_dying",
        "set_work_fn",
        "read_work_fn",
        "set_memcg",
        "read_memcg",
        "set_entry",
        "read_entry",
        "set_kmem_state",
        "read_kmem_state",
        "add_refcount",
        "del_child",
        "delete",
        "add_online_cnt",
        "mark_dying",
        "move_task",
        "cmpxchg_double",
        "mutex_lock",
        "spin_lock",
    ]
)
"""Operations by which a cache, a memcg or what holds them gets from one state of its life into another."""


def is_of_interest(lane: Lane, word: str) -> bool:
    """Whether the pending step of *lane* counts."""
    if not isinstance(lane, Flow):
        return False
    request = lane.request
    if word:
        return request.target is not None and word in request.target.label
    return request.info.name in LIFECYCLE


class SelectiveWalk(RandomValues):
    """One schedule; *left* are the interesting steps that each lane is expected to do yet."""

    name = "surw"

    def __init__(self, seed: int, word: str, left: dict[str, float]) -> None:
        super().__init__(seed)
        self._word = word
        self._left = left
        self._intended: str | None = None
        self._held: set[str] = set()
        self.done: dict[str, int] = {}

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        while True:
            free = [index for index, lane in enumerate(lanes) if lane.name not in self._held]
            if not free:
                self._held.clear()
                self._intended = None
                continue
            index = free[int(self.random.random() * len(free))]
            lane = lanes[index]
            if not is_of_interest(lane, self._word):
                return index
            if self._intended is None:
                self._intended = self._draw([lanes[i] for i in free])
            if lane.name == self._intended:
                self._left[lane.name] = self._left.get(lane.name, 1.0) - 1.0
                self.done[lane.name] = self.done.get(lane.name, 0) + 1
                self._held.clear()
                self._intended = None
                return index
            self._held.add(lane.name)

    def _draw(self, lanes: list[Lane]) -> str:
        weights = [max(self._left.get(lane.name, 1.0), 1.0) for lane in lanes]
        return self.random.choices([lane.name for lane in lanes], weights)[0]


@attrs.define
class Surw:
    """uniform over the orders of lifecycle steps, or of those on one object (surw:OBJECT); lengths are learnt"""

    seed: int
    word: str = ""
    needs_profile: bool = False
    counts: LearntCounts = attrs.field(factory=LearntCounts)
    drawn: int = 0
    _current: SelectiveWalk | None = None

    def next_schedule(self) -> SelectiveWalk:
        self.drawn += 1
        left = self.counts.expected() if self.counts.runs else {}
        self._current = SelectiveWalk(self.seed + self.drawn * SPREAD, self.word, left)
        return self._current

    def learn(self, run: Profile) -> None:
        """Only the steps of interest count, and the schedule itself has counted them."""
        if self._current is not None:
            self.counts.totals.update(self._current.done)
            self.counts.runs += 1
