"""Traced runs: one schedule step by step, with the accesses of each step; for shrinking and explaining."""

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
"""Longest run, in steps, for which the happens-before order is computed: its memory grows with the square."""


@attrs.define(eq=False)
class TracedStep(Event):
    """One step of the race, with names.

    `number` and `time` (ns) count from the start of the run. `kind` is the kind of the flow (`A` for a message to an
    actor), `enabled` lists the lanes that could step, and `values` the environment's choices within the step.
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
        """Its lane, function, operation and owner."""
        return self.lane, self.function, self.operation, self.owner

    @property
    def choices(self) -> list[Choice]:
        """The choices of a schedule for this step."""
        return [self.lane, *self.values]


class Tracing(Observer):
    """An observer that records the steps of the race; it stops the world at the finding with the signature *wanted*."""

    def __init__(self, world: World, watch: Watch, wanted: str | None = None) -> None:
        self.steps: list[TracedStep] = []
        self.found: Finding | None = None
        self._world = world
        self._watch = watch
        self._wanted = wanted
        self._races = False

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Record the step; only now are the accesses of the step before complete."""
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
        """Copy the accesses of the last step from the watch."""
        if self.steps:
            self._watch.end_step()
            self.steps[-1].accesses |= self._watch.accesses

    def value(self, count: int, value: int) -> None:  # noqa: ARG002 -- the protocol
        """Record a choice of the environment."""
        if self._races and self.steps:
            self.steps[-1].values.append(value)

    def phase(self, name: str) -> None:
        """Record the race only."""
        if self._races:
            self.end_step()
        self._races = name == "race"

    def finding(self, finding: Finding) -> None:
        """Keep the wanted finding, and stop the world there."""
        if self.found is None and self._wanted in {None, finding.signature}:
            self.found = finding
            if self._wanted is not None:
                self._world.stop(FOUND)


@attrs.define(eq=False)
class Trace:
    """A traced run; `found` is the wanted finding, if it came."""

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
        """The signature of the finding, which has to be there."""
        assert self.found is not None, "the run shows its finding"
        return self.found.signature

    @property
    def switches(self) -> int:
        """The number of switches between lanes."""
        return sum(one.lane != other.lane for one, other in zip(self.steps, self.steps[1:], strict=False))

    @property
    def preemptions(self) -> int:
        """The number of preemptions: switches away from a lane that could have gone on."""
        return sum(map(self.preempts, range(len(self.steps) - 1)))

    def preempts(self, place: int) -> bool:
        """Whether the lane of the step at *place* was preempted after it: still enabled, while another lane stepped."""
        one, other = self.steps[place], self.steps[place + 1]
        return one.lane != other.lane and one.lane in other.enabled

    @property
    def ends_at_rest(self) -> bool:
        """Whether the finding came after the race, so that no single step has caused it."""
        found = self.found
        return found is not None and not (found.flow and self.steps and found.step == self.steps[-1].number)

    def steps_that_matter(self) -> list[int]:
        """The steps at which lanes interact on the way to the finding: the last step, and both steps of each race.

        A race is a pair of steps of different lanes of which one directly depends on the other. Only pairs in the
        causal past of the last step count; all pairs count if the finding is about the final state.
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

    *recorder* is called before the other observers at each step.
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
    """Repeat the choices of a log, up to the finding *wanted* (by default the one that the log was made to show).

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
        msg = f"{path}: the run does not show {signature} (any more); `slabrace replay` shows where it diverges"
        raise UsageError(msg)
    return trace


def wanted_finding(path: Path, wanted: str | None, shows: str) -> str:
    """The signature *wanted*, or the one the log *shows*, or its last; UsageError if there is no such finding."""
    if wanted is None and shows:
        return shows
    signatures = signatures_in(path)
    if wanted is not None and wanted not in signatures:
        msg = f"--signature {wanted}: {no_such(f'finding in {path}', wanted, signatures)}"
        raise UsageError(msg)
    return wanted or signatures[-1]


def signatures_in(path: Path) -> list[str]:
    """The signatures of the findings in a log, in order; UsageError if there are none."""
    log = LogReader(path)
    try:
        findings = [record.finding for _, record in log.records() if isinstance(record, FindingRecord)]
    finally:
        log.close()
    if not findings:
        msg = f"{path}: nothing was found in this run"
        raise UsageError(msg)
    return [finding.signature for finding in findings]
