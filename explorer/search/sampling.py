"""A search by one sampler: random, urw, surw, pos, pct and the like, schedule after schedule without an end.

How a schedule is drawn is the strategy's (`explorer.search.strategies`, each with its paper and its guarantee). Here is
how the draws of one search belong together: schedule number n has the seed of n, and the lengths of lanes and runs that
some strategies need are learnt from the runs before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from explorer.profile import Knowledge
from explorer.search.jobs import SCHEDULES_PER_JOB, Job
from explorer.search.registry import find_strategy

if TYPE_CHECKING:
    from explorer.search.jobs import Report


@attrs.define
class Draws:
    """The draws of one search: the seed, the next number, and what runs have taught; samplers may share them."""

    seed: int
    known: Knowledge = attrs.field(factory=Knowledge)
    next: int = 0

    def job(self, strategy: str, count: int) -> Job:
        """The next *count* schedules, by *strategy*, with what is known now."""
        job = Job(strategy, self.seed, self.next, count, self.known.copy())
        self.next += count
        return job

    def learn(self, report: Report) -> None:
        """Learn the lengths of lanes and runs."""
        for profile in report.profiles:
            self.known.learn(profile)


@attrs.define
class Sampling:
    """The search: as many schedules at once as a job has; only one to begin with if the strategy has to learn first."""

    strategy: str
    draws: Draws

    def next_schedule(self, room: int = 1) -> Job:
        """The next schedules, at most *room*."""
        learns_first = find_strategy(self.strategy)[0].learns and not self.draws.next
        return self.draws.job(self.strategy, 1 if learns_first else min(SCHEDULES_PER_JOB, room))

    def learn(self, job: Job, report: Report) -> None:  # noqa: ARG002 -- the protocol
        """Learn the lengths of lanes and runs."""
        self.draws.learn(report)

    @property
    def done(self) -> bool:
        """Another schedule can always be drawn."""
        return False
