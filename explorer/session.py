"""One run, or one replay, from options to result."""

from __future__ import annotations

import functools
import hashlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import attrs

from actors.kernel.fixes import FIXES
from actors.kernel.kernel_fn import PROFILES
from actors.kernel.page_alloc import FAULTS
from actors.kernel.patching import Patch, find_patches
from actors.system.recorder import Recorder
from actors.system.stepper import run_stepper
from actors.system.trio_driver import run_trio
from actors.system.world import World, call_stack
from explorer.replay import Divergence, Replay
from explorer.strategies import make_strategy
from protocol.errors import InternalError, UsageError
from protocol.findings import Finding
from protocol.log import Footer, Header, LogReader, LogWriter, Names, PatchRecord, Step, unpack
from scenarios import find_scenario
from scenarios.stage import Sample, Stage

if TYPE_CHECKING:
    from actors.system.strategy import Strategy
    from scenarios.registry import Scenario

DRIVERS: dict[str, Callable[[World], None]] = {"trio": run_trio, "stepper": run_stepper}
CHECKS = ("off", "quiescent", "step")
_UNREAD = 4096

Progress = Callable[[World], None]
Begun = Callable[[Header], None]


@attrs.frozen(kw_only=True)
class RunOptions:
    """What a run is made of; together with the code it determines every byte of the log but the header."""

    scenario: str
    kernel: str = "5.3"
    strategy: str = "random"
    driver: str = "trio"
    seed: int = 0
    settings: Mapping[str, str] = attrs.field(factory=dict)
    check: str = "step"
    patches: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    faults: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Result:
    """What a run or a replay came to. `outcome` and the other keys are those of DESIGN.md, "Commands"."""

    outcome: str
    header: Header
    driver: str
    steps: int
    digest: str
    seconds: float
    findings: tuple[Finding, ...]
    unreached: tuple[str, ...]
    final: Mapping[str, int]
    samples: tuple[Sample, ...]
    log: Path | None
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
    """One of the last steps, with its names, for a report."""

    number: int
    time: int
    flow: str
    cpu: int | None
    function: str
    operation: str
    owner: str
    enabled: int


class Tail:
    """The last steps of a world, also those before each finding, read by the names that its `recorder` defined."""

    def __init__(self, world: World) -> None:
        self.recorder: Recorder
        self._world = world
        self._names = Names()
        self._unread: list[Sequence[Any]] = []
        self.before: list[tuple[TailStep, ...]] = []

    def steps(self) -> tuple[TailStep, ...]:
        """The last steps, oldest first."""
        self._read()
        number, now = self._world.steps, self.recorder.last
        found: list[TailStep] = []
        for payload in self.recorder.last_steps():
            step = Step(*unpack(payload))
            number -= 1
            found.append(self._decode(number, now, step))
            now -= step.dt
        return tuple(reversed(found))

    def learn(self, record: Sequence[Any]) -> None:
        """Take in a record that is no step; names are only read when they are asked for, or too many."""
        self._unread.append(record)
        if record[0] == "finding":
            self.before.append(self.steps())
        elif len(self._unread) >= _UNREAD:
            self._read()

    def _read(self) -> None:
        for record in self._unread:
            self._names.learn(record)
        self._unread.clear()

    def _decode(self, number: int, now: int, step: Step) -> TailStep:
        flow, _, cpu = self._names.lane(step)
        return TailStep(
            number,
            now,
            flow,
            cpu,
            self._names.functions[step.function],
            self._names.operations[step.operation][0],
            self._names.owners[step.owner],
            len(self._names.sets[step.enabled_set]),
        )


@attrs.frozen
class Position:
    """Where a flow stands that is not at rest: for a run that was stopped before its end."""

    flow: str
    cpu: int | None
    ready: bool
    operation: str
    owner: str
    stack: tuple[str, ...]


def positions(world: World) -> tuple[Position, ...]:
    """Where every flow stands that has not ended and does not wait for work."""
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
) -> Result:
    """Run a scenario once; UsageError before anything is written if the options do not fit."""
    scenario = find_scenario(options.scenario)
    _check_options(options)
    parameters = scenario.values(options.settings)
    patches = select_patches(options.patches, options.without, options.kernel, parameters)
    header = _header(scenario, options, parameters, patches)
    strategy = make_strategy(options.strategy, options.seed)
    writer = LogWriter(log, overwrite=overwrite) if log is not None else None
    if writer is not None:
        writer.header(header)
    if begun is not None:
        begun(header)
    try:
        return _execute(header, strategy, options.driver, patches, writer=writer, log=log, progress=progress)
    finally:
        if writer is not None:
            writer.close()


def replay(
    path: Path,
    *,
    driver: str = "trio",
    patches: Sequence[str] = (),
    until: int | None = None,
    progress: Progress | None = None,
    begun: Begun | None = None,
) -> Result:
    """Replay a log under either driver, up to its end, its first damage, or *until* steps.

    *patches*, if there are any, are laid over the kernel instead of those that the log names.
    """
    log = LogReader(path)
    _check_header(log)
    header = log.header
    wanted = tuple(patches) or _recorded_patches(log)
    chosen = select_patches(wanted, header.without, header.kernel, header.parameters)
    if begun is not None:
        begun(log.header)
    strategy = Replay(log, until=until)
    try:
        return _execute(header, strategy, driver, chosen, replayed=(log, strategy), log=path, progress=progress)
    finally:
        log.close()


def select_patches(
    patches: Sequence[str], without: Sequence[str], kernel: str, parameters: Mapping[str, Any]
) -> tuple[Patch, ...]:
    """The patches that these names mean for that kernel; UsageError if one of them does not apply."""
    return tuple(find_patches(patches, without, FIXES, kernel, parameters.get("allocator", "slub")))


def _recorded_patches(log: LogReader) -> tuple[str, ...]:
    """The patches that a log names; UsageError if a file is not what it was."""
    for patch in log.header.patches:
        if patch.path and _hash_of(patch.path) != patch.sha256:
            msg = f"{log.path}: recorded with patch {patch.path}, which is not the same now; give it with --patch"
            raise UsageError(msg)
    return tuple(patch.path or patch.name for patch in log.header.patches)


def _hash_of(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _check_options(options: RunOptions) -> None:
    choices = (
        ("--kernel", options.kernel, PROFILES),
        ("--driver", options.driver, DRIVERS),
        ("--check", options.check, CHECKS),
    )
    for option, value, known in choices:
        if value not in known:
            msg = f"{option} {value}: there is no such choice; there are {', '.join(known)}"
            raise UsageError(msg)
    for fault in options.faults:
        if fault not in FAULTS:
            msg = f"--fault {fault}: there is no such fault; there are {', '.join(FAULTS)}"
            raise UsageError(msg)


def _check_header(log: LogReader) -> None:
    """Refuse a log whose scenario, kernel or knobs this slabrace does not have."""
    header = log.header
    scenario = find_scenario(header.scenario)
    if header.kernel not in PROFILES:
        msg = f"{log.path}: recorded on kernel {header.kernel}, which this slabrace does not have"
        raise UsageError(msg)
    missing = [knob.name for knob in scenario.knobs if knob.name not in header.parameters]
    if missing:
        msg = (
            f"{log.path}: the header lacks {', '.join(missing)}, which {header.scenario} needs: another version's log?"
        )
        raise UsageError(msg)


def _header(scenario: Scenario, options: RunOptions, parameters: dict[str, Any], patches: Sequence[Patch]) -> Header:
    laid_over = patches[len(options.without) :]
    return Header(
        scenario=scenario.name,
        kernel=options.kernel,
        strategy=options.strategy,
        seed=options.seed,
        driver=options.driver,
        parameters=parameters,
        slabrace=_version(),
        check=options.check,
        patches=tuple(PatchRecord(patch.name, patch.path, patch.sha256) for patch in laid_over),
        without=options.without,
        faults=dict(options.faults),
    )


@functools.cache
def _version() -> str:
    return metadata.version("slabrace")


def _execute(
    header: Header,
    strategy: Strategy,
    driver: str,
    patches: tuple[Patch, ...],
    *,
    writer: LogWriter | None = None,
    replayed: tuple[LogReader, Replay] | None = None,
    log: Path | None,
    progress: Progress | None,
) -> Result:
    world = World(strategy, faults=header.faults)
    tail = Tail(world)
    world.observer = recorder = tail.recorder = Recorder(
        writer.write if writer else replayed[1].verify if replayed else None,
        learn=tail.learn,
        on_batch=(lambda: progress(world)) if progress else None,
    )
    stage = Stage(world, header.kernel, header.parameters, check=header.check, patches=patches)
    find_scenario(header.scenario).build(stage)
    stage.start()
    started = time.perf_counter()
    with _interruptible(world):
        _drive(world, driver, patches)
    seconds = time.perf_counter() - started
    if replayed and world.stopped in ("quiescent", "finding"):
        replayed[1].finish()
    outcome = _outcome(world, replayed[1] if replayed else None)
    digest = recorder.digest()
    if writer is not None:
        writer.footer(Footer(outcome, world.steps, digest))
    return Result(
        outcome=outcome,
        header=header,
        driver=driver,
        steps=world.steps,
        digest=digest,
        seconds=seconds,
        findings=tuple(world.findings.values()),
        unreached=tuple(prop.name for prop in stage.unreached) if world.stopped == "quiescent" else (),
        final=stage.ledger.figures(),
        samples=tuple(stage.samples),
        log=log,
        tail=tail.steps(),
        before=tuple(tail.before),
        positions=positions(world) if world.stopped != "quiescent" else (),
        stopped=world.stopped or "",
        divergence=replayed[1].divergence if replayed else None,
        damage=replayed[0].damage if replayed else None,
        is_damaged=replayed[0].is_damaged if replayed else False,
    )


def _drive(world: World, driver: str, patches: Sequence[Patch]) -> None:
    """Run *world* to its end. What goes wrong in a user's patch is the user's; what it leads to is a finding."""
    try:
        DRIVERS[driver](world)
    except Exception as error:
        files = {patch.path for patch in patches if patch.path}
        frames = traceback.extract_tb(error.__traceback__)
        through = [frame for frame in frames if frame.filename in files]
        if through and (frames[-1].filename in files or isinstance(error, InternalError)):
            last = through[-1]
            msg = f"--patch {last.filename}, line {last.lineno}, in {last.name}: {type(error).__name__}: {error}"
            raise UsageError(msg) from error
        if not files or isinstance(error, UsageError):
            raise
        place = f"at {Path(frames[-1].filename).name}:{frames[-1].lineno}"
        world.report("bug", type(error).__name__, f"general protection fault: {type(error).__name__}: {error}", place)


def _outcome(world: World, replayed: Replay | None) -> str:
    if replayed is not None and replayed.divergence is not None:
        return "diverged"
    if world.stopped == "interrupted":
        return "interrupted"
    return "finding" if world.findings else "ok"


@contextmanager
def _interruptible(world: World) -> Iterator[None]:
    """Ctrl-C ends the run after the current step, with a whole log; a second one kills it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        world.stop("interrupted")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def to_json(result: Result) -> dict[str, Any]:
    """The result as the one JSON object of `--json`; the keys are DESIGN.md's."""
    header = result.header
    return {
        "outcome": result.outcome,
        "scenario": header.scenario,
        "kernel": header.kernel,
        "patches": [patch.name for patch in header.patches] + [f"without {name}" for name in header.without],
        "faults": dict(header.faults),
        "strategy": header.strategy,
        "driver": result.driver,
        "seed": header.seed,
        "steps": result.steps,
        "digest": result.digest,
        "log": str(result.log) if result.log else None,
        "final": dict(result.final),
        "samples": [attrs.asdict(sample) for sample in result.samples],
        "findings": [_finding_json(finding, result) for finding in result.findings],
        "schedules": 1,
        "unreached": list(result.unreached),
        "divergence": attrs.asdict(result.divergence) if result.divergence else None,
        "damage": result.damage,
        "seconds": round(result.seconds, 3),
    }


def _finding_json(finding: Finding, result: Result) -> dict[str, Any]:
    return {
        **attrs.asdict(finding),
        "signature": finding.signature,
        "first_schedule": 0,
        "log": str(result.log) if result.log else None,
    }
