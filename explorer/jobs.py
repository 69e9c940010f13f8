"""What a search asks of a worker: some schedules of one strategy; and what it is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.system.recorder import Recorder
from explorer.determinism import first_divergence
from explorer.experiment import Experiment
from explorer.replay import Divergence
from explorer.schedule import Choice, Noting, Schedule
from explorer.strategies import Knowledge, Profile, find_strategy, make_strategy, seed_of
from explorer.watch import Both, Pair, Watch
from protocol.findings import Finding

if TYPE_CHECKING:
    from actors.system.strategy import Strategy
    from scenarios.stage import Stage

SCHEDULES_PER_JOB = 8


@attrs.frozen
class Job:
    """Schedules *first* to *first* + *count* - 1 of a search, by one strategy with what is *known* so far."""

    strategy: str
    seed: int
    first: int
    count: int
    known: Knowledge

    def remake(self, number: int) -> Strategy:
        """The strategy that makes schedule *number*, each time the same."""
        return make_strategy(self.strategy, seed_of(self.seed, number), self.known)


@attrs.frozen
class Outcome:
    """What became of one schedule.

    `log10_alternatives` is the decimal logarithm of the product of the numbers of alternatives at all its choices.
    `schedule` is only kept if something was found.
    """

    number: int
    trace_class: str
    steps: int
    choices: int
    switches: int
    log10_alternatives: float
    findings: tuple[Finding, ...]
    schedule: Schedule = ()


@attrs.define
class Report:
    """What became of a job: its schedules one by one, and what they covered together.

    `unreached` are the `sometimes` properties that no schedule reached; None before the first. `divergence` is where a
    schedule that was run twice was not the same; it is the last one then.
    """

    outcomes: list[Outcome] = attrs.field(factory=list)
    profiles: list[Profile] = attrs.field(factory=list)
    functions: set[str] = attrs.field(factory=set)
    pairs: set[Pair] = attrs.field(factory=set)
    unreached: set[str] | None = None
    divergence: Divergence | None = None

    def add(self, number: int, stage: Stage, watch: Watch, choices: list[Choice]) -> None:
        """Take in one schedule that has been run."""
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
        self.profiles.append(watch.profile())
        self.functions |= watch.covered_functions()
        self.pairs |= watch.racing_pairs()
        missed = {prop.name for prop in stage.unreached}
        self.unreached = missed if self.unreached is None else self.unreached & missed


def run_watched(
    experiment: Experiment, strategy: Strategy, *, word: str = "", records: list[bytes] | None = None
) -> tuple[Stage, Watch]:
    """Run the scenario once on the stepper, and watch it; its records are added to *records*, if that is given."""
    stage = experiment.set_stage(strategy)
    watch = Watch(stage.world, word=word)
    stage.world.observer = watch if records is None else Both(Recorder(records.append), watch)
    stage.start()
    experiment.drive(stage.world)
    return stage, watch


def run_job(experiment: Experiment, job: Job, *, twice: bool = False) -> Report:
    """Run all schedules of a job, each of them *twice* if wanted, up to the first that is not the same then."""
    report = Report()
    _, word = find_strategy(job.strategy)
    for number in range(job.first, job.first + job.count):
        noting = Noting(job.remake(number))
        records: list[bytes] | None = [] if twice else None
        stage, watch = run_watched(experiment, noting, word=word, records=records)
        report.add(number, stage, watch, noting.choices)
        if records is not None:
            report.divergence = run_once_more(experiment, job.remake(number), records)
            if report.divergence is not None:
                break
    return report


def run_once_more(experiment: Experiment, strategy: Strategy, records: list[bytes]) -> Divergence | None:
    """Run a schedule whose records are known again; say where it is not the same, if it is not."""
    again: list[bytes] = []
    run_watched(experiment, Noting(strategy), records=again)
    return first_divergence(records, again)
