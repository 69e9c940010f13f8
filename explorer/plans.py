"""In which order a search tries strategies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import attrs

from explorer.estimate import Sightings
from explorer.jobs import SCHEDULES_PER_JOB, Job, Report
from explorer.strategies import Knowledge, find_strategy
from explorer.strategies.sampling import draw

PORTFOLIO = ("urw", "surw", "pos", "pct:3", "random")
"""The samplers that the portfolio weighs against each other (SEARCH.md 4.10)."""

PORTFOLIO_SUMMARY = "the samplers by what has paid, and dpor by itself when it seems to fit (explore's default)"

LEAST_SAMPLED = 128
"""Schedules before the portfolio judges whether an exact search would fit."""

NEW_FINDING = 16.0
"""How many new classes a new finding is worth when strategies are weighed."""

FORGETTING = 0.9
"""By how much the yield of older jobs counts less with each new one of the same strategy."""


class Plan(Protocol):
    """What to try next."""

    def next_job(self, room: int) -> Job | None:
        """The next job, of at most *room* schedules; None to leave the sampling."""

    def take(self, job: Job, report: Report, new_classes: int, new_findings: int) -> None:
        """Learn from what became of a job."""


@attrs.define
class Sampling:
    """One strategy, schedule after schedule."""

    strategy: str
    seed: int
    known: Knowledge = attrs.field(factory=Knowledge)
    _next: int = 0

    def next_job(self, room: int) -> Job:
        """As many schedules as a job has; only one to begin with if the strategy has to learn first."""
        learns_first = find_strategy(self.strategy)[0].learns and not self._next
        count = 1 if learns_first else min(SCHEDULES_PER_JOB, room)
        job = Job(self.strategy, self.seed, self._next, count, self.known.copy())
        self._next += count
        return job

    def take(self, job: Job, report: Report, new_classes: int, new_findings: int) -> None:  # noqa: ARG002 -- the protocol
        """Learn the lengths of lanes and runs."""
        for profile in report.profiles:
            self.known.learn(profile)


@attrs.define
class Arm:
    """A strategy of the portfolio, and what its schedules have brought of late."""

    strategy: str
    schedules: float = 0.0
    gain: float = 0.0

    @property
    def weight(self) -> float:
        """What a schedule of it brings; the less is known, the closer to one."""
        return (self.gain + 1.0) / (self.schedules + 1.0)


@attrs.define
class Portfolio:
    """The fair schedule first, then the samplers, by what has paid in new classes and new findings."""

    seed: int
    sightings: Sightings
    known: Knowledge = attrs.field(factory=Knowledge)
    arms: dict[str, Arm] = attrs.field(factory=lambda: {name: Arm(name) for name in PORTFOLIO})
    _random: random.Random = attrs.field(init=False)
    _waiting: list[str] = attrs.field(factory=lambda: list(PORTFOLIO))
    _next: int = 0

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def next_job(self, room: int) -> Job | None:
        """None once an exact search seems to fit into *room*."""
        if self.sightings.total >= LEAST_SAMPLED and self._seems_small(room):
            return None
        if not self._next:
            return self._job("roundrobin", 1)
        return self._job(self._choose(), min(SCHEDULES_PER_JOB, room))

    def take(self, job: Job, report: Report, new_classes: int, new_findings: int) -> None:
        """Weigh the strategy anew."""
        for profile in report.profiles:
            self.known.learn(profile)
        arm = self.arms.get(job.strategy)
        if arm is not None:
            arm.schedules = arm.schedules * FORGETTING + job.count
            arm.gain = arm.gain * FORGETTING + new_classes + NEW_FINDING * new_findings

    def _choose(self) -> str:
        if self._waiting:
            return self._waiting.pop(0)
        names: Sequence[str] = list(self.arms)
        return names[draw(self._random.random(), [self.arms[name].weight for name in names])]

    def _job(self, strategy: str, count: int) -> Job:
        job = Job(strategy, self.seed, self._next, count, self.known.copy())
        self._next += count
        return job

    def _seems_small(self, room: int) -> bool:
        """Whether all classes, as far as can be judged, could be gone through twice."""
        return 2 * (self.sightings.classes + self.sightings.at_least_unseen) < room
