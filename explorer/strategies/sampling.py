"""Searches that draw schedule after schedule: what they share, and what they learn from runs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import attrs

from actors.system.flow import Flow
from protocol.operations import READ

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.strategy import Strategy
    from actors.system.world import World

SPREAD = 0x9E3779B97F4A7C15
"""An odd number with random bits: schedules of one search get seeds that are far apart."""


class Search(Protocol):
    """Makes schedule after schedule. `needs_profile`: one run by another strategy has to be learnt from first."""

    needs_profile: bool

    def next_schedule(self) -> Strategy | None:
        """The strategy of the next schedule; None if there is nothing left to try."""

    def learn(self, run: Profile) -> None:
        """Take in what a schedule was like, before the next one is asked for."""


@attrs.frozen
class Profile:
    """What a search may learn from a run: the steps of the race by lane, and those at which there was a choice."""

    steps: Counter[str]
    choices: int


@attrs.define
class Profiler:
    """Wraps a strategy, chooses as it does, and counts."""

    strategy: Strategy
    steps: Counter[str] = attrs.field(factory=Counter)
    choices: int = 0

    @property
    def name(self) -> str:
        return self.strategy.name

    @property
    def keeps_time(self) -> bool:
        return self.strategy.keeps_time

    @property
    def follows_a_log(self) -> bool:
        return self.strategy.follows_a_log

    def advance(self, world: World) -> None:
        self.strategy.advance(world)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        index = self.strategy.choose(lanes)
        self.steps[lanes[index].name] += 1
        self.choices += len(lanes) > 1
        return index

    def choose_value(self, count: int) -> int:
        return self.strategy.choose_value(count)

    def choose_fault(self, probability: float) -> bool:
        return self.strategy.choose_fault(probability)

    def draw_latency(self, low: int, high: int) -> int:
        return self.strategy.draw_latency(low, high)

    def profile(self) -> Profile:
        return Profile(self.steps, self.choices)


class RandomValues:
    """The part of a sampling strategy that is the same for all: values and faults are drawn, time is not kept."""

    keeps_time = False
    follows_a_log = False

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def advance(self, world: World) -> None:
        """Time passes with the steps."""

    def choose_value(self, count: int) -> int:
        return int(self.random.random() * count)

    def choose_fault(self, probability: float) -> bool:
        return self.random.random() < probability

    def draw_latency(self, _low: int, _high: int) -> int:
        return 0


@attrs.define
class Sampler:
    """A search that draws schedules independently of each other: *make* gives the strategy for one seed."""

    make: Callable[[int], Strategy]
    seed: int
    needs_profile: bool = False
    drawn: int = 0

    def next_schedule(self) -> Strategy | None:
        seed = (self.seed + self.drawn * SPREAD) & 0xFFFF_FFFF_FFFF_FFFF if self.drawn else self.seed
        self.drawn += 1
        return self.make(seed)

    def learn(self, run: Profile) -> None:
        """Nothing: each draw is like the first."""


def conflicts(one: Lane, other: Lane) -> bool:
    """Whether the pending steps of two lanes race: they want the same object, and one of them changes it (4.0)."""
    if not (isinstance(one, Flow) and isinstance(other, Flow)):
        return False
    first, second = one.request, other.request
    return (
        first.target is not None
        and first.target is second.target
        and not (first.info.access is READ and second.info.access is READ)
    )
