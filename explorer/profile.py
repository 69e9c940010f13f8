"""Run profiles and run statistics: the lengths of a run and of its lanes, as strategies use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from actors.system.lane import Lane

SPREAD = 0x9E3779B97F4A7C15
"""An odd number with random bits; it spreads the seeds of a search's schedules far apart."""

SEED_MASK = 0xFFFF_FFFF_FFFF_FFFF


def seed_of(seed: int, schedule: int) -> int:
    """The seed of one schedule of a search; schedule 0 has the search's own seed, so that `run` repeats it."""
    return (seed + schedule * SPREAD) & SEED_MASK if schedule else seed


def is_of_interest(lane: Lane, word: str) -> bool:
    """Whether the pending step of *lane* is a lifecycle operation; with *word*, whether its target's label has it."""
    request = lane.request
    if request is None:
        return False
    if word:
        return request.target is not None and word in request.target.label
    return request.info.lifecycle


@attrs.frozen
class RunProfile:
    """The profile of one run.

    `steps` counts the steps of each lane in the race, `marked` the steps of interest among them (see `surw`), and
    `choices` the steps at which more than one lane was enabled.
    """

    steps: Mapping[str, int]
    marked: Mapping[str, int]
    choices: int


@attrs.define
class Knowledge:
    """Run statistics: the profiles of the runs so far, for strategies that need the lengths of lanes or runs."""

    runs: int = 0
    longest: int = 0
    steps: Counter[str] = attrs.field(factory=Counter)
    marked: Counter[str] = attrs.field(factory=Counter)

    def learn(self, run: RunProfile) -> None:
        """Add the profile of one more run."""
        self.runs += 1
        self.longest = max(self.longest, run.choices)
        self.steps.update(run.steps)
        self.marked.update(run.marked)

    def merge(self, other: Knowledge) -> None:
        """Add the profiles of all runs of *other*; the order of learning and merging does not matter."""
        self.runs += other.runs
        self.longest = max(self.longest, other.longest)
        self.steps.update(other.steps)
        self.marked.update(other.marked)

    def copy(self) -> Knowledge:
        """An independent copy, which later runs do not change."""
        return Knowledge(self.runs, self.longest, self.steps.copy(), self.marked.copy())

    def expected_steps(self) -> dict[str, float]:
        """The mean number of steps of each lane, by its name."""
        return {name: total / self.runs for name, total in self.steps.items()}

    def expected_marked(self) -> dict[str, float]:
        """The mean number of steps of interest of each lane, by its name."""
        return {name: total / self.runs for name, total in self.marked.items()}
