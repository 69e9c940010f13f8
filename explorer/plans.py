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

PORTFOLIO = {"surw": 1.0, "pos": 2.0, "pct:2": 2.0, "pct:3": 2.0, "pct:4": 2.0, "urw": 1.0, "random": 1.0}
"""The samplers that the portfolio weighs against each other (SEARCH.md 4.10), in the order of their first turns.

The numbers are their shares while none has anything new to show. Walks find what is shallow, and soon; what needs some
orders at once is found by the strategies that have a bound for it (docs/strategies.md has the figures).
"""

PORTFOLIO_SUMMARY = "the samplers by what has paid, and dpor by itself when it seems to fit (explore's default)"

LEAST_SAMPLED = 16
"""Schedules before the portfolio judges whether an exact search would fit."""

MOST_NEW = 0.5
"""The chance that the next schedule is of a new class above which nobody can say how many classes there are."""

LEAST_EXACT, TOO_MANY = 1_000, 8
"""An exact search is given up after so many schedules, but not before so many times the classes seen until then."""

NEW_FINDING = 16.0
"""How many new pairs of racing operations a new finding is worth when strategies are weighed."""

FORGETTING = 0.9
"""By how much the yield of older jobs counts less with each new one of the same strategy."""


@attrs.frozen
class News:
    """What a job brought that was not known: trace classes, findings, ordered pairs of racing operations."""

    classes: int = 0
    findings: int = 0
    pairs: int = 0


class Plan(Protocol):
    """What to try next. `exact_room`: how many schedules an exact search gets before the sampling goes on."""

    exact_room: int

    def next_job(self, room: int) -> Job | None:
        """The next job, of at most *room* schedules; None to try an exact search."""

    def take(self, job: Job, report: Report, news: News) -> None:
        """Learn from what became of a job."""


@attrs.define
class Sampling:
    """One strategy, schedule after schedule."""

    strategy: str
    seed: int
    known: Knowledge = attrs.field(factory=Knowledge)
    exact_room: int = 0
    _next: int = 0

    def next_job(self, room: int) -> Job:
        """As many schedules as a job has; only one to begin with if the strategy has to learn first."""
        learns_first = find_strategy(self.strategy)[0].learns and not self._next
        count = 1 if learns_first else min(SCHEDULES_PER_JOB, room)
        job = Job(self.strategy, self.seed, self._next, count, self.known.copy())
        self._next += count
        return job

    def take(self, job: Job, report: Report, news: News) -> None:  # noqa: ARG002 -- the protocol
        """Learn the lengths of lanes and runs."""
        for profile in report.profiles:
            self.known.learn(profile)


@attrs.define
class Arm:
    """A strategy of the portfolio, its share, and what its schedules have brought of late."""

    strategy: str
    share: float
    schedules: float = 0.0
    gain: float = 0.0

    @property
    def weight(self) -> float:
        """Its share, and more of it the more a schedule brings."""
        return self.share * (1.0 + self.gain / (self.schedules + 1.0))


@attrs.define
class Portfolio:
    """The fair schedule first, then the samplers, by what has paid in new racing pairs and new findings.

    New classes do not steer: where there are very many, every schedule is of a new one. An exact search is tried once;
    if there is much more than it seemed, the samplers go on.
    """

    seed: int
    sightings: Sightings
    known: Knowledge = attrs.field(factory=Knowledge)
    exact_room: int = 0
    arms: dict[str, Arm] = attrs.field(factory=lambda: {name: Arm(name, share) for name, share in PORTFOLIO.items()})
    _random: random.Random = attrs.field(init=False)
    _waiting: list[str] = attrs.field(factory=lambda: list(PORTFOLIO))
    _next: int = 0

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def next_job(self, room: int) -> Job | None:
        """None once an exact search seems to fit into *room*. The first jobs are short: what is small is soon seen."""
        if not self.exact_room and self.sightings.total >= LEAST_SAMPLED and self._seems_small(room):
            self.exact_room = max(LEAST_EXACT, TOO_MANY * self.sightings.classes)
            return None
        if not self._next:
            return self._job("roundrobin", 1)
        if self._waiting:
            return self._job(self._waiting.pop(0), 1)
        return self._job(self._choose(), min(SCHEDULES_PER_JOB, max(self._next // SCHEDULES_PER_JOB, 1), room))

    def take(self, job: Job, report: Report, news: News) -> None:
        """Weigh the strategy anew."""
        for profile in report.profiles:
            self.known.learn(profile)
        arm = self.arms.get(job.strategy)
        if arm is not None:
            arm.schedules = arm.schedules * FORGETTING + job.count
            arm.gain = arm.gain * FORGETTING + news.pairs + NEW_FINDING * news.findings

    def _choose(self) -> str:
        names: Sequence[str] = list(self.arms)
        return names[draw(self._random.random(), [self.arms[name].weight for name in names])]

    def _job(self, strategy: str, count: int) -> Job:
        job = Job(strategy, self.seed, self._next, count, self.known.copy())
        self._next += count
        return job

    def _seems_small(self, room: int) -> bool:
        """Whether all classes, as far as can be judged, could be gone through twice."""
        seen = self.sightings
        return seen.chance_of_new <= MOST_NEW and 2 * (seen.classes + seen.at_least_unseen) < room
