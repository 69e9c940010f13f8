"""Run or replay once, from options to result."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from actors.system.recorder import Recorder
from actors.system.world import World, call_stack
from explorer import signals
from explorer.determinism import NotTheSameError
from explorer.experiment import NOTHING_GIVEN, Experiment, Given, RunOptions, strategy_files
from explorer.json_out import as_json, finding_json, patches_json
from explorer.observers import StopAt
from explorer.replay import Divergence, Replay
from explorer.search.jobs import check_again, learn_first
from explorer.search.registry import STRATEGIES, make_strategy, parse_strategy
from explorer.watch import Watch
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.log import LogReader, LogWriter
from protocol.records import Footer, Header, Names, Step, decode

if TYPE_CHECKING:
    from actors.system.strategy import Strategy
    from scenarios.stage import Operation, Sample, Stage

_UNREAD = 4096

Sink = Callable[[bytes], None]
Progress = Callable[[World], None]
Begun = Callable[[Header], None]


@attrs.frozen(kw_only=True)
class Result:
    """The result of a run or a replay. `outcome` and the other keys are documented in docs/json.md.

    `tail` lists the last steps. It is empty if all is well: reports do not need it, and a search makes thousands of
    runs.
    """

    outcome: str
    header: Header
    driver: str
    steps: int
    digest: str
    trace_class: str
    seconds: float
    findings: tuple[Finding, ...]
    unreached: tuple[str, ...]
    final: Mapping[str, int]
    samples: tuple[Sample, ...]
    log: Path | None
    program: tuple[Operation, ...] = ()
    tail: tuple[TailStep, ...] = ()
    before: tuple[tuple[TailStep, ...], ...] = ()
    positions: tuple[Position, ...] = ()
    stopped: str = "quiescent"
    divergence: Divergence | None = None
    damage: str | None = None
    is_damaged: bool = False

    @property
    def exit_code(self) -> int:
        """0 nothing found, 1 finding, 4 diverged, 130 interrupted."""
        return {"ok": 0, "finding": 1, "diverged": 4, "interrupted": 130}[self.outcome]


@attrs.frozen
class TailStep:
    """One of the last steps, with names, for reports."""

    number: int
    time: int
    flow: str
    cpu: int | None
    function: str
    operation: str
    owner: str
    enabled: int


class Tail:
    """The last steps of a world, and the last steps before each finding, decoded with the recorder's definitions.

    Most runs never need them. So the recorder only collects the definitions, and they are decoded on demand.
    """

    def __init__(self, world: World, sink: Sink | None, progress: Progress | None) -> None:
        self._world = world
        self._progress = progress
        self._names = Names()
        self._unread: list[bytes] = []
        self.before: list[tuple[TailStep, ...]] = []
        self.recorder = Recorder(sink, learn=self._unread.append, on_finding=self._keep_steps, on_batch=self._end_batch)

    def steps(self) -> tuple[TailStep, ...]:
        """The last steps, oldest first."""
        self._read()
        number, now = self._world.steps, self.recorder.last
        found: list[TailStep] = []
        for payload in self.recorder.last_steps():
            step = decode(payload)
            assert isinstance(step, Step), "a recorder lists steps"
            number -= 1
            found.append(self._decode(number, now, step))
            now -= step.dt
        return tuple(reversed(found))

    def _keep_steps(self) -> None:
        self.before.append(self.steps())

    def _end_batch(self) -> None:
        if len(self._unread) >= _UNREAD:
            self._read()
        if self._progress is not None:
            self._progress(self._world)

    def _read(self) -> None:
        for payload in self._unread:
            self._names.learn(decode(payload))
        self._unread.clear()

    def _decode(self, number: int, now: int, step: Step) -> TailStep:
        lane = self._names.lane(step)
        return TailStep(
            number,
            now,
            lane.name,
            lane.cpu,
            self._names.functions[step.function],
            self._names.operations[step.operation][0],
            self._names.owners[step.owner],
            len(self._names.sets[step.enabled_set]),
        )


@attrs.frozen
class Position:
    """The position of an unfinished flow, for a run that was stopped before its end."""

    flow: str
    cpu: int | None
    ready: bool
    operation: str
    owner: str
    stack: tuple[str, ...]


def positions(world: World) -> tuple[Position, ...]:
    """The positions of all flows that have not ended and do not wait for work."""
    return tuple(
        Position(
            flow.name,
            flow.cpu.id if flow.cpu else None,
            flow.ready,
            flow.request.info.name,
            flow.request.target.label if flow.request.target else "",
            tuple(code.co_name for code in call_stack(flow)),
        )
        for flow in world.flows
        if not (flow.request.info.idle and not flow.ready)
    )


def run(
    options: RunOptions,
    *,
    log: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    begun: Begun | None = None,
    strategy: Strategy | None = None,
) -> Result:
    """Run a scenario once; if the options do not fit, UsageError before anything is written.

    *strategy*, if given, makes the choices instead of a new strategy with the name in *options*.
    """
    experiment = Experiment.of(options)
    learned = learn_first(experiment, options.strategy) if strategy is None else None
    code = parse_strategy(options.strategy, STRATEGIES).code if strategy is None else None
    remake = partial(make_strategy, options.strategy, options.seed, learned, code)
    stage = experiment.set_stage(strategy or remake())
    may_vary = experiment.runs_user_code or strategy_files(stage.world.strategy)
    records: list[bytes] | None = [] if strategy is None and may_vary else None
    state = random.getstate()
    with (
        _interruptible(stage.world),
        nullcontext() if log is None else LogWriter(log, overwrite=overwrite) as writer,
    ):
        if writer is not None:
            writer.header(experiment.header)
        if begun is not None:
            begun(experiment.header)
        result = _execute(experiment, stage, options.driver, writer=writer, log=log, progress=progress, records=records)
        if records is not None and result.outcome != "interrupted":
            try:
                check_again(experiment, remake, records, draws=random.getstate() != state)
            except NotTheSameError:
                if not signals.is_pending():  # a run that a signal has cut short differs, and proves nothing
                    if writer is not None:
                        writer.discard()
                    raise
        return result


def record(
    experiment: Experiment,
    strategy_name: str,
    strategy: Strategy,
    finding: Finding,
    path: Path,
    *,
    overwrite: bool = False,
) -> Result:
    """Log the run of a schedule up to *finding*; NotTheSameError, and no log, if the run does not show it again.

    A signal waits until the log is complete; after any other error there is no log.
    """
    header = msgspec.structs.replace(
        experiment.header, strategy=strategy_name, driver="stepper", shows=finding.signature
    )
    experiment = attrs.evolve(experiment, header=header)
    stage = experiment.set_stage(strategy)
    with signals.held_back(), LogWriter(path, overwrite=overwrite) as writer:
        try:
            writer.header(header)
            result = _execute(
                experiment, stage, "stepper", writer=writer, log=path, progress=None, stop_at=finding.signature
            )
            check_shown(finding, result)
        except BaseException:
            writer.discard()
            raise
    return result


def check_shown(finding: Finding, result: Result) -> None:
    """NotTheSameError if a repeated run does not show *finding* again."""
    if finding.signature not in {found.signature for found in result.findings}:
        then = f"{finding.signature} in step {finding.step}"
        raise NotTheSameError(Divergence(result.steps, then, "the end of the run, without that"))


def replay(
    path: Path,
    *,
    driver: str = "trio",
    given: Given = NOTHING_GIVEN,
    until: int | None = None,
    progress: Progress | None = None,
    begun: Begun | None = None,
    inspect: Callable[[Stage], None] | None = None,
) -> Result:
    """Replay a log under either driver, up to its end, its first damage, or *until* steps.

    *given* is the code to run instead of the log's (`Experiment.of_log`). *inspect* gets the final stage, unless the
    replay diverged or was interrupted.
    """
    log = LogReader(path)
    try:
        experiment = Experiment.of_log(log, given)
        strategy = Replay(log, until=until)
        try:
            stage = experiment.set_stage(strategy)
        except UsageError as error:
            msg = f"{path}: {error}"
            raise UsageError(msg) from None
        with _interruptible(stage.world):
            if begun is not None:
                begun(experiment.header)
            result = _execute(experiment, stage, driver, replayed=(log, strategy), log=path, progress=progress)
        if inspect is not None and result.outcome not in ("diverged", "interrupted"):
            with experiment.blaming(stage.world):
                inspect(stage)
        return result
    finally:
        log.close()


def _execute(
    experiment: Experiment,
    stage: Stage,
    driver: str,
    *,
    writer: LogWriter | None = None,
    replayed: tuple[LogReader, Replay] | None = None,
    log: Path | None,
    progress: Progress | None,
    stop_at: str = "",
    records: list[bytes] | None = None,
) -> Result:
    world = stage.world
    watch = Watch(world)
    tail = Tail(world, writer.write if writer else replayed[1].verify if replayed else None, progress)
    recorder = tail.recorder
    if records is not None:
        recorder.sink = both(recorder.sink, records.append)
    world.observers = (recorder, watch, StopAt(world, stop_at)) if stop_at else (recorder, watch)
    stage.start()
    started = time.perf_counter()
    experiment.drive(world, driver)
    seconds = time.perf_counter() - started
    with experiment.blaming(world):
        figures, trace_class = stage.ledger.figures(), watch.trace_class()
    digest = recorder.digest()
    if replayed and world.stopped in ("quiescent", "finding"):
        replayed[1].finish(digest)
    outcome = _outcome(world, replayed[1] if replayed else None)
    if writer is not None:
        writer.footer(Footer(outcome, world.steps, digest))
    return Result(
        outcome=outcome,
        header=experiment.header,
        driver=driver,
        steps=world.steps,
        digest=digest,
        trace_class=trace_class,
        seconds=seconds,
        findings=tuple(world.findings.values()),
        unreached=tuple(prop.name for prop in stage.unreached) if world.stopped == "quiescent" else (),
        final=figures,
        samples=tuple(stage.samples),
        log=log,
        program=tuple(stage.present_operations()),
        tail=tail.steps() if outcome != "ok" else (),
        before=tuple(tail.before),
        positions=positions(world) if world.stopped != "quiescent" else (),
        stopped=world.stopped or "",
        divergence=replayed[1].divergence if replayed else None,
        damage=replayed[0].damage if replayed else None,
        is_damaged=replayed[0].is_damaged if replayed else False,
    )


@contextmanager
def _interruptible(world: World) -> Iterator[None]:
    """End the run after its current step if a signal comes, with a result; also where no command catches signals."""
    with signals.caught([signal.SIGINT]), signals.ending(world):
        yield
        signals.take_pending()


def both(one: Sink | None, other: Sink) -> Sink:
    """A sink that passes every record to two others."""

    def give(payload: bytes) -> None:
        if one is not None:
            one(payload)
        other(payload)

    return give


def _outcome(world: World, replayed: Replay | None) -> str:
    if replayed is not None and replayed.divergence is not None:
        return "diverged"
    if world.stopped == "interrupted":
        return "interrupted"
    return "finding" if world.findings else "ok"


def to_json(result: Result) -> dict[str, Any]:
    """The result as the JSON object of `--json`; docs/json.md describes its keys."""
    header = result.header
    return {
        "outcome": result.outcome,
        "scenario": header.scenario,
        "kernel": header.kernel,
        "patches": patches_json(header),
        "oracles": [code.name for code in header.oracles],
        "faults": dict(header.faults),
        "strategy": header.strategy,
        "driver": result.driver,
        "seed": header.seed,
        "steps": result.steps,
        "digest": result.digest,
        "trace_class": result.trace_class,
        "log": str(result.log) if result.log else None,
        "final": dict(result.final),
        "samples": as_json(result.samples),
        "program": [
            {"number": one.number, "task": one.task, "operation": one.words, "outcome": one.outcome or None}
            for one in result.program
        ],
        "findings": [_finding_json(finding, result) for finding in result.findings],
        "schedules": 1,
        "trace_classes": 1,
        "unreached": list(result.unreached),
        "divergence": as_json(result.divergence),
        "damage": result.damage,
        "seconds": round(result.seconds, 3),
    }


def _finding_json(finding: Finding, result: Result) -> dict[str, Any]:
    return {
        **finding_json(finding),
        "first_schedule": 0,
        "log": str(result.log) if result.log else None,
    }
