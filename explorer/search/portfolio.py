"""The portfolio: a search of searches, samplers by what has paid, and an exact search where it seems to fit.

No paper: a bandit with discounted yields (SEARCH.md 4.10). No guarantee beyond those of its searches, each of which
keeps a share: the exact search explores the same as by itself, in turns.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from explorer.search.jobs import SCHEDULES_PER_JOB, Job
from explorer.search.registry import make_exact_search
from explorer.search.sampling import Draws, Sampling
from explorer.search.strategies.sampling import draw

if TYPE_CHECKING:
    from explorer.search.estimate import Sightings
    from explorer.search.jobs import Report
    from explorer.search.protocol import Search
    from explorer.search.strategies.prefix import Following

SHARES = {"surw": 1.0, "pos": 2.0, "pct:2": 2.0, "pct:3": 2.0, "pct:4": 2.0, "urw": 1.0, "random": 1.0}
"""The samplers that the portfolio weighs against each other (SEARCH.md 4.10), in the order of their first turns.

The numbers are their shares while none has anything new to show. Walks find what is shallow, and soon; what needs some
orders at once is found by the strategies that have a bound for it (docs/strategies.md has the figures).
"""

SHARE_OF_MORE = 2.0
"""The share of a sampler that the user names."""

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


@attrs.define
class Arm:
    """A sampler of the portfolio, its share, and what its schedules have brought of late."""

    search: Sampling
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
    long: what seems small may be large behind some rare choice. A turn begins when all jobs have been learnt from.

    `sightings` is what the whole campaign has seen. `more` is one more sampler, beside those of `SHARES`. `turn` is how
    many schedules the exact search had in its latest turn, `_left` how many of them it has still to run; `_exact_at` is
    when its next turn is due. `_under_way` counts jobs. `_log10_alternatives` is the largest product of the numbers of
    alternatives that a schedule has had.
    """

    seed: int
    sightings: Sightings
    exact: Search = attrs.field(factory=lambda: make_exact_search("dpor"))
    more: str = ""
    turn: int = 0
    draws: Draws = attrs.field(init=False)
    arms: dict[str, Arm] = attrs.field(init=False)
    _random: random.Random = attrs.field(init=False)
    _waiting: list[str] = attrs.field(init=False)
    _under_way: int = attrs.field(default=0, init=False)
    _left: int = attrs.field(default=0, init=False)
    _exact_at: int = attrs.field(default=1, init=False)
    _log10_alternatives: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.draws = Draws(self.seed)
        shares = {**SHARES, self.more: SHARE_OF_MORE} if self.more else SHARES
        self.arms = {name: Arm(Sampling(name, self.draws), share) for name, share in shares.items()}
        self._waiting = ["roundrobin", *shares]

    def next_schedule(self, room: int = 1) -> Job | Following | None:
        """A schedule of the exact search in its turn, otherwise a job of a sampler; None if jobs have to end first."""
        if not self._left and self._has_turn(room):
            self.turn = self._left = self._length_of_turn(room)
            self._exact_at = self.sightings.total + 2 * self.turn  # the samplers get as much after it
        if self._left:
            planned: Following | None = None if self._under_way else self.exact.next_schedule()
            return planned
        self._under_way += 1
        return self._sample(room)

    def learn(self, planned: Job | Following, report: Report) -> None:
        """Weigh the sampler anew, or go on with the turn."""
        if not isinstance(planned, Job):
            self.exact.learn(planned, report)
            self._left -= len(report.outcomes)
            return
        self._under_way -= 1
        self.draws.learn(report)
        for outcome in report.outcomes:
            self._log10_alternatives = max(self._log10_alternatives or 0.0, outcome.log10_alternatives)
        arm = self.arms.get(planned.strategy)
        if arm is not None:
            arm.schedules = arm.schedules * FORGETTING + planned.count
            arm.gain = arm.gain * FORGETTING + report.news.pairs + NEW_FINDING * report.news.findings

    @property
    def done(self) -> bool:
        """Whether the exact search has come to its end; that is looked at in its turns only."""
        return self._left > 0 and self.exact.done

    def _sample(self, room: int) -> Job:
        """The first jobs are short: what is small is soon seen."""
        if self._waiting:
            return self.draws.job(self._waiting.pop(0), 1)
        longest = max(self.draws.next // SCHEDULES_PER_JOB, 1)
        return self.arms[self._choose()].search.next_schedule(min(longest, room))

    def _choose(self) -> str:
        names: Sequence[str] = list(self.arms)
        return names[draw(self._random.random(), [self.arms[name].weight for name in names])]

    def _has_turn(self, room: int) -> bool:
        """Whether an exact search is due, and seems to fit into *room*; once it has begun it is due again and again."""
        if self.sightings.total < self._exact_at:
            return False
        return bool(self.turn or self._alternatives_within(room) or self._seems_small(room))

    def _length_of_turn(self, room: int) -> int:
        """An exact search gets as many schedules as it seems to need, then twice as many."""
        alternatives = self._alternatives_within(room)
        wanted = 2 * self.turn or max(LEAST_EXACT, self._classes_at_least(), alternatives)
        return max(1, min(wanted, room if alternatives else room // 2))

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
