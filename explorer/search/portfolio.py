"""The portfolio: a search that divides its budget among samplers by recent yield, and adds an exact search if it fits.

There is no paper: it is a bandit with discounted yields (SEARCH.md 4.10). It has no guarantees beyond those of its
searches, each of which keeps a share. The exact search explores in turns exactly what it explores alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from explorer.search.jobs import SCHEDULES_PER_JOB, Job
from explorer.search.sampling import Draws
from explorer.search.strategies.sampling import draw

if TYPE_CHECKING:
    from explorer.search.estimate import Sightings
    from explorer.search.jobs import JobReport, News
    from explorer.search.protocol import Search
    from explorer.search.strategies.prefix import Following

SHARES = {"surw": 1.0, "pos": 2.0, "pct:2": 2.0, "pct:3": 2.0, "pct:4": 2.0, "urw": 1.0, "random": 1.0}
"""The samplers of the portfolio with their shares (SEARCH.md 4.10), in the order of their first turns.

The shares apply while no sampler has a yield. Walks find shallow flaws soon; flaws that need several ordering
constraints at once are found by the strategies with a bound for them (docs/strategies.md has the figures).
"""

SHARE_OF_MORE = 2.0
"""The share of a sampler that the user names."""

LEAST_SAMPLED = 16
"""Draws (see `explorer.search.estimate`) before the portfolio estimates whether an exact search would fit."""

MOST_NEW = 0.5
"""Above this chance of a new class, the number of classes cannot be estimated."""

LEAST_EXACT = 32
"""Least number of schedules in the first turn of an exact search."""

NEW_FINDING = 16.0
"""Weight of a new finding, in new pairs of racing operations."""

FORGETTING = 0.9
"""Discount factor of a strategy's earlier yields, applied at each of its jobs."""


@attrs.define
class Arm:
    """The share of a sampler, and its discounted counts of schedules and of new things."""

    share: float
    schedules: float = 0.0
    gain: float = 0.0

    @property
    def weight(self) -> float:
        """The share, increased by the recent yield per schedule."""
        return self.share * (1.0 + self.gain / (self.schedules + 1.0))

    def learn(self, schedules: int, news: News) -> None:
        """Add the yield of a job."""
        self.schedules = self.schedules * FORGETTING + schedules
        self.gain = self.gain * FORGETTING + news.pairs + NEW_FINDING * news.findings


@attrs.define
class Samplers:
    """A search with several samplers: jobs are given out at random, weighted by recent yields.

    A yield is new racing pairs and new findings. New classes do not count: where there are very many, every schedule is
    in a new class. The first schedules are the fair one, and one of each sampler. `more` is one more sampler, besides
    those of `SHARES`.
    """

    seed: int
    more: str = ""
    draws: Draws = attrs.field(init=False)
    arms: dict[str, Arm] = attrs.field(init=False)
    _random: random.Random = attrs.field(init=False)
    _waiting: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.draws = Draws(self.seed)
        shares = {**SHARES, self.more: SHARE_OF_MORE} if self.more else SHARES
        self.arms = {name: Arm(share) for name, share in shares.items()}
        self._waiting = ["roundrobin", *shares]

    def next_schedule(self, room: int = 1) -> Job:
        """The next job of a sampler. The first jobs are short, so that a small search space is noticed soon."""
        if self._waiting:
            return self.draws.job(self._waiting.pop(0), 1)
        longest = max(self.draws.next // SCHEDULES_PER_JOB, 1)
        return self.draws.job(self._choose(), min(SCHEDULES_PER_JOB, longest, room))

    def learn(self, job: Job, report: JobReport) -> None:
        """Update the run statistics, and the sampler's weight."""
        self.draws.learn(report)
        arm = self.arms.get(job.strategy)
        if arm is not None:
            arm.learn(job.count, report.news)

    @property
    def done(self) -> bool:
        """Always false: another schedule can always be drawn."""
        return False

    def _choose(self) -> str:
        names: Sequence[str] = list(self.arms)
        return names[draw(self._random.random(), [self.arms[name].weight for name in names])]


@attrs.define
class Portfolio:
    """Runs jobs of *samplers*, a search of its own, and takes turns with an exact search if that seems to fit.

    An exact search begins when the estimated number of schedules, or of classes once some schedules were sampled, fits
    into the budget. If it is not exhausted within its turn, it alternates with the samplers from then on, with turns
    that double in length: a search space that seems small may be large behind a rare choice. A turn begins when no job
    is in progress.

    `sightings` are the class counts of the whole campaign. `turn` is the length of the exact search's latest turn, and
    `_left` how much of it remains; at `_exact_at` schedules its next turn is due. `_under_way` counts jobs in progress.
    `_log10_alternatives` is the largest product of the numbers of alternatives of a schedule.
    """

    sightings: Sightings
    exact: Search
    samplers: Search
    turn: int = 0
    _under_way: int = attrs.field(default=0, init=False)
    _left: int = attrs.field(default=0, init=False)
    _exact_at: int = attrs.field(default=1, init=False)
    _log10_alternatives: float | None = attrs.field(default=None, init=False)

    def next_schedule(self, room: int = 1) -> Job | Following | None:
        """A schedule of the exact search in its turn, otherwise a job of a sampler; None if a job has to end first."""
        if not self._left and self._has_turn(room):
            self.turn = self._left = self._length_of_turn(room)
            self._exact_at = self.sightings.total + 2 * self.turn  # the samplers get an equally long turn after it
        if self._left:
            planned: Following | None = None if self._under_way else self.exact.next_schedule()
            return planned
        job: Job | None = self.samplers.next_schedule(room)
        self._under_way += job is not None
        return job

    def learn(self, planned: Job | Following, report: JobReport) -> None:
        """Update the sampler's weight, or continue the exact search's turn."""
        if not isinstance(planned, Job):
            self.exact.learn(planned, report)
            self._left -= len(report.outcomes)
            return
        self._under_way -= 1
        for outcome in report.outcomes:
            self._log10_alternatives = max(self._log10_alternatives or 0.0, outcome.log10_alternatives)
        self.samplers.learn(planned, report)

    @property
    def done(self) -> bool:
        """Whether the exact search is exhausted; this is checked in its turns only."""
        return self._left > 0 and self.exact.done

    def _has_turn(self, room: int) -> bool:
        """Whether a turn of the exact search is due: it has begun before, or it seems to fit into *room*."""
        if self.sightings.total < self._exact_at:
            return False
        return bool(self.turn or self._alternatives_within(room) or self._seems_small(room))

    def _length_of_turn(self, room: int) -> int:
        """The length of the exact search's next turn: the estimated need at first, then twice the previous turn."""
        alternatives = self._alternatives_within(room)
        wanted = 2 * self.turn or max(LEAST_EXACT, self._classes_at_least(), alternatives)
        return max(1, min(wanted, room if alternatives else room // 2))

    def _alternatives_within(self, room: int) -> int:
        """The estimated number of schedules if *room* is enough for all of them; otherwise 0."""
        log10 = self._log10_alternatives
        return round(10**log10) if log10 is not None and log10 <= math.log10(room) else 0

    def _classes_at_least(self) -> int:
        return self.sightings.classes + math.ceil(self.sightings.at_least_unseen or 0)

    def _seems_small(self, room: int) -> bool:
        """Whether all classes, as far as estimated, could be run twice within *room*."""
        chance = self.sightings.chance_of_new
        can_be_judged = self.sightings.draws.total() >= LEAST_SAMPLED and chance is not None and chance <= MOST_NEW
        return can_be_judged and 2 * self._classes_at_least() < room
