"""A campaign: many schedules of one experiment, with the findings, the coverage, and an estimate of the unseen rest.

With samplers a campaign is a sequence of jobs. They may run in several processes, but they are started and counted in
one fixed order. A job uses the run statistics of the first job, and of all jobs up to `AHEAD` before it. So the answer
does not depend on the number of workers.
"""

from __future__ import annotations

import functools
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from actors.system.strategy import InTurn
from explorer import defaults, signals
from explorer.determinism import NotTheSameError
from explorer.experiment import Experiment, RunOptions
from explorer.garbage import collect_rarely, collected_rarely
from explorer.replay import Divergence
from explorer.schedule import Follow
from explorer.search.checkpoint import Checkpoint, Keeper, Resumed
from explorer.search.class_table import ClassTable
from explorer.search.estimate import Probes, Sightings
from explorer.search.exact import Explored, explore_subtree, run_exactly
from explorer.search.jobs import Job, JobReport, News, Outcome, is_checked, run_job, run_to_confirm
from explorer.search.parallel import Parallel, Taken
from explorer.search.path_records import unpack
from explorer.search.portfolio import Portfolio
from explorer.search.protocol import Search
from explorer.search.registry import DPOR, GUIDED, PORTFOLIO, STRATEGIES, ParsedStrategy, make_search, parse_strategy
from explorer.search.strategies.dpor import Dpor
from explorer.search.strategies.prefix import Following
from explorer.search.strategies.simple import RandomWalk
from explorer.watch import RacingPair
from explorer.workers import Pool, Task, Tell, WorkerLostError
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.schedule import Schedule

if TYPE_CHECKING:
    from actors.system.strategy import Strategy

AHEAD = 8
"""Most jobs in progress at once; also with one worker, so that the run statistics are equally old."""


@attrs.define
class Found:
    """One finding, and the first schedule that showed it; `experiment` is set if it is not the campaign's.

    `seen` are the numbers of all schedules that showed it. A finding with the cause of another one is its symptom.
    """

    finding: Finding
    first_schedule: int
    strategy: str
    remake: Callable[[], Strategy]
    schedule: Schedule
    count: int = 0
    log: str | None = None
    experiment: Experiment | None = None
    seen: set[int] = attrs.field(factory=set, repr=False)
    symptoms: list[Found] = attrs.field(factory=list, repr=False)
    symptom_of: str | None = None


@attrs.define
class Statistics:
    """Figures of the schedules: for steps and switches the minimum, the sum and the maximum."""

    schedules: int = 0
    with_findings: int = 0
    steps: list[int] = attrs.field(factory=lambda: [1 << 62, 0, 0])
    switches: list[int] = attrs.field(factory=lambda: [1 << 62, 0, 0])

    def add(self, outcome: Outcome) -> None:
        """Add one schedule."""
        self.schedules += 1
        self.with_findings += bool(outcome.findings)
        for figure, value in ((self.steps, outcome.steps), (self.switches, outcome.switches)):
            figure[:] = min(figure[0], value), figure[1] + value, max(figure[2], value)


@attrs.define
class Campaign:
    """The state of a search.

    `stopped` is why it ended: `exhausted`, `budget`, `time`, `first`, `interrupted`, `diverged` or `lost`. `lost` means
    that a job ended every process that tried it; `loss` names the job. `lost_workers` also counts replaced workers.

    *before* may run schedules of its own first, and count them with `take_first`. *on_found* is called with each
    finding at once; it may raise NotTheSameError if a further run does not show the finding. The *budget* is in
    schedules; None is no budget. `cut_off` counts the runs of an exact search that stopped early: every continuation
    had been explored.

    The same choices have to lead to the same run. So some schedules are run twice (`is_checked`), and also each
    schedule with a new finding, before that counts; with *runs_twice* all schedules are. Exact searches compare each
    state with the state that the same choices led to before. At the first difference the search stops as `diverged`,
    and `divergence` describes the difference. All findings are then dropped: the schedules were not runs of one kernel.

    A *keeper* writes checkpoints of an `exact` search, now and then and at every end. With *resumed* the search goes on
    from a checkpoint.

    `exact_classes` are the classes that the exact search has run; if the search is exhausted, there are no others.
    """

    experiment: Experiment
    options: RunOptions
    budget: int | None = defaults.BUDGET
    seconds: float | None = None
    workers: int = 1
    first_only: bool = False
    progress: Callable[[Campaign], None] | None = None
    before: Callable[[Campaign], None] | None = None
    on_found: Callable[[Found], None] | None = None
    runs_twice: bool = False
    keeper: Keeper | None = None
    resumed: Checkpoint | None = None
    exact: Dpor | Parallel | Resumed | None = None
    divergence: Divergence | None = None
    loss: WorkerLostError | None = None
    sightings: Sightings = attrs.field(factory=Sightings)
    probes: Probes = attrs.field(factory=Probes)
    statistics: Statistics = attrs.field(factory=Statistics)
    found: dict[str, Found] = attrs.field(factory=dict)
    by_strategy: dict[str, Counter[str]] = attrs.field(factory=dict)
    functions: set[str] = attrs.field(factory=set)
    pairs: set[RacingPair] = attrs.field(factory=set)
    unreached: set[str] | None = None
    cut_off: int = 0
    exact_classes: ClassTable = attrs.field(factory=ClassTable)
    stopped: str = ""
    began: float = attrs.field(factory=time.monotonic)
    named: ParsedStrategy = attrs.field(init=False)
    _pool: Pool = attrs.field(init=False)
    reduces: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = Pool(self.workers)
        self.named = parse_strategy(self.options.strategy)
        strategy = self.named.entry.name
        may_reduce = strategy in {DPOR, GUIDED, PORTFOLIO}
        observed = self._observed_after_steps() if may_reduce else None
        if observed is not None and strategy == DPOR:
            msg = (
                f"--strategy {DPOR}: {observed} looks after each step, and {DPOR} leaves out orders that only it can "
                "tell apart; take dfs, a sampler or the portfolio"
            )
            raise UsageError(msg)
        self.reduces = may_reduce and observed is None

    def _observed_after_steps(self) -> str | None:
        """The oracle or property that may tell two orders of independent steps apart; None if there is none."""
        for oracle in self.experiment.oracles:
            if oracle.when == "step":
                return f"the oracle {oracle.name}"
        for prop in self.experiment.set_stage(InTurn()).spanning:
            return f"the property {prop.name!r}, which is not declared as is_local,"
        return None

    def run(self) -> None:
        """Search until the schedules, the budget or the time are used up."""
        try:
            with collected_rarely():
                self._search()
        except KeyboardInterrupt:
            self.stopped = self.stopped or "interrupted"
        except WorkerLostError as error:
            self.stopped, self.loss = "lost", error
        finally:
            self._finish(self._pool.close)
        if self.keeper is not None:
            self._finish(functools.partial(self.keeper.keep, self))

    def _finish(self, act: Callable[[], None]) -> None:
        """Do a thing that a signal must not cut short; the signal makes the search an interrupted one."""
        try:
            with signals.held_back():
                act()
        except KeyboardInterrupt:
            self.stopped = "interrupted"

    def _search(self) -> None:
        if self.before is not None:
            self.before(self)
        self._follow(self._make_search())

    @property
    def lost_workers(self) -> int:
        """The number of worker processes that were lost."""
        return self._pool.lost

    @property
    def schedules(self) -> int:
        """The number of schedules that were run."""
        return self.statistics.schedules

    def room_after(self, schedules: int) -> int:
        """How many more than *schedules* may be run; without a budget, the default budget."""
        return defaults.BUDGET if self.budget is None else self.budget - schedules

    @property
    def outcome(self) -> str:
        """The outcome of the search, as one of the words in docs/json.md."""
        if self.stopped in {"interrupted", "diverged", "lost"}:
            return self.stopped
        if self.found:
            return "finding"
        return "exhausted" if self.stopped == "exhausted" else "budget"

    @property
    def classes(self) -> int:
        """The number of trace classes: all classes, if the search is exhausted; otherwise the classes seen so far.

        A sample that ended with a fatal finding is a part of one class or of several, so an exhausted search does not
        count it.
        """
        return len(self.exact_classes) if self.stopped == "exhausted" else self.sightings.classes

    @property
    def causes(self) -> list[Found]:
        """The findings, except symptoms of other findings (`grouping`)."""
        return [found for found in self.found.values() if found.symptom_of is None]

    def gaps(self) -> set[RacingPair]:
        """Pairs of racing operations that were only seen in the other order."""
        return {(second, first) for first, second in self.pairs} - self.pairs

    def take_first(self, name: str, report: JobReport, experiment: Experiment, remake: Callable[[], Strategy]) -> None:
        """Count schedules that were run before the search, under *name*.

        If they belong to another *experiment*, their classes do not count.
        """
        sightings = self.sightings
        if experiment.header.parameters != self.experiment.header.parameters:
            self.sightings = Sightings()
        self._count("kept", report, lambda _number: remake(), experiment, name)
        self.sightings = sightings
        self._check_end()

    # -- the search ---------------------------------------------------------------------------------------------------

    def _follow(self, search: Search) -> None:
        """Run the schedules of *search*: up to `AHEAD` jobs at once, but one alone until the first report."""
        under_way: deque[tuple[Job, Callable[[], JobReport]]] = deque()
        given_out, ahead = self.schedules, 1
        while not self.stopped:
            room = self.room_after(given_out)
            planned = search.next_schedule(room) if room > 0 and len(under_way) < ahead else None
            if isinstance(planned, Job):
                given_out += planned.count
                under_way.append((planned, self._give_out(planned)))
            elif planned is not None:
                self._try_exactly(search, planned)
                given_out, ahead = self.schedules, 1
            elif under_way:
                self._take(search, *under_way.popleft())
                ahead = AHEAD
            else:
                self.stopped = "exhausted" if search.done else "budget"

    def _give_out(self, job: Job) -> Callable[[], JobReport]:
        """Start a job, here or in another process; return a function that waits for its report."""
        if self.workers == 1:
            return lambda: run_job(self.experiment, job, twice=self.runs_twice)
        task = Task(str(job), work, (self.options, job, self.runs_twice))
        self._pool.add(task)
        return lambda: self._pool.answer(task)

    def _take(self, search: Search, job: Job, wait: Callable[[], JobReport]) -> None:
        report = wait()
        self._count(job.strategy, report, job.remake)
        search.learn(job, report)
        self._check_end()

    def _count(
        self,
        strategy: str,
        report: JobReport,
        remake: Callable[[int], Strategy],
        experiment: Experiment | None = None,
        name: str | None = None,
    ) -> None:
        """Count a report, up to a schedule that diverges when it is run again; set the report's `news`.

        A signal waits until the current schedule is counted and its findings are confirmed and logged. The schedules
        after it are not counted.
        """
        classes, found, pairs, schedules = self.sightings.classes, len(self.found), len(self.pairs), self.schedules
        with signals.held_back():
            for outcome in report.outcomes:
                again = functools.partial(remake, outcome.number)
                if any(finding.signature not in self.found for finding in outcome.findings):
                    self.note(run_to_confirm(experiment or self.experiment, again, outcome))
                if self.divergence is not None or signals.is_pending():
                    break
                self._add(outcome, strategy)
                self._find(outcome, name or strategy, again, experiment)
            self._cover(report)
            self.note(report.divergence)
            news = News(self.sightings.classes - classes, len(self.found) - found, len(self.pairs) - pairs)
            report.news = news
            counts = self.by_strategy.setdefault(strategy, Counter())
            counts.update(schedules=self.schedules - schedules, classes=news.classes, findings=max(news.findings, 0))

    def _add(self, outcome: Outcome, strategy: str) -> None:
        self.statistics.add(outcome)
        entry = STRATEGIES.get(strategy)
        self.sightings.add(outcome.trace_class, strategy if entry is not None and entry.is_unbiased else "")
        if strategy == RandomWalk.name:
            self.probes.add(outcome.log10_alternatives)

    def _find(self, outcome: Outcome, name: str, remake: Callable[[], Strategy], experiment: Experiment | None) -> None:
        """Count the findings of the schedule that was counted last; *name* is its strategy."""
        number = self.schedules - 1
        for finding in outcome.findings:
            is_new = finding.signature not in self.found
            if is_new:
                schedule = outcome.schedule
                self.found[finding.signature] = Found(finding, number, name, remake, schedule, experiment=experiment)
            found = self.found[finding.signature]
            found.count += 1
            found.seen.add(number)
            if is_new:
                self._tell(found)
            if self.divergence is not None:
                return

    def _tell(self, found: Found) -> None:
        try:
            if self.on_found is not None:
                self.on_found(found)
        except NotTheSameError as error:
            self.note(error.divergence)

    def _cover(self, report: JobReport) -> None:
        self.functions |= report.functions
        self.pairs |= report.pairs
        if report.unreached is not None:
            self.unreached = report.unreached if self.unreached is None else self.unreached & report.unreached

    def note(self, divergence: Divergence | None) -> None:
        """Note a divergence, if there is one: it ends the search, and drops all findings."""
        if divergence is not None and self.divergence is None:
            self.divergence = divergence
            self.stopped = "diverged"
            self.found.clear()
            for counts in self.by_strategy.values():
                counts["findings"] = 0

    def _check_end(self) -> None:
        if self.stopped:
            return
        if self.first_only and self.found:
            self.stopped = "first"
        elif self.seconds is not None and time.monotonic() - self.began >= self.seconds:
            self.stopped = "time"
        if self.progress is not None:
            self.progress(self)
        if self.keeper is not None:
            self.keeper.keep_now_and_then(self)

    # -- exact search -------------------------------------------------------------------------------------------------

    def _try_exactly(self, search: Search, schedule: Following | Taken) -> None:
        """Count one schedule of an exact search, and pass the report to the search; another process may have run it."""
        if isinstance(schedule, Taken):
            report = schedule.report
        else:
            twice = self.runs_twice or is_checked(self.schedules)
            report = run_exactly(self.experiment, schedule, twice=twice)
        with signals.held_back():
            if self._count_exactly(schedule.strategy, report):
                search.learn(schedule, report)
        self._check_end()

    def _count_exactly(self, strategy: str, report: JobReport) -> bool:
        """Count a schedule; False if it does not count, because it diverges or because a signal has come before."""
        if not report.outcomes and report.divergence is None:
            self.cut_off += 1
            self.by_strategy.setdefault(strategy, Counter())["cut_off"] += 1
            return True
        before = self.schedules
        outcomes = report.outcomes = [attrs.evolve(outcome, number=before) for outcome in report.outcomes]
        self._count(strategy, report, lambda _number: Follow(outcomes[0].schedule, controls_clock=True))
        if self.schedules > before:
            self.exact_classes[int(outcomes[0].trace_class, 16)] = 1
        return self.schedules > before and self.divergence is None

    def _make_search(self) -> Search:
        """The search; with several workers, its exact part is divided among them."""
        if self.resumed is not None:
            self._restore(self.resumed)
            search = Dpor(unpack(self.resumed.path), has_next=self.resumed.has_next)
            self.exact = Resumed(self.resumed.reports, self._divided(search) if self.workers > 1 else search)
            return self.exact
        made = make_search(self.options.strategy, self.options.seed, self.sightings, reduces=self.reduces)
        if isinstance(made, Dpor):
            self.exact = self._divided(made) if self.workers > 1 else made
            return self.exact
        if self.workers > 1 and isinstance(made, Portfolio) and isinstance(made.exact, Dpor):
            made.exact = self._divided(made.exact)
        return made

    def _restore(self, then: Checkpoint) -> None:
        """Take over the results of a search that was stopped."""
        self.statistics = Statistics(then.schedules, then.with_findings, then.steps, then.switches)
        self.sightings = Sightings.of(then.classes, then.schedules)
        self.exact_classes = ClassTable.of(then.classes)
        self.by_strategy = {name: Counter(counts) for name, counts in then.by_strategy.items()}
        self.functions, self.pairs = set(then.functions), set(then.pairs)
        self.unreached = None if then.unreached is None else set(then.unreached)
        self.cut_off = then.cut_off
        for one in then.found:
            remake = functools.partial(Follow, one.schedule, controls_clock=True)
            found = Found(one.finding, one.first_schedule, one.strategy, remake, one.schedule, one.count, one.log)
            found.seen = set(one.seen)
            self.found[one.finding.signature] = found
        self._check_end()

    def _divided(self, search: Dpor) -> Parallel:
        def task_of(path: bytes, floor: int, most: int) -> Task:
            name = f"{most} schedules of dpor below step {floor}"
            return Task(name, explore, (self.options, path, floor, most, self.runs_twice))

        return Parallel(search, self._pool, task_of)


@functools.lru_cache(maxsize=1)
def experiment_of(options: RunOptions) -> Experiment:
    """The experiment of a worker process."""
    return Experiment.of(options)


def work(options: RunOptions, job: Job, twice: bool, _tell: Tell) -> JobReport:  # noqa: FBT001 -- a task has no keywords
    """Run a job in a worker process."""
    collect_rarely()
    return run_job(experiment_of(options), job, twice=twice)


def explore(options: RunOptions, path: bytes, floor: int, most: int, twice: bool, _tell: Tell) -> Explored:  # noqa: FBT001 -- as above
    """Explore a part of an exact search in a worker process."""
    collect_rarely()

    def run(schedule: Following, is_twice: bool) -> JobReport:  # noqa: FBT001 -- it has no other arguments
        return run_exactly(experiment_of(options), schedule, twice=is_twice)

    return explore_subtree(path, floor, most, run, twice=twice)
