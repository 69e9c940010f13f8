"""What strategies that draw schedules share, and what they know from the runs before."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from protocol.operations import UPDATE

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World

SPREAD = 0x9E3779B97F4A7C15
"""An odd number with random bits: the schedules of one search get seeds that are far apart."""

SEED_MASK = 0xFFFF_FFFF_FFFF_FFFF


def seed_of(seed: int, schedule: int) -> int:
    """The seed of one schedule of a search; that of schedule 0 is the search's own, so that `run` repeats it."""
    return (seed + schedule * SPREAD) & SEED_MASK if schedule else seed


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


class RandomValues:
    """The part of a sampling strategy that is the same for all: values and faults are drawn, time is not kept."""

    keeps_time = False
    follows_a_log = False

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self.random = self._source.random

    def advance(self, world: World) -> None:
        """Time passes with the steps."""

    def choose_value(self, count: int) -> int:
        """Draw a number below *count*."""
        return int(self.random() * count)

    def choose_fault(self, probability: float) -> bool:
        """Draw whether something goes wrong."""
        return self.random() < probability

    def draw_latency(self, _low: int, _high: int) -> int:
        """Nothing takes longer than it must."""
        return 0


def conflicts(one: Lane, other: Lane) -> bool:
    """Whether the pending steps of two lanes race: they want the same object, and one of them changes it (4.0)."""
    first, second = one.request, other.request
    return (
        first is not None
        and second is not None
        and first.target is not None
        and first.target is second.target
        and (first.info.access is UPDATE or first.info.access is not second.info.access)
    )


def draw(point: float, weights: list[float]) -> int:
    """The index that *point*, a random number in [0, 1), falls on among *weights*."""
    point *= sum(weights)
    last = len(weights) - 1
    for index, weight in enumerate(weights):
        if point < weight or index == last:
            return index
        point -= weight
    msg = "there is nothing to draw from"
    raise ValueError(msg)
