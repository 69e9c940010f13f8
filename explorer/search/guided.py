"""The guided search: epochs of jobs, each planned from what all epochs before it have shown.

There is no paper for the whole. It is a greybox fuzzer (Böhme, Pham, Roychoudhury, "Coverage-Based Greybox Fuzzing as
Markov Chain", CCS 2016) of schedules, as Fest is (SEARCH.md 4.7), with a bandit over its ways. Something new is an
ordered pair of racing operations: where there are very many trace classes, every schedule is of a new one. The search
has no guarantee beyond those of its samplers.

A `Guide` is the knowledge about one experiment. It plans an epoch at once, so the jobs of the epoch may run in any
order, in any process, and more than once. When all reports are there, they are folded in the order of the jobs. So the
course depends on the seed and on the numbers of jobs and schedules that were asked for, and on nothing else.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import attrs
import msgspec

from explorer.profile import Knowledge, seed_of
from explorer.search.jobs import SCHEDULES_PER_JOB, Job, JobReport, News, Shown
from explorer.search.portfolio import SHARES, Arm
from explorer.search.registry import GUIDED, STRATEGIES
from explorer.search.strategies.mutations import Mutation
from explorer.search.strategies.sampling import draw
from explorer.watch import RacingPair

MUTATIONS = {"prefix": 8.0, "splice": 6.0, "delay": 12.0, "swap": 3.0, "aim": 5.0, "gap": 4.0}
"""The ways of `Mutation` with their shares."""

MUTATED_FROM, AIMED_FROM = 24, 64
"""Schedules before the first mutation, and before the first job with aims alone: by then most pairs are known."""

FLOOR = 0.125
"""The least share of the samplers that feed the estimates (`Sampler.is_unbiased`)."""

JOBS_PER_EPOCH = 8
"""Jobs of an epoch of `Guided`: as many as a campaign has in progress."""


class GuideRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `Guide` as plain data. `arms` has the discounted schedules and gain of each way."""

    seed: int
    epoch: int
    next: int
    runs: int
    longest: int
    steps: dict[str, int]
    marked: dict[str, int]
    arms: dict[str, tuple[float, float]]
    signatures: list[str]
    corpus: list[Shown]


class Guide:
    """The knowledge about one experiment.

        jobs = guide.plan(8, 64)
        reports = ...                       # of each job, whenever and wherever it was run
        guide.fold(jobs, reports)

    `plan` changes nothing: before `fold`, it returns the same jobs again. `corpus` has the schedules that were the
    first to show some pair, with these pairs; so the corpus has each pair once.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epoch = 0
        self.next = 0
        self.known = Knowledge()
        self.arms = {way: Arm(share) for way, share in {**SHARES, **MUTATIONS}.items()}
        self.signatures: set[str] = set()
        self.corpus: list[Shown] = []

    @property
    def pairs(self) -> set[RacingPair]:
        """The ordered pairs of racing operations that were seen."""
        return {pair for shown in self.corpus for pair in shown.pairs}

    def plan(self, jobs: int, count: int) -> list[Job]:
        """The next epoch: at most *jobs* jobs with at most *count* schedules each, one or more.

        The first epoch is the fair schedule alone, from which other strategies learn the lengths of lanes and runs. The
        second one has a schedule of each sampler. So the search begins as the portfolio does.
        """
        ways, source = list(SHARES)[:jobs], random.Random(seed_of(self.seed, self.epoch))
        if not self.epoch:
            ways, count = ["roundrobin"], 1
        elif self.epoch == 1:
            count = 1
        else:
            ways = [self._choose(source) for _ in range(jobs)]
        known, seen = self.known.copy(), tuple(sorted(self.pairs))
        return [
            self._job(way, Job(way, self.seed, self.next + place * count, count, known, seen=seen), source)
            for place, way in enumerate(ways)
        ]

    def fold(self, jobs: Sequence[Job], reports: Iterable[JobReport]) -> None:
        """Learn the reports of an epoch, in the order of its *jobs*."""
        for job, report in zip(jobs, reports, strict=True):
            self.known.merge(report.lengths)
            news = News(pairs=self._keep(report), findings=self._find(report))
            arm = self.arms.get(job.mutation.way if job.mutation is not None else job.strategy)
            if arm is not None:
                arm.learn(job.count, news)
            self.next += job.count
        self.epoch += 1

    def dump(self) -> bytes:
        """The knowledge as bytes, for `load`; equal knowledge gives equal bytes."""
        record = GuideRecord(
            seed=self.seed,
            epoch=self.epoch,
            next=self.next,
            runs=self.known.runs,
            longest=self.known.longest,
            steps=self.known.steps,
            marked=self.known.marked,
            arms={way: (arm.schedules, arm.gain) for way, arm in self.arms.items()},
            signatures=sorted(self.signatures),
            corpus=self.corpus,
        )
        return zlib.compress(msgspec.msgpack.encode(record, order="sorted"))

    @classmethod
    def load(cls, data: bytes) -> Guide:
        """The knowledge that `dump` returned; ValueError if *data* is something else."""
        try:
            record = msgspec.msgpack.decode(zlib.decompress(data), type=GuideRecord)
        except zlib.error as error:
            msg = f"not a guide: {error}"
            raise ValueError(msg) from None
        guide = cls(record.seed)
        guide.epoch, guide.next = record.epoch, record.next
        guide.known = Knowledge(record.runs, record.longest, Counter(record.steps), Counter(record.marked))
        for way, (schedules, gain) in record.arms.items():
            guide.arms[way] = Arm(guide.arms[way].share, schedules, gain)
        guide.signatures, guide.corpus = set(record.signatures), record.corpus
        return guide

    def _choose(self, source: random.Random) -> str:
        """Draw a way by its weight, or by `FLOOR` one of those that feed the estimates."""
        ways = [way for way in self.arms if self._is_ready(way)]
        if source.random() < FLOOR:
            ways = [way for way in ways if is_unbiased(way)]
        return ways[draw(source.random(), [self.arms[way].weight for way in ways])]

    def _is_ready(self, way: str) -> bool:
        """Whether enough is known for *way*."""
        least = AIMED_FROM if way in {"aim", "gap"} else MUTATED_FROM
        return way in SHARES or (bool(self.corpus) and self.next >= least)

    def _job(self, way: str, job: Job, source: random.Random) -> Job:
        """The job of *way*: *job* itself for a sampler."""
        if way not in MUTATIONS:
            return job
        base = Shown(0) if way in {"aim", "gap"} else self._draw_base(source)
        other = self._draw_base(source).schedule if way == "splice" else ()
        mutation = Mutation(way, base.schedule, other, base.places if way == "swap" else ())
        return attrs.evolve(job, strategy=f"{GUIDED}:{way}", mutation=mutation)

    def _draw_base(self, source: random.Random) -> Shown:
        """Draw a schedule of the corpus, by its energy.

        A pair that was first shown by schedule n has a chance of about one in n, so the energy is n.
        """
        return self.corpus[draw(source.random(), [shown.number + 1.0 for shown in self.corpus])]

    def _keep(self, report: JobReport) -> int:
        """Keep the schedules that showed new pairs; return the number of these pairs."""
        before = seen = self.pairs
        for shown in report.shown:
            new = {pair: place for pair, place in zip(shown.pairs, shown.places, strict=True) if pair not in seen}
            if new:
                self.corpus.append(attrs.evolve(shown, pairs=tuple(new), places=tuple(new.values())))
                seen = seen | new.keys()
        return len(seen) - len(before)

    def _find(self, report: JobReport) -> int:
        """Keep the signatures of the findings; return the number of new ones."""
        before = len(self.signatures)
        self.signatures |= report.signatures
        return len(self.signatures) - before


def is_unbiased(way: str) -> bool:
    """Whether the schedules of *way* feed the estimates."""
    entry = STRATEGIES.get(way)
    return entry is not None and entry.is_unbiased


@attrs.define
class Guided:
    """The search (`explorer.search.protocol`): a guide in epochs, whose jobs grow from one schedule to several.

    `_planned` are the jobs of the present epoch, and `_waiting` those of them that were not given out. `_reports` are
    the reports so far, by the first number of their jobs.
    """

    guide: Guide
    _planned: list[Job] = attrs.field(factory=list, init=False)
    _waiting: deque[Job] = attrs.field(factory=deque, init=False)
    _reports: dict[int, JobReport] = attrs.field(factory=dict, init=False)

    def next_schedule(self, room: int = 1) -> Job | None:
        """The next job of the epoch; None if it has no more, until all its reports are learnt."""
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
        count = min(max(self.guide.next // (JOBS_PER_EPOCH * SCHEDULES_PER_JOB), 1), SCHEDULES_PER_JOB, room)
        self._planned = self.guide.plan(min(JOBS_PER_EPOCH, room // count), count)
        self._waiting.extend(self._planned)
