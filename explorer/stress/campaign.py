"""The campaign: the loop that plans epochs, gives jobs to an engine, and folds the answers into the store.

Everything that may change the answer is in the store. A campaign that is stopped, killed or started again with another
engine goes on as if nothing had happened: jobs in progress are run again, and give the same answers.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs
import trio

from explorer import signals
from explorer.experiment import Experiment
from explorer.search.guided import is_unbiased
from explorer.search.jobs import JobReport
from explorer.stress.answer import Answer
from explorer.stress.engines import Changed, Engine, Replaced, Result
from explorer.stress.identity import key_of, model_hash
from explorer.stress.matrix import Matrix, Point, Request, draw_swarm
from explorer.stress.planning import (
    FORGETTING,
    NEW_CAUSE,
    NEW_REACH,
    Planner,
    load_planner,
    new_planner,
    plan_epoch,
)
from explorer.stress.store import DIVERGED
from explorer.stress.summary import Totals, totals_of
from explorer.stress.work import CHANGED, Order
from explorer.watch import mix

if TYPE_CHECKING:
    from explorer.search.jobs import Job
    from explorer.stress.store import CellRow, Store
    from explorer.watch import RacingPair

POLL_SECONDS = 0.2
HOUR = 3600.0
LEAST_QUIET_DRAWS = 1_000
"""Draws before a campaign may be called quiet: an estimate from few draws says nothing."""

Stopped = Literal["", "budget", "soak", "quiet", "nothing", "interrupted", "changed"]
"""Why a part of a campaign ended; `nothing`: no cell is left that can run; `changed`: its code is another one."""

Known = tuple[tuple["RacingPair", ...], frozenset[str]]
Told = Callable[[str, dict[str, Any]], None]


@attrs.frozen
class Limits:
    """When a campaign ends: schedules in all its parts, seconds of this part, a chance for each hour."""

    budget: int | None = None
    seconds: float | None = None
    until_quiet: float | None = None


@attrs.define
class Stress:
    """A campaign in progress. *told* is called with each event; it must not fail.

    `done` are the schedules of all done jobs, and `run_here` those of this part. `replaced` counts workers, `ended`
    jobs without an answer (by `Result.kind`), `disagreements` jobs with two different answers. `left` jobs of the
    present `epoch` are not done yet. `totals` are those of the last epoch. `changed` says what stopped it as `changed`.
    """

    store: Store
    campaign: int
    request: Request
    engine: Engine
    limits: Limits = attrs.field(factory=Limits)
    trio_share: float = 0.0
    told: Told = lambda _event, _fields: None
    stopped: Stopped = ""
    part_began: float = attrs.field(factory=time.monotonic)
    done: int = 0
    run_here: int = 0
    replaced: int = 0
    ended: Counter[str] = attrs.field(factory=Counter)
    disagreements: int = 0
    epoch: int = 0
    left: int = 0
    changed: str = ""
    totals: Totals = attrs.field(init=False)
    _cells: dict[int, CellRow] = attrs.field(factory=dict)
    _known: dict[int, Known] = attrs.field(factory=dict)
    _flying: dict[int, tuple[int, Job]] = attrs.field(factory=dict)
    _interrupted: bool = False

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until a limit, or a signal; the store is committed then, and the engine is closed."""
        returned = self.store.return_leases(self.campaign)
        self.take_totals()
        self.tell("begun", schedules=self.done, returned=returned)
        try:
            while not self.stopped:
                self.epoch = int(self.store.value("SELECT epoch FROM campaigns WHERE id = ?", self.campaign))
                if not self.store.has_epoch(self.campaign, self.epoch):
                    self.stopped = self._plan(self.epoch)
                if self.stopped:
                    break
                if await self._run_epoch(self.epoch):
                    self._fold(self.epoch)
                self._check_limits()
        finally:
            with trio.CancelScope(shield=True):
                await self.engine.close()
            self.store.unlease(self._flying)
            self._flying.clear()
            self.store.add_seconds(self.campaign, time.monotonic() - self.part_began)
        self.take_totals()
        self.tell("stopped", why=self.stopped, schedules=self.done)
        self.store.commit()

    def take_totals(self) -> None:
        """Read the totals anew."""
        self.totals = totals_of(self.store, self.campaign)
        self.done = self.totals.schedules

    def _plan(self, epoch: int) -> Stopped:
        """Plan an epoch; if that cannot be done, return why."""
        room = self._budget_left()
        if room <= 0:
            return "budget"
        if self.request.swarm:
            try:
                with signals.let_through():
                    points = draw_swarm(self.request, epoch)
                    drawn = prepared(points, self.request.seed, (epoch + 1) << 32)
            except KeyboardInterrupt:
                return "interrupted"
            self.store.add_cells(self.campaign, drawn, epoch)
            for point in points:
                self.tell("drawn", cell=str(point))
        cells = self.store.cells(self.campaign)
        if not cells:
            return "nothing"
        planned = plan_epoch(cells, self.request.seed, epoch, room)
        self.store.plan(self.campaign, epoch, planned.jobs)
        return ""

    def _budget_left(self) -> int:
        """The schedules that may still be given out."""
        if self.limits.budget is None:
            return 1 << 62
        return self.limits.budget - self.done - sum(job.count for _, job in self._flying.values())

    async def _run_epoch(self, epoch: int) -> bool:
        """Run the jobs of an epoch; False if a limit came first."""
        self._cells = {cell.id: cell for cell in self.store.cells(self.campaign)}
        self._known.clear()
        self.left = self.store.unfinished(self.campaign, epoch)
        while self.left:
            self._check_limits()
            if self.stopped:
                return False
            room = self.engine.room - len(self._flying)
            for order in self._orders(epoch, room) if room > 0 else ():
                self.engine.submit(order)
            if room > 0 and not self._flying:
                self.stopped = "budget"  # an earlier part had more of it when the epoch was planned
                return False
            await self._take_next()
        self.store.commit()
        return True

    async def _take_next(self) -> None:
        """Take the next result, if one comes soon; signals and the time are looked at meanwhile."""
        result: Result | Replaced | Changed | None = None
        with trio.move_on_after(POLL_SECONDS):
            result = await self.engine.result()
        self.store.commit_if_due()
        if result is not None:
            self._take(result)

    def _orders(self, epoch: int, most: int) -> Iterable[Order]:
        for row in self.store.lease(self.campaign, epoch, most, self._budget_left()):
            cell = self._cells[row.cell]
            self._flying[row.id] = row.cell, row.job
            pairs, functions = self._known_of(row.cell)
            yield Order(
                row.id,
                cell.key,
                cell.point.options(self.request.seed),
                row.job if row.job.seen is None else attrs.evolve(row.job, seen=pairs),
                frozenset(pairs),
                functions,
                self.store.known_signatures(cell.id, row.job.first),
                row.tries,
                row.kills,
                row.is_suspect,
                on_trio=mix(self.request.seed, row.id) < self.trio_share * 2**64,
            )

    def _known_of(self, cell: int) -> Known:
        """The pairs and the functions that a cell knows; they do not change within an epoch."""
        if cell not in self._known:
            self._known[cell] = tuple(sorted(self.store.known_pairs(cell))), self.store.known_functions(cell)
        return self._known[cell]

    def _check_limits(self) -> None:
        if signals.is_pending() or self._interrupted:
            self.stopped = "interrupted"
        elif not self.stopped and self._is_late():
            self.stopped = "soak"

    def _is_late(self) -> bool:
        limit = self.limits.seconds
        return limit is not None and time.monotonic() - self.part_began >= limit

    # -- results ------------------------------------------------------------------------------------------------------

    def _take(self, result: Result | Replaced | Changed) -> None:
        if isinstance(result, Changed):
            self.tell("workers", count=result.workers, why=result.why)
            return
        if isinstance(result, Replaced):
            self.replaced += 1
            self.store.tried(result.number, result.tries, result.kills)
            self.tell("worker replaced", job=result.number, why=result.why, tries=result.tries + result.kills)
            return
        if result.kind == "interrupted":
            self._interrupted = True
            return
        if result.number not in self._flying:
            self._compare(result)
            return
        if result.why.endswith(CHANGED):
            self.stopped, self.changed = "changed", result.why  # the job goes back with all others in progress
            return
        cell, job = self._flying.pop(result.number)
        self.left -= 1
        if result.answer is None:
            self.ended[result.kind] += 1
            self.store.lose(result.number, result.why)
            self.tell("job lost", job=result.number, cell=cell, kind=result.kind, why=result.why)
            return
        self._take_answer(result.number, cell, job.strategy, result.answer)

    def _take_answer(self, job: int, cell: int, way: str, answer: Answer) -> None:
        """Keep an answer."""
        if answer.disagreement:
            self.disagreements += 1
            self.tell("drivers disagree", job=job, why=answer.disagreement)
        new = [seen.signature for seen in answer.seen if seen.log]
        self.run_here += answer.schedules
        self.done += answer.schedules
        self.store.done(job, answer)
        for signature in new:
            self.tell("found", job=job, cell=cell, signature=signature, way=way)
        self.tell("job", job=job, cell=cell, way=way, schedules=answer.schedules)

    def _compare(self, result: Result) -> None:
        """Compare a further answer to a job that is done: each job has one. If they differ, both logs are kept."""
        first = self.store.digest_of(result.number)
        if result.answer is None or not first or result.answer.digest() == first:
            return
        self.disagreements += 1
        seen = [one for one in result.answer.seen if one.log]
        logs = [self.store.keep_log(f"job-{result.number}-{one.signature}", one.log) for one in seen]
        self.tell("two answers", job=result.number, first=first, second=result.answer.digest(), logs=logs)

    # -- the end of an epoch ------------------------------------------------------------------------------------------

    def _fold(self, epoch: int) -> None:
        """Fold the answers of an epoch into the knowledge, in the order of its jobs, in one transaction."""
        store, campaign = self.store, self.campaign
        digest = hashlib.blake2b(digest_size=16)
        digest.update(str(store.value("SELECT digest FROM campaigns WHERE id = ?", campaign)).encode())
        by_cell: dict[int, list[tuple[int, Job, Answer]]] = {}
        for number, cell, digest_of_job, job, answer in store.answers(campaign, epoch):
            digest.update(b"lost" if answer is None else digest_of_job.encode())
            by_cell.setdefault(cell, []).append((number, job, answer or Answer()))
        news: list[tuple[str, dict[str, Any]]] = []
        with store.changing():
            for cell_id, jobs in by_cell.items():
                news += self._fold_cell(self._cells[cell_id], jobs)
            chance = store.end_epoch(campaign, epoch, digest.hexdigest(), self._seconds())
        for event, fields in news:
            self.tell(event, **fields)
        self.take_totals()
        self.tell("epoch", number=epoch, schedules=self.done, classes=self.totals.classes, chance=chance)
        store.commit()
        if self._is_quiet(chance):
            self.stopped = "quiet"

    def _fold_cell(self, cell: CellRow, jobs: Sequence[tuple[int, Job, Answer]]) -> list[tuple[str, dict[str, Any]]]:
        """Fold the answers to the jobs of one cell; return the events."""
        store, events = self.store, list[tuple[str, dict[str, Any]]]()
        planner: Planner = load_planner(cell)
        planner.fold([job for _, job, _ in jobs], [as_report(answer) for *_, answer in jobs])
        pairs = reached = fresh = steps = 0
        for number, job, answer in jobs:
            if answer.divergence is not None:
                why = f"{DIVERGED}: step {answer.divergence.step}"
                store.close_cell(cell.id, why)
                events.append(("cell closed", {"cell": cell.id, "name": cell.name, "why": why}))
                answer.seen.clear()
            steps += answer.steps[1]
            pairs += store.add_pairs(cell.id, number, answer.pairs)
            store.add_functions(cell.id, answer.functions)
            reached += store.add_reaches(cell.id, number, answer.unreached)
            store.count_schedules(cell.id, answer)
            is_draw = is_unbiased(job.strategy)
            store.count_classes(cell.id, answer.classes, bytes([is_draw]) * answer.schedules)
            for seen in answer.seen:
                bug, is_new = store.see(self.campaign, cell, number, job.strategy, seen)
                fresh += is_new
                if bug is not None:
                    events.append(("new cause", bug))
        if any(answer.divergence is not None for *_, answer in jobs):
            store.forget_sightings(cell.id)
        elif not any(answer.schedules for *_, answer in jobs):
            why = store.loss_of(jobs[-1][0])
            store.close_cell(cell.id, why)
            events.append(("cell closed", {"cell": cell.id, "name": cell.name, "why": why}))
        gain = cell.gain * FORGETTING + pairs + NEW_CAUSE * fresh + NEW_REACH * reached
        store.keep_cell(cell.id, planner.dump(), gain, cell.spent * FORGETTING + steps)
        return events

    def _seconds(self) -> float:
        return self.store.seconds(self.campaign) + time.monotonic() - self.part_began

    def _is_quiet(self, chance: float | None) -> bool:
        """Whether the chance of a new class in the next hour, at the rate so far, is below the limit."""
        limit, elapsed = self.limits.until_quiet, self._seconds()
        if limit is None or chance is None or self.store.draws(self.campaign) < LEAST_QUIET_DRAWS or elapsed <= 0:
            return False
        return chance_within(chance, self.done / elapsed * HOUR) < limit

    def tell(self, event: str, **fields: Any) -> None:
        """Tell an event to the observer; the rare ones go to the store, too."""
        if event != "job":
            self.store.event(self.campaign, event, **fields)
        self.told(event, fields)


def chance_within(chance: float, schedules: float) -> float:
    """The chance of at least one success in so many independent schedules."""
    return 1.0 if chance >= 1 else -math.expm1(schedules * math.log1p(-chance))


def as_report(answer: Answer) -> JobReport:
    """The report that planners learn from."""
    return JobReport(
        lengths=answer.lengths,
        signatures={seen.signature for seen in answer.seen},
        pairs=set(answer.pairs),
        functions=set(answer.functions),
        shown=answer.shown,
    )


def prepared(points: Iterable[Point], seed: int, first: int) -> list[tuple[str, Point, bytes]]:
    """The key, the point and the first knowledge of new cells; their numbers, for their seeds, begin at *first*."""
    return [
        (key_of(Experiment.of(point.options(seed))), point, new_planner(point, seed, first + place).dump())
        for place, point in enumerate(points)
    ]


def begin(store: Store, request: Request, matrix: Matrix) -> int:
    """Begin a campaign, and return its number. A signal may come before it has begun."""
    with signals.let_through():
        cells = prepared(matrix.points, request.seed, 1)
    return store.begin(request, model_hash(), cells)


def keys_of(matrix: Matrix, seed: int) -> set[str]:
    """The keys of the cells of a matrix."""
    return {key_of(Experiment.of(point.options(seed))) for point in matrix.points}
