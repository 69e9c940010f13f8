"""In which order a search tries strategies."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Protocol

import attrs

from explorer.profile import Knowledge
from explorer.search.estimate import Sightings
from explorer.search.jobs import SCHEDULES_PER_JOB, Job, Report
from explorer.search.registry import find_strategy
from explorer.search.strategies.sampling import draw

SHARES = {"surw": 1.0, "pos": 2.0, "pct:2": 2.0, "pct:3": 2.0, "pct:4": 2.0, "urw": 1.0, "random": 1.0}
"""The samplers that the portfolio weighs against each other (SEARCH.md 4.10), in the order of their first turns.

The numbers are their shares while none has anything new to show. Walks find what is shallow, and soon; what needs some
orders at once is found by the strategies that have a bound for it (docs/strategies.md has the figures).
"""

LEAST_SAMPLED = 16
"""Draws (see `explorer.search.estimate`) before the portfolio judges whether an exact search would fit."""

MOST_NEW = 0.5
"""The chance that the next schedule is of a new class above which nobody can say how many classes there are."""

LEAST_EXACT = 32
"""For how many schedules an exact search is tried at least."""

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

    New classes do not steer: where there are very many, every schedule is of a new one. An exact search begins when so
    few schedules seem to be possible that one may run them all, or so few classes, once some have been sampled. If it
    does not come to its end when it should have, it takes turns with the samplers from then on, each turn twice as
    long: what seems small may be large behind some rare choice. `_exact_at` is when its next turn is due,
    `_log10_alternatives` the largest product of the numbers of alternatives that a schedule has had.
    """

    seed: int
    sightings: Sightings
    known: Knowledge = attrs.field(factory=Knowledge)
    exact_room: int = 0
    arms: dict[str, Arm] = attrs.field(factory=lambda: {name: Arm(name, share) for name, share in SHARES.items()})
    _random: random.Random = attrs.field(init=False)
    _exact_at: int = 1
    _log10_alternatives: float | None = None
    _waiting: list[str] = attrs.field(factory=lambda: list(SHARES))
    _next: int = 0

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def next_job(self, room: int) -> Job | None:
        """None once an exact search seems to fit into *room*. The first jobs are short: what is small is soon seen."""
        if self.sightings.total >= self._exact_at:
            alternatives = self._alternatives_within(room)
            if self.exact_room or alternatives or self._seems_small(room):
                self._give_exact_turn(room, alternatives)
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
        for outcome in report.outcomes:
            self._log10_alternatives = max(self._log10_alternatives or 0.0, outcome.log10_alternatives)
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

    def _give_exact_turn(self, room: int, alternatives: int) -> None:
        """An exact search gets as much as it seems to need, then twice as much; the samplers get the same after it."""
        wanted = 2 * self.exact_room or max(LEAST_EXACT, self._classes_at_least(), alternatives)
        self.exact_room = max(1, min(wanted, room if alternatives else room // 2))
        self._exact_at = self.sightings.total + 2 * self.exact_room

    def _alternatives_within(self, room: int) -> int:
        """How many schedules seem to be possible, if *room* is enough for all of them; otherwise 0."""
        log10 = self._log10_alternatives
        return round(10**log10) if log10 is not None and log10 <= math.log10(room) else 0

    def _classes_at_least(self) -> int:
        return self.sightings.classes + math.ceil(self.sightings.at_least_unseen or 0)

    def _seems_small(self, room: int) -> bool:
        """Whether all classes, as far as can be judged, could be gone through twice."""
        chance = self.sightings.chance_of_new
        can_be_judged = self.sightings.draws.total() >= LEAST_SAMPLED and chance is not None and chance <= MOST_NEW
        return can_be_judged and 2 * self._classes_at_least() < room
