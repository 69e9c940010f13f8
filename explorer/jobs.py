"""What a search asks of a worker: some schedules of one strategy; and what it is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from explorer.experiment import Experiment
from explorer.schedule import Choice, Noting, Schedule
from explorer.strategies import Knowledge, Profile, find_strategy, make_strategy, seed_of
from explorer.watch import Pair, Watch
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
    """What became of one schedule. `schedule` is only kept if something was found."""

    number: int
    trace_class: str
    steps: int
    choices: int
    switches: int
    log10_schedules: float
    findings: tuple[Finding, ...]
    schedule: Schedule = ()


@attrs.define
class Report:
    """What became of a job: its schedules one by one, and what they covered together.

    `unreached` are the `sometimes` properties that no schedule reached; None before the first.
    """

    outcomes: list[Outcome] = attrs.field(factory=list)
    profiles: list[Profile] = attrs.field(factory=list)
    functions: set[str] = attrs.field(factory=set)
    pairs: set[Pair] = attrs.field(factory=set)
    unreached: set[str] | None = None

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
                watch.alternatives,
                findings,
                tuple(choices) if findings else (),
            )
        )
        self.profiles.append(watch.profile())
        self.functions |= watch.covered_functions()
        self.pairs |= watch.racing_pairs()
        missed = {prop.name for prop in stage.unreached}
        self.unreached = missed if self.unreached is None else self.unreached & missed


def run_watched(experiment: Experiment, strategy: Strategy, *, word: str = "") -> tuple[Stage, Watch]:
    """Run the scenario once on the stepper, and watch it."""
    stage = experiment.set_stage(strategy)
    watch = stage.world.observer = Watch(stage.world, word=word)
    stage.start()
    experiment.drive(stage.world)
    return stage, watch


def run_job(experiment: Experiment, job: Job) -> Report:
    """Run all schedules of a job."""
    report = Report()
    _, word = find_strategy(job.strategy)
    for number in range(job.first, job.first + job.count):
        noting = Noting(job.remake(number))
        stage, watch = run_watched(experiment, noting, word=word)
        report.add(number, stage, watch, noting.choices)
    return report
