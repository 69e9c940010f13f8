"""Run profiles: the lengths of a run and of its lanes, and the statistics that strategies learn from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from actors.system.lane import Lane

SPREAD = 0x9E3779B97F4A7C15
"""An odd number with random bits: the schedules of one search get seeds that are far apart."""

SEED_MASK = 0xFFFF_FFFF_FFFF_FFFF


def seed_of(seed: int, schedule: int) -> int:
    """The seed of one schedule of a search; that of schedule 0 is the search's own, so that `run` repeats it."""
    return (seed + schedule * SPREAD) & SEED_MASK if schedule else seed


def is_of_interest(lane: Lane, word: str) -> bool:
    """Whether the pending step of *lane* is one of a lifecycle; with *word*, one on an object whose label has it."""
    request = lane.request
    if request is None:
        return False
    if word:
        return request.target is not None and word in request.target.label
    return request.info.lifecycle


@attrs.frozen
class Profile:
    """What one run was like.

    The steps of each lane in the race, those of interest among them (see `surw`), and at how many steps there was a
    choice.
    """

    steps: Mapping[str, int]
    marked: Mapping[str, int]
    choices: int


@attrs.define
class Knowledge:
    """What the runs so far were like; strategies that need the lengths of lanes or runs take them from here."""

    runs: int = 0
    longest: int = 0
    _steps: Counter[str] = attrs.field(factory=Counter)
    _marked: Counter[str] = attrs.field(factory=Counter)

    def learn(self, run: Profile) -> None:
        """Take in one more run."""
        self.runs += 1
        self.longest = max(self.longest, run.choices)
        self._steps.update(run.steps)
        self._marked.update(run.marked)

    def copy(self) -> Knowledge:
        """What is known now, for somebody who must not learn more."""
        return Knowledge(self.runs, self.longest, self._steps.copy(), self._marked.copy())

    def expected_steps(self) -> dict[str, float]:
        """How many steps each lane does, as the mean over the runs, by its name."""
        return {name: total / self.runs for name, total in self._steps.items()}

    def expected_marked(self) -> dict[str, float]:
        """The same, of the steps of interest only."""
        return {name: total / self.runs for name, total in self._marked.items()}
