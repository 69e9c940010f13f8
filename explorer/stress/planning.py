"""Planning: which cells run in an epoch, with how many jobs, and which jobs these are.

The plan depends on the seed, the number of the epoch, and what the store knew at its beginning; not on workers, the
clock or the order of answers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs
import msgspec

from explorer.profile import Knowledge, seed_of
from explorer.search.guided import Guide
from explorer.search.jobs import Job, JobReport
from explorer.search.registry import GUIDED, STRATEGIES, parse_strategy
from explorer.search.strategies.sampling import draw
from explorer.stress.plain import pack, unpack
from explorer.stress.store import CellRow, Planned

if TYPE_CHECKING:
    from explorer.stress.matrix import Point

JOB_STEPS = 20_000
"""Steps that a job should have: half a second, so that a lost one is no loss, and its costs are small beside it."""

MOST_PER_JOB = 512
FIRST_JOBS, MOST_JOBS = 64, 4_096
"""Jobs of the first epochs, and most jobs of an epoch: enough for a thousand workers."""

EPOCHS_PER_DOUBLING = 8
EVEN_SHARE = 0.5
"""The share of the jobs that goes to the cells with the fewest steps, whatever they yield."""

FORGETTING = 0.8
"""Discount factor of a cell's earlier yields, applied at each of its epochs."""

NEW_CAUSE, NEW_REACH = 64.0, 16.0
"""Weights of a new signature and of a `sometimes` reached, in new ordered pairs of racing operations."""


class Sampled:
    """The knowledge of a cell with one sampler: what `Guide` is for guided cells."""

    def __init__(self, strategy: str, seed: int, first: int = 0, known: Knowledge | None = None) -> None:
        self.strategy = strategy
        self.seed = seed
        self.next = first
        self.known = known or Knowledge()
        self._code = parse_strategy(strategy, STRATEGIES).code

    def plan(self, jobs: int, count: int) -> list[Job]:
        """The next jobs; one schedule if nothing is known yet, from which the strategy learns lengths."""
        if not self.next:
            jobs = count = 1
        known = self.known.copy()
        return [
            Job(self.strategy, self.seed, self.next + place * count, count, known, self._code) for place in range(jobs)
        ]

    def fold(self, jobs: Sequence[Job], reports: Iterable[JobReport]) -> None:
        """Learn the lengths of lanes and runs, in the order of the jobs."""
        for job, report in zip(jobs, reports, strict=True):
            self.known.merge(report.lengths)
            self.next += job.count

    def dump(self) -> bytes:
        """The knowledge as bytes."""
        return pack([self.seed, self.next, self.known])

    @classmethod
    def load(cls, strategy: str, data: bytes) -> Sampled:
        """The knowledge that `dump` returned."""
        seed, following, known = unpack(data, tuple[int, int, Knowledge])
        return cls(strategy, seed, following, known)


Planner = Guide | Sampled


def new_planner(point: Point, seed: int, cell: int) -> Planner:
    """The planner of a new cell; *cell* is its place in the matrix, from which its seed is made."""
    own = seed_of(seed, cell)
    return Guide(own) if point.strategy == GUIDED else Sampled(point.strategy, own)


def load_planner(cell: CellRow) -> Planner:
    """The planner of a cell, as the store has it."""
    if cell.point.strategy == GUIDED:
        try:
            return Guide.load(cell.guide)
        except ValueError as error:
            raise msgspec.DecodeError(str(error)) from None  # as `unpack` says of the others
    return Sampled.load(cell.point.strategy, cell.guide)


@attrs.frozen
class Epoch:
    """The jobs of an epoch in their order."""

    jobs: tuple[Planned, ...]

    @property
    def schedules(self) -> int:
        """The number of their schedules."""
        return sum(one.job.count for one in self.jobs)


def plan_epoch(cells: Sequence[CellRow], seed: int, number: int, room: int) -> Epoch:
    """The epoch with this *number*, with at most *room* schedules: in the first one each cell has a job."""
    source = random.Random(f"{seed} jobs {number}")
    wanted = min(FIRST_JOBS << (number // EPOCHS_PER_DOUBLING), MOST_JOBS)
    shares = Counter({cell.id: 1 for cell in cells}) if number == 0 else share_out(cells, wanted, source)
    planned: list[Planned] = []
    for cell in cells:
        if not shares[cell.id]:
            continue
        length = cell.steps_per_schedule or JOB_STEPS
        count = max(1, min(round(JOB_STEPS / length), MOST_PER_JOB))
        planned += [Planned(cell.id, job) for job in load_planner(cell).plan(shares[cell.id], count)]
    return Epoch(tuple(cut(planned, room)))


def share_out(cells: Sequence[CellRow], jobs: int, source: random.Random) -> Counter[int]:
    """The number of jobs of each cell: one part by fewest steps, the other drawn by recent yield for each step."""
    even = min(len(cells), max(1, round(jobs * EVEN_SHARE)))
    chosen = Counter(cell.id for cell in sorted(cells, key=lambda cell: (cell.steps, cell.id))[:even])
    weights = [(cell.gain + 1.0) / (cell.spent + JOB_STEPS) for cell in cells]
    for _ in range(jobs - even):
        chosen[cells[draw(source.random(), weights)].id] += 1
    return chosen


def cut(planned: Sequence[Planned], room: int) -> list[Planned]:
    """As many of the jobs as have room; the last one may be shorter."""
    kept: list[Planned] = []
    for one in planned:
        if room <= 0:
            break
        count = min(one.job.count, room)
        kept.append(one if count == one.job.count else attrs.evolve(one, job=attrs.evolve(one.job, count=count)))
        room -= count
    return kept
