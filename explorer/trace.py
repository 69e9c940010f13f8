"""A run of one schedule, step by step, with what each step accessed: what shrinking and explaining work on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from actors.system.flow import SETTLE
from actors.system.observer import Observer
from actors.system.recorder import Recorder
from explorer.causality import Event, Order
from explorer.observers import FOUND
from explorer.replay import Replay
from explorer.watch import Watch
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.log import LogReader
from protocol.names import no_such
from protocol.operations import UPDATE
from protocol.records import FindingRecord
from protocol.schedule import Choice, Schedule

if TYPE_CHECKING:
    from collections.abc import Hashable

    from actors.system.lane import Lane
    from actors.system.strategy import Strategy
    from actors.system.world import EnabledSet, World
    from explorer.experiment import Experiment
    from scenarios.stage import Stage


LONGEST_ORDERED = 20_000
"""Of longer runs the order of all steps is not made: it takes memory with the square of their number."""


@attrs.define(eq=False)
class TracedStep(Event):
    """One step of the race, in words.

    `number` and `time` (ns) are those of the run, `kind` is that of the flow (`A` for an actor's mail), `enabled` are
    the lanes that could step, `values` what the environment chose within the step.
    """

    number: int = 0
    time: int = 0
    kind: str = ""
    function: str = ""
    operation: str = ""
    owner: str = ""
    target: Hashable = None
    enabled: tuple[str, ...] = ()
    values: list[int] = attrs.field(factory=list)

    @property
    def words(self) -> tuple[str, str, str, str]:
        """What is told of it: who does what, where, to what."""
        return self.lane, self.function, self.operation, self.owner

    @property
    def choices(self) -> list[Choice]:
        """What a schedule has to say for this step."""
        return [self.lane, *self.values]


class Tracing(Observer):
    """An observer that keeps the steps of the race; it stops the world at the finding with the signature *wanted*."""

    def __init__(self, world: World, watch: Watch, wanted: str | None = None) -> None:
        self.steps: list[TracedStep] = []
        self.found: Finding | None = None
        self._world = world
        self._watch = watch
        self._wanted = wanted
        self._races = False

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Keep the step; what the one before accessed is known now."""
        if not self._races:
            return
        self.end_step()
        request = lane.request
        step = TracedStep(
            lane.name, number=world.steps, time=world.now, enabled=tuple(other.name for other in enabled.lanes)
        )
        step.accesses = {lane: UPDATE}
        if request is None:
            step.kind, step.operation, step.function = "A", "mail", lane.name
        else:
            flow = request.flow
            step.kind, step.cpu = flow.kind.value, flow.cpu.id if flow.cpu else None
            step.function, step.operation = request.code.co_name, request.info.name
            step.may_wait = request.info.when is not None
            step.after_quiet = request.info is SETTLE
            if request.target is not None:
                step.owner, step.target = request.target.label, request.target
        self.steps.append(step)

    def end_step(self) -> None:
        """Take from the watch what the last step accessed."""
        if self.steps:
            self._watch.end_step()
            self.steps[-1].accesses |= self._watch.accesses

    def value(self, count: int, value: int) -> None:  # noqa: ARG002 -- the protocol
        """Keep what the environment chose."""
        if self._races and self.steps:
            self.steps[-1].values.append(value)

    def phase(self, name: str) -> None:
        """Only the race is kept."""
        if self._races:
            self.end_step()
        self._races = name == "race"

    def finding(self, finding: Finding) -> None:
        """Stop at the one that is wanted."""
        if self.found is None and self._wanted in {None, finding.signature}:
            self.found = finding
            if self._wanted is not None:
                self._world.stop(FOUND)


@attrs.define(eq=False)
class Trace:
    """A run that has been traced; `found` is the finding that was wanted, if it came."""

    stage: Stage = attrs.field(repr=False)
    steps: list[TracedStep]
    found: Finding | None
    trace_class: str

    @property
    def schedule(self) -> Schedule:
        """The choices of the race."""
        return tuple(choice for step in self.steps for choice in step.choices)

    @property
    def signature(self) -> str:
        """That of the finding, which is there."""
        assert self.found is not None, "the run shows what it was made for"
        return self.found.signature

    @property
    def switches(self) -> int:
        """How often another lane stepped than before."""
        return sum(one.lane != other.lane for one, other in zip(self.steps, self.steps[1:], strict=False))

    @property
    def preemptions(self) -> int:
        """How often a lane that could have gone on did not."""
        return sum(map(self.preempts, range(len(self.steps) - 1)))

    def preempts(self, place: int) -> bool:
        """Whether the lane of the step at *place* could have gone on after it, and did not."""
        one, other = self.steps[place], self.steps[place + 1]
        return one.lane != other.lane and one.lane in other.enabled

    @property
    def ends_at_rest(self) -> bool:
        """Whether the finding came when the race was over: no step of it is to blame alone."""
        found = self.found
        return found is not None and not (found.flow and self.steps and found.step == self.steps[-1].number)

    def steps_that_matter(self) -> list[int]:
        """The steps by which lanes meet on the way to the finding: the last one, and those on either side of a race.

        In the causal past of the last step (or anywhere, if the finding is about what was left at the end), those that
        another lane's step directly depends on, and those that directly depend on another lane's.
        """
        if not self.steps or len(self.steps) > LONGEST_ORDERED:
            return [len(self.steps) - 1] if self.steps else []
        order, last = self.order(), len(self.steps) - 1
        past = ~0 if self.ends_at_rest else order.past[last] | 1 << last
        matter = {last}
        for second in range(len(self.steps)):
            for first in order.nearest(second):
                if past >> second & past >> first & 1 and self.steps[first].lane != self.steps[second].lane:
                    matter |= {first, second}
        return sorted(matter)

    def order(self) -> Order:
        """The happens-before order of the steps."""
        order = Order()
        for step in self.steps:
            order.add(step)
        return order


def run_traced(
    experiment: Experiment,
    strategy: Strategy,
    wanted: str | None = None,
    recorder: Observer | None = None,
    driver: str = "stepper",
) -> Trace:
    """Run one schedule, up to the finding with the signature *wanted* or to its end.

    *recorder* sees each step before the trace does.
    """
    stage = experiment.set_stage(strategy)
    watch = Watch(stage.world, wants_accesses=True)
    tracing = Tracing(stage.world, watch, wanted)
    stage.world.observers = (tracing, watch) if recorder is None else (recorder, tracing, watch)
    stage.start()
    experiment.drive(stage.world, driver)
    tracing.end_step()
    return Trace(stage, tracing.steps, tracing.found, watch.trace_class())


def trace_log(experiment: Experiment, path: Path, wanted: str | None = None) -> Trace:
    """Make the choices of a log once more, up to the finding *wanted* (if not said, the one that the log was made for).

    UsageError if the log has no such finding, or if its choices do not lead to it any more.
    """
    signature = wanted_finding(path, wanted, experiment.header.shows)
    log = LogReader(path)
    try:
        replay = Replay(log)
        trace = run_traced(experiment, replay, signature, Recorder(replay.verify))
    finally:
        log.close()
    if trace.found is None:
        msg = f"{path}: the run does not show {signature} (any more); `slabrace replay` says where it parts"
        raise UsageError(msg)
    return trace


def wanted_finding(path: Path, wanted: str | None, shows: str) -> str:
    """The signature *wanted*, or that which the log *shows*, or its last; UsageError if there is no such finding."""
    if wanted is None and shows:
        return shows
    signatures = signatures_in(path)
    if wanted is not None and wanted not in signatures:
        msg = f"--signature {wanted}: {no_such(f'finding in {path}', wanted, signatures)}"
        raise UsageError(msg)
    return wanted or signatures[-1]


def signatures_in(path: Path) -> list[str]:
    """The signatures of the findings in a log, in their order; UsageError if there are none."""
    log = LogReader(path)
    try:
        findings = [record.finding for _, record in log.records() if isinstance(record, FindingRecord)]
    finally:
        log.close()
    if not findings:
        msg = f"{path}: nothing was found in this run"
        raise UsageError(msg)
    return [finding.signature for finding in findings]
