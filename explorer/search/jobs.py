"""Jobs, which are some schedules of one strategy for a worker, and the reports that come back."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.system.recorder import Recorder
from explorer.determinism import NotTheSameError, first_divergence
from explorer.experiment import Experiment
from explorer.observers import Labels
from explorer.profile import Knowledge, seed_of
from explorer.race_places import RacePlaces
from explorer.replay import Divergence
from explorer.search.registry import PORTFOLIO, STRATEGIES, find_strategy, make_strategy, parse_strategy
from explorer.search.strategies.mutations import Mutation
from explorer.search.strategies.simple import RandomWalk
from explorer.search.strategies.surw import SelectiveWalk
from explorer.watch import RacingPair, Watch
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.names import no_such
from protocol.records import CodeRecord
from protocol.schedule import Choice, Schedule

if TYPE_CHECKING:
    from actors.system.strategy import Strategy
    from scenarios.stage import Stage

SCHEDULES_PER_JOB = 8

CHECKED_EVERY = 32
"""Every so many schedules one is run twice, besides some of the first ones."""


MOST_RUNS_TO_SEE = 16
"""Most runs of a schedule that diverged, to find the step of the divergence."""


@attrs.frozen
class Job:
    """Schedules *first* to *first* + *count* - 1 of a search, by one strategy with the *known* run statistics.

    *code* is the strategy's, if it comes from a file. A job of the guided search has the pairs of racing operations
    that were *seen* before it: its schedules with other pairs are reported (`JobReport.shown`). Its schedules may be
    made by a *mutation* instead of a sampler.
    """

    strategy: str
    seed: int
    first: int
    count: int
    known: Knowledge
    code: CodeRecord | None = None
    seen: tuple[RacingPair, ...] | None = None
    mutation: Mutation | None = None

    def __str__(self) -> str:
        """The job in words, for messages."""
        last = self.first + self.count - 1
        which = f"schedules {self.first} to {last}" if last > self.first else f"schedule {last}"
        return f"{which} of {self.strategy}"

    def remake(self, number: int) -> Strategy:
        """A new strategy for schedule *number*, equal each time."""
        seed = seed_of(self.seed, number)
        if self.mutation is not None:
            return self.mutation.make(seed, self.seen or (), self.known)
        return make_strategy(self.strategy, seed, self.known, self.code)


@attrs.frozen
class News:
    """The numbers of new things in a job: trace classes, findings, ordered pairs of racing operations."""

    classes: int = 0
    findings: int = 0
    pairs: int = 0


@attrs.frozen
class Outcome:
    """The result of one schedule.

    `log10_alternatives` is the decimal logarithm of the product of the numbers of alternatives at all its choices.
    `schedule` is kept only if there are findings.
    """

    number: int
    trace_class: str
    steps: int
    choices: int
    switches: int
    log10_alternatives: float
    findings: tuple[Finding, ...]
    schedule: Schedule = ()


@attrs.frozen
class Shown:
    """A schedule that showed *pairs* of racing operations that no schedule had shown before, as far as the job knows.

    `places` are the places in the schedule of the first two steps of each pair.
    """

    number: int
    schedule: Schedule = ()
    pairs: tuple[RacingPair, ...] = ()
    places: tuple[tuple[int, int], ...] = ()


@attrs.define
class JobReport:
    """The result of a job: the outcome of each schedule, and their coverage together.

    `lengths` are the run statistics of its schedules, and `signatures` those of their findings.
    `unreached` are the `sometimes` properties that no schedule reached; None before the first schedule. `divergence` is
    the first difference of a schedule that was run twice; that schedule has no outcome, and none comes after it. `news`
    is set when the campaign has counted the report. `shown` has the schedules that showed something new to the guided
    search.
    """

    outcomes: list[Outcome] = attrs.field(factory=list)
    lengths: Knowledge = attrs.field(factory=Knowledge)
    signatures: set[str] = attrs.field(factory=set)
    functions: set[str] = attrs.field(factory=set)
    pairs: set[RacingPair] = attrs.field(factory=set)
    unreached: set[str] | None = None
    divergence: Divergence | None = None
    news: News = News()
    shown: list[Shown] = attrs.field(factory=list)

    def add(self, number: int, stage: Stage, watch: Watch, choices: Sequence[Choice]) -> None:
        """Add one schedule that was run, with its *choices* in the race."""
        world = stage.world
        findings = tuple(world.findings.values())
        self.outcomes.append(
            Outcome(
                number,
                watch.trace_class(),
                world.steps,
                watch.choices,
                watch.switches,
                watch.log10_alternatives,
                findings,
                tuple(choices) if findings else (),
            )
        )
        self.lengths.learn(watch.profile())
        self.signatures.update(world.findings)
        self.functions |= watch.covered_functions()
        self.pairs |= watch.racing_pairs()
        missed = {prop.name for prop in stage.unreached}
        self.unreached = missed if self.unreached is None else self.unreached & missed


def run_watched(
    experiment: Experiment, strategy: Strategy, *, word: str = "", records: list[bytes] | None = None
) -> tuple[Stage, Watch]:
    """Run the scenario once, on the driver of *experiment*, with a watch; append its records to *records*, if given.

    The watch has the choices of *strategy* in the race.
    """
    stage = experiment.set_stage(strategy)
    watch = Watch(stage.world, word=word, notes_from=experiment.begins_at)
    stage.world.observers = (watch,) if records is None else (Recorder(records.append), watch)
    stage.start()
    experiment.drive(stage.world, experiment.header.driver)
    with experiment.blaming(stage.world):
        watch.trace_class()  # here it reads the names that a strategy may have broken
    return stage, watch


def learn_first(experiment: Experiment, strategy: str) -> Knowledge:
    """Run statistics for *strategy*, if it needs any: the profile of one random walk with the experiment's seed.

    UsageError if its argument matches no object that this walk requests.
    """
    known = Knowledge()
    entry, word = find_strategy(strategy)
    if entry.learns:
        _, watch = run_watched(experiment, make_strategy("random", experiment.header.seed), word=word)
        known.learn(watch.profile())
        if entry.name == SelectiveWalk.name and word and not known.expected_marked():
            msg = f"--strategy {strategy}: {no_such('object in the race', word, labels_in(experiment))}"
            raise UsageError(msg)
    return known


def check_word(experiment: Experiment) -> None:
    """UsageError if the argument of the experiment's strategy matches no object; to check it takes a run."""
    strategy = experiment.header.strategy
    named = parse_strategy(strategy)
    if named.entry.name == PORTFOLIO and named.argument:
        strategy = named.argument
        named = parse_strategy(strategy)
    if named.argument and named.entry.name in STRATEGIES:
        learn_first(experiment, strategy)


def labels_in(experiment: Experiment) -> list[str]:
    """The labels of all objects that this random walk requests."""
    stage = experiment.set_stage(make_strategy("random", experiment.header.seed))
    labels = Labels()
    stage.world.observers = (labels,)
    stage.start()
    experiment.drive(stage.world, experiment.header.driver)
    return sorted(labels.seen)


def is_checked(number: int) -> bool:
    """Whether schedule *number* of a search is always run twice: 0, 1, 2, 4, 8, 16, and then every `CHECKED_EVERY`."""
    return number % CHECKED_EVERY == 0 or (number < CHECKED_EVERY and number & (number - 1) == 0)


def run_job(experiment: Experiment, job: Job, *, twice: bool = False) -> JobReport:
    """Run all schedules of a job, some of them (with *twice* all) twice; stop at the first divergence."""
    report = JobReport()
    word = "" if job.mutation is not None else find_strategy(job.strategy, job.code)[1]
    seen = None if job.seen is None else set(job.seen)
    for number in range(job.first, job.first + job.count):
        records: list[bytes] | None = [] if twice or is_checked(number) else None
        stage, watch = run_watched(experiment, job.remake(number), word=word, records=records)
        if records is not None:
            report.divergence = run_once_more(experiment, job.remake(number), records)
            if report.divergence is not None:
                break
        report.add(number, stage, watch, watch.schedule)
        if seen is not None and (new := sorted(watch.racing_pairs() - seen)):
            report.shown.append(Shown(number, *find_places(experiment, job.remake(number), new)))
            seen.update(new)
    return report


def find_places(
    experiment: Experiment, strategy: Strategy, pairs: Sequence[RacingPair]
) -> tuple[Schedule, tuple[RacingPair, ...], tuple[tuple[int, int], ...]]:
    """Run a schedule again, to find the places of *pairs* in it; return the schedule, the pairs and the places."""
    stage = experiment.set_stage(strategy)
    watch = Watch(stage.world, notes_from=experiment.begins_at)
    found = RacePlaces(watch)
    stage.world.observers = (watch, found)
    stage.start()
    experiment.drive(stage.world, experiment.header.driver)
    pairs = tuple(pair for pair in pairs if pair in found.places)
    return tuple(watch.schedule), pairs, tuple(found.places[pair] for pair in pairs)


def run_once_more(experiment: Experiment, strategy: Strategy, records: list[bytes]) -> Divergence | None:
    """Run a schedule again, and compare it with the *records* of its first run; return the divergence, if any."""
    again: list[bytes] = []
    run_watched(experiment, strategy, records=again)
    return first_divergence(records, again)


def check_again(experiment: Experiment, remake: Callable[[], Strategy], records: list[bytes], *, draws: bool) -> None:
    """Run a schedule with these *records* once more: NotTheSameError if it diverges.

    If it *draws* random numbers, one more run may not show the difference, so it is run several times.
    """
    for _ in range(MOST_RUNS_TO_SEE if draws else 1):
        divergence = run_once_more(experiment, remake(), records)
        if divergence is not None:
            raise NotTheSameError(divergence)


def check_patches(experiment: Experiment) -> None:
    """Run one schedule several times if user code takes part: NotTheSameError if the runs differ."""
    if not experiment.runs_user_code:
        return
    records: list[bytes] = []
    state = random.getstate()
    run_watched(experiment, RandomWalk(0), records=records)
    check_again(experiment, lambda: RandomWalk(0), records, draws=random.getstate() != state)


def run_to_confirm(experiment: Experiment, remake: Callable[[], Strategy], outcome: Outcome) -> Divergence | None:
    """Run a schedule with findings again; return the divergence, if any."""
    report = JobReport()
    stage, watch = run_watched(experiment, remake())
    report.add(outcome.number, stage, watch, watch.schedule)
    again = report.outcomes[0]
    return None if again == outcome else where_they_part(experiment, remake, outcome, again)


def where_they_part(
    experiment: Experiment, remake: Callable[[], Strategy], outcome: Outcome, again: Outcome
) -> Divergence:
    """The divergence of two runs of one schedule that are known to differ: run it with records until two runs differ.

    If the further runs are all equal, the divergence contains the results of the first two runs instead of a step.
    """
    records: list[bytes] = []
    run_watched(experiment, remake(), records=records)
    for _ in range(MOST_RUNS_TO_SEE):
        divergence = run_once_more(experiment, remake(), records)
        if divergence is not None:
            return divergence
    return Divergence(min(outcome.steps, again.steps), in_short(outcome), in_short(again))


def in_short(outcome: Outcome) -> str:
    """The result of a run in words."""
    found = ", ".join(finding.signature for finding in outcome.findings) or "nothing"
    return f"{outcome.steps} steps of class {outcome.trace_class}; found: {found}"
