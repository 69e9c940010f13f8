"""A search by one sampler (random, urw, surw, pos, pct and so on): schedule after schedule, without an end.

The strategy draws each schedule (`explorer.search.strategies`, each with its paper and its guarantee). This module
coordinates the draws of one search: schedule number n has the seed of n, and strategies that need the lengths of lanes
and runs get them from earlier runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from explorer.profile import Knowledge
from explorer.search.jobs import SCHEDULES_PER_JOB, Job
from explorer.search.registry import STRATEGIES, find_strategy, parse_strategy

if TYPE_CHECKING:
    from explorer.search.jobs import JobReport
    from protocol.records import CodeRecord


@attrs.define
class Draws:
    """The draws of one search: the seed, the next number, and the run statistics; samplers may share them.

    `_codes` has the code of each user's strategy, as it was when the search first drew from it.
    """

    seed: int
    known: Knowledge = attrs.field(factory=Knowledge)
    next: int = 0
    _codes: dict[str, CodeRecord | None] = attrs.field(factory=dict, init=False)

    def job(self, strategy: str, count: int) -> Job:
        """The next *count* schedules, by *strategy*, with a copy of the present run statistics."""
        if strategy not in self._codes:
            self._codes[strategy] = parse_strategy(strategy, STRATEGIES).code
        job = Job(strategy, self.seed, self.next, count, self.known.copy(), self._codes[strategy])
        self.next += count
        return job

    def learn(self, report: JobReport) -> None:
        """Add the lengths of lanes and runs to the run statistics."""
        self.known.merge(report.lengths)


@attrs.define
class Sampling:
    """A search with one sampler. A job has `SCHEDULES_PER_JOB` schedules; the first has one if the sampler learns."""

    strategy: str
    draws: Draws
    _learns: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._learns = find_strategy(self.strategy)[0].learns

    def next_schedule(self, room: int = 1) -> Job:
        """The next schedules, at most *room*."""
        learns_first = self._learns and not self.draws.next
        return self.draws.job(self.strategy, 1 if learns_first else min(SCHEDULES_PER_JOB, room))

    def learn(self, job: Job, report: JobReport) -> None:  # noqa: ARG002 -- the protocol
        """Add the lengths of lanes and runs to the run statistics."""
        self.draws.learn(report)

    @property
    def done(self) -> bool:
        """Always false: another schedule can always be drawn."""
        return False
