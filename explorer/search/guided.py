"""The guided search: epochs of jobs that are planned from all that the epochs before have shown.

There is no paper for the whole: it is a greybox fuzzer (Böhme, Pham, Roychoudhury, "Coverage-Based Greybox Fuzzing as
Markov Chain", CCS 2016) over schedules, with a bandit over its ways. It has no guarantee beyond those of its samplers.

A `Guide` is the knowledge about one experiment. It plans an epoch at once, so the jobs of the epoch may run in any
order, in any process, and more than once. When all reports are there, they are folded in the order of the jobs. So the
course depends on the seed and on the numbers of jobs and schedules that were asked for, and on nothing else.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs
import msgspec

from explorer.profile import Knowledge, seed_of
from explorer.search.jobs import SCHEDULES_PER_JOB, Job, JobReport, News
from explorer.search.portfolio import SHARES, Arm
from explorer.search.registry import STRATEGIES
from explorer.search.strategies.sampling import draw

if TYPE_CHECKING:
    from explorer.watch import RacingPair

FLOOR = 0.125
"""The least share of the samplers that feed the estimates (`Sampler.is_unbiased`)."""

JOBS_PER_EPOCH = 8
"""Jobs of an epoch of `Guided`: as many as a campaign has in progress."""


class ArmRecord(msgspec.Struct, frozen=True, array_like=True):
    """The yields of one way, in a `GuideRecord`."""

    schedules: float
    gain: float


class GuideRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `Guide` as plain data."""

    seed: int
    epoch: int
    next: int
    runs: int
    longest: int
    steps: dict[str, int]
    marked: dict[str, int]
    arms: dict[str, ArmRecord]
    pairs: list[tuple[tuple[str, str], tuple[str, str]]]
    signatures: list[str]


class Guide:
    """The knowledge about one experiment, from the epochs so far.

        jobs = guide.plan(8, 64)
        reports = ...                       # of each job, whenever and wherever it was run
        guide.fold(jobs, reports)

    `plan` changes nothing: before `fold`, it returns the same jobs again.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epoch = 0
        self.next = 0
        self.known = Knowledge()
        self.arms = {name: Arm(share) for name, share in SHARES.items()}
        self.pairs: set[RacingPair] = set()
        self.signatures: set[str] = set()

    def plan(self, jobs: int, count: int) -> list[Job]:
        """The next epoch: at most *jobs* jobs with at most *count* schedules each, one or more.

        The first epoch is the fair schedule alone, from which other strategies learn the lengths of lanes and runs. The
        second one has a schedule of each sampler.
        """
        if not self.epoch:
            return self._jobs(["roundrobin"], 1)
        if self.epoch == 1:
            return self._jobs(list(self.arms)[:jobs], 1)
        source = random.Random(seed_of(self.seed, self.epoch))
        return self._jobs([self._choose(source) for _ in range(jobs)], count)

    def fold(self, jobs: Sequence[Job], reports: Iterable[JobReport]) -> None:
        """Learn the reports of an epoch, in the order of its *jobs*."""
        for job, report in zip(jobs, reports, strict=True):
            for profile in report.profiles:
                self.known.learn(profile)
            arm = self.arms.get(job.strategy)
            news = self._news(report)
            if arm is not None:
                arm.learn(job.count, news)
            self.next += job.count
        self.epoch += 1

    def dump(self) -> bytes:
        """The knowledge as bytes, for `load`."""
        record = GuideRecord(
            seed=self.seed,
            epoch=self.epoch,
            next=self.next,
            runs=self.known.runs,
            longest=self.known.longest,
            steps=dict(self.known.steps),
            marked=dict(self.known.marked),
            arms={name: ArmRecord(arm.schedules, arm.gain) for name, arm in self.arms.items()},
            pairs=sorted(self.pairs),
            signatures=sorted(self.signatures),
        )
        return msgspec.msgpack.encode(record)

    @classmethod
    def load(cls, data: bytes) -> Guide:
        """The knowledge that `dump` returned; ValueError if it is not that."""
        record = msgspec.msgpack.decode(data, type=GuideRecord)
        guide = cls(record.seed)
        guide.epoch, guide.next = record.epoch, record.next
        guide.known = Knowledge(record.runs, record.longest, Counter(record.steps), Counter(record.marked))
        for name, arm in record.arms.items():
            guide.arms[name].schedules, guide.arms[name].gain = arm.schedules, arm.gain
        guide.pairs = set(record.pairs)
        guide.signatures = set(record.signatures)
        return guide

    def _jobs(self, ways: Sequence[str], count: int) -> list[Job]:
        known = self.known.copy()
        return [Job(way, self.seed, self.next + place * count, count, known) for place, way in enumerate(ways)]

    def _choose(self, source: random.Random) -> str:
        uniform = [name for name in self.arms if is_unbiased(name)]
        names = uniform if source.random() < FLOOR else list(self.arms)
        return names[draw(source.random(), [self.arms[name].weight for name in names])]

    def _news(self, report: JobReport) -> News:
        signatures = {finding.signature for outcome in report.outcomes for finding in outcome.findings}
        news = News(findings=len(signatures - self.signatures), pairs=len(report.pairs - self.pairs))
        self.signatures |= signatures
        self.pairs |= report.pairs
        return news


def is_unbiased(way: str) -> bool:
    """Whether the schedules of *way* feed the estimates."""
    entry = STRATEGIES.get(way)
    return entry is not None and entry.is_unbiased


@attrs.define
class Guided:
    """The search: a guide in epochs, which grow from single schedules to `SCHEDULES_PER_JOB` a job.

    `_planned` are the jobs of the present epoch, `_waiting` those that were not given out. `_reports` are the reports
    by the first number of their jobs.
    """

    guide: Guide = attrs.field(converter=Guide)
    _planned: list[Job] = attrs.field(factory=list, init=False)
    _waiting: deque[Job] = attrs.field(factory=deque, init=False)
    _reports: dict[int, JobReport] = attrs.field(factory=dict, init=False)

    def next_schedule(self, room: int = 1) -> Job | None:
        """The next job of the epoch; None until all its reports are learnt."""
        if not self._planned:
            self._plan(room)
        return self._waiting.popleft() if self._waiting else None

    def learn(self, job: Job, report: JobReport) -> None:
        """Keep the report; after the last one of the epoch, fold all."""
        self._reports[job.first] = report
        if len(self._reports) == len(self._planned):
            self.guide.fold(self._planned, [self._reports[one.first] for one in self._planned])
            self._planned = []
            self._reports.clear()

    @property
    def done(self) -> bool:
        """Always false: another schedule can always be drawn."""
        return False

    def _plan(self, room: int) -> None:
        count = min(max(self.guide.next // (JOBS_PER_EPOCH * SCHEDULES_PER_JOB), 1), SCHEDULES_PER_JOB)
        jobs = min(JOBS_PER_EPOCH, max(room // count, 1))
        self._planned = self.guide.plan(jobs, min(count, room))
        self._waiting.extend(self._planned)
