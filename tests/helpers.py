"""Helpers of the tests: run scenarios and commands, read and edit logs, build tiny worlds.

A tiny world has no kernel, only cells, locks, mailboxes, and flows that use them. It tests the actor system alone.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import msgpack
import msgspec
import pytest

from actors.machine.context import BUG_ON, WARN_ON, Context
from actors.system.actor import Actor, Shared, receive
from actors.system.cpu import Cpu
from actors.system.flow import Flow, Kind
from actors.system.lane import Lane
from actors.system.observer import Observer
from actors.system.recorder import Recorder
from actors.system.strategy import Strategy
from actors.system.world import EnabledSet, World
from actors.versions.profiles import ALLOCATORS
from explorer.experiment import DRIVERS, RunOptions
from explorer.search.strategies.simple import RandomWalk
from explorer.session import Result, run
from protocol.errors import InternalError
from protocol.findings import Finding
from protocol.log import MAGIC, VERSION, LogReader, frame
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation
from protocol.vocabulary import PROFILES
from scenarios import SCENARIOS, find_scenario
from scenarios.registry import MACHINE, Scenario, scenario
from scenarios.stage import Stage

Payload = bytes
Record = list[Any]
Drive = Callable[[World], None]
Body = Callable[[Flow], Coroutine[Any, Any, None]]

each_driver = pytest.mark.parametrize("drive", DRIVERS.values(), ids=list(DRIVERS))
each_driver_name = pytest.mark.parametrize("driver", DRIVERS)
each_scenario = pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])


def each_third(firsts: Sequence[str], seconds: Sequence[str]) -> list[tuple[str, str]]:
    """A third of all pairs, of every row and column: what all of them would show takes CI too long."""
    return [
        (first, second)
        for row, first in enumerate(firsts)
        for column, second in enumerate(seconds)
        if not (row + column) % 3
    ]


def each_scenario_with(argument: str, values: Iterable[str]) -> pytest.MarkDecorator:
    """Parametrize by two thirds of all pairs of a scenario and a value; half of these are slow."""
    return pytest.mark.parametrize(
        ("name", argument),
        [
            pytest.param(scenario.name, value, marks=[pytest.mark.slow] * ((row + column) % 3))
            for row, scenario in enumerate(SCENARIOS)
            for column, value in enumerate(values)
            if (row + column) % 3 < 2
        ],
    )


# -- scenarios --------------------------------------------------------------------------------------------------------

SMALL = {
    "generations": "2",
    "files": "2",
    "every": "1",
    "cgroups": "1",
    "objects": "2",
    "depth": "2",
    "rounds": "8",
    "reads": "2",
    "seconds": "5",
}
"""Parameter values that make any scenario short."""

TINY_CAPTURE = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>
filp              0      0    256   16    1 : tunables    0    0    0 : slabdata      0      0      0
dentry            0      0    192   21    1 : tunables    0    0    0 : slabdata      0      0      0
shmem_inode_cache 0      0    688   11    2 : tunables    0    0    0 : slabdata      0      0      0
"""
"""The smallest machine that boots; it keeps the headers of logs short."""


def small_settings(name: str) -> dict[str, str]:
    """Settings with which the scenario takes between some hundred and a few thousand steps."""
    return {knob.name: SMALL[knob.name] for knob in find_scenario(name).knobs if knob.name in SMALL}


def some_machine(*case: object) -> tuple[str, str]:
    """A kernel and an allocator, chosen by a hash of the test case: fixed for one case, spread over all cases."""
    machines = list(itertools.product(PROFILES, ALLOCATORS))
    return machines[zlib.crc32(repr(case).encode()) % len(machines)]


def run_small(
    name: str,
    kernel: str = "5.3",
    *,
    seed: int = 0,
    strategy: str = "random",
    driver: str = "stepper",
    allocator: str | None = None,
    log: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Result:
    """Run a scenario with small parameters, or with *settings*, on *allocator* or on the scenario's default."""
    chosen = dict(small_settings(name) if settings is None else settings)
    if allocator is not None:
        chosen["allocator"] = allocator
    options = RunOptions(scenario=name, kernel=kernel, seed=seed, strategy=strategy, driver=driver, settings=chosen)
    return run(options, log=log)


def other_driver(driver: str) -> str:
    """The driver other than *driver*."""
    (other,) = set(DRIVERS) - {driver}
    return other


def make_scenario(name: str, body: Callable[[Stage], None]) -> Scenario:
    """A scenario for a test: only the machine's parameters, and no session cgroup, so that its tasks step first."""

    def build(stage: Stage) -> None:
        stage.has_session = False
        body(stage)

    return scenario(name, f"a test's scenario: {name}", *MACHINE)(build)


def install(monkeypatch: pytest.MonkeyPatch, *added: Scenario) -> None:
    """Add the scenarios *added* to the built-in ones that the commands know."""
    monkeypatch.setattr("scenarios.SCENARIOS", (*SCENARIOS, *added))


def quiet(stage: Stage) -> None:
    """A scenario without a finding."""
    cell = make_cell(stage.boot().world)

    async def body(ctx: Context) -> None:
        for _ in range(3):
            await ctx.ask(cell.add)

    stage.task("a", body)
    stage.task("b", body, cpu=1)
    stage.sometimes("it counts", lambda: cell.value > 3)
    stage.sometimes("it counts for ever", lambda: cell.value > 1_000)


def warns(stage: Stage) -> None:
    """A scenario in which the kernel warns twice and goes on."""
    cell = make_cell(stage.boot().world, "a [bold]cell[/bold]")

    async def kmem_cache_warn(ctx: Context) -> None:
        for _ in range(2):
            await ctx.ask(cell.add)
            WARN_ON(ctx, cell.value, "entries[i] != NULL")

    stage.task("task[0]", kmem_cache_warn)


def crashes(stage: Stage) -> None:
    """A scenario in which the kernel crashes."""
    cell = make_cell(stage.boot().world)

    async def kmem_cache_crash(ctx: Context) -> None:
        await ctx.ask(cell.add)
        BUG_ON(ctx, cell.value, "cell->value")

    stage.task("a", kmem_cache_crash)


BREAKS = """
async def breaks(cell, ctx):
    await ctx.ask(cell.add)
    raise InternalError("the simulator is broken")
"""


def fails(stage: Stage) -> None:
    """A scenario in which slabrace fails: the code that raises the error stands in none of the test's files."""
    cell = make_cell(stage.boot().world)
    names: dict[str, Any] = {"InternalError": InternalError}
    exec(compile(BREAKS, ROOT / "actors" / "broken.py", "exec"), names)  # noqa: S102 -- the text above
    stage.task("a", functools.partial(names["breaks"], cell))


# -- processes --------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent
MODULE = (sys.executable, "-m", "slabrace")
SCRIPT = (str(Path(sys.executable).with_name("slabrace")),)


def run_process(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command in a process and wait until it ends."""
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)  # noqa: S603 -- a command of the tests


@contextmanager
def start_process(
    *command: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A command in a process, with *environment* added to its own, until it ends; a test that fails kills it."""
    pipe, env = subprocess.PIPE, {**os.environ, **(environment or {})}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=env) as process:  # noqa: S603 -- a command of the tests
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def without_findings(told: str) -> str:
    """Standard error without the lines that a search prints as soon as it has a finding."""
    return "".join(line for line in told.splitlines(keepends=True) if not line.startswith("found in schedule "))


# -- logs -------------------------------------------------------------------------------------------------------------


def read_payloads(path: Path) -> list[Payload]:
    """Every payload of an undamaged log: header, body and footer."""
    log = LogReader(path)
    try:
        body = [payload for payload, _ in log.records()]
        assert log.damage is None, log.damage
        assert log.footer is not None
        return [
            pack(["header", msgspec.to_builtins(log.header)]),
            *body,
            pack(["footer", msgspec.to_builtins(log.footer)]),
        ]
    finally:
        log.close()


def read_body(path: Path) -> list[Payload]:
    """The payloads between header and footer, which the digest covers."""
    return read_payloads(path)[1:-1]


def read_records(path: Path) -> list[Record]:
    """The records between header and footer."""
    return [msgpack.unpackb(payload) for payload in read_body(path)]


def pack(record: Sequence[object]) -> Payload:
    """One record in the encoding of the log."""
    payload: bytes = msgpack.packb(record)
    return payload


def start_of_log(version: int = VERSION) -> bytes:
    """The bytes before the first frame."""
    return MAGIC + version.to_bytes(2, "little")


def write_payloads(path: Path, payloads: Iterable[Payload]) -> Path:
    """Write a log of these payloads, with correct lengths and checksums."""
    path.write_bytes(start_of_log() + b"".join(map(frame, payloads)))
    return path


def is_step(record: Record) -> bool:
    """Whether the record is a step; every other record begins with its tag."""
    return isinstance(record[0], int)


# -- tiny worlds ------------------------------------------------------------------------------------------------------


PEEK = OperationInfo("peek", READ, cost=ATOMIC_NS)
"""An access to per-CPU data in a tiny world."""


@attrs.define(eq=False)
class Cell(Shared):
    """A number that an actor owns."""

    name: str
    value: int = 0

    @property
    def label(self) -> str:
        return self.name

    def is_positive(self) -> bool:
        return self.value > 0

    @operation(READ)
    def read(self) -> int:
        return self.value

    @operation(UPDATE)
    def write(self, value: int) -> None:
        self.value = value

    @operation(UPDATE)
    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    @operation(UPDATE, cost=7_000)
    def add_slowly(self, amount: int = 1) -> int:
        return self.add(amount)

    @operation(UPDATE, when=is_positive)
    def take(self) -> int:
        """Wait until the number is positive, and take one away."""
        self.value -= 1
        return self.value

    @operation(UPDATE, when=is_positive, idle=True)
    def serve(self) -> int:
        """As `take`, for a service: its wait does not keep the world from quiescence."""
        self.value -= 1
        return self.value

    @operation(READ, when=is_positive, sleeps=True)
    def sleep_until_positive(self) -> None:
        """Wait by sleeping, which is allowed in process context only."""


@attrs.define(eq=False)
class Lock(Shared):
    """A lock that knows its holder."""

    name: str
    holder: Flow | None = attrs.field(default=None, init=False)

    @property
    def label(self) -> str:
        return self.name

    @property
    def held_by(self) -> str:
        return f", held by {self.holder.name}" if self.holder else ""

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        return (self.holder,) if self.holder else ()

    def is_free(self, _flow: Flow) -> bool:
        return self.holder is None

    @operation(UPDATE, when=is_free)
    def lock(self, flow: Flow) -> None:
        self.holder = flow

    @operation(UPDATE)
    def unlock(self) -> None:
        self.holder = None


class Script(Strategy):
    """A strategy that steps *lanes* in order and chooses *values*; after them, the first enabled lane and 0."""

    name = "script"

    def __init__(self, *lanes: str, values: Iterable[int] = ()) -> None:
        self._lanes = deque(lanes)
        self._values = deque(values)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Choose the next lane of the script, which must be enabled."""
        names = [lane.name for lane in lanes]
        wanted = self._lanes.popleft() if self._lanes else names[0]
        assert wanted in names, f"{wanted} is not enabled; enabled are {names}"
        return names.index(wanted)

    def choose_value(self, count: int) -> int:
        """The next value of the script."""
        return self._values.popleft() % count if self._values else 0


@attrs.define(eq=False)
class Seen(Observer):
    """An observer that records which lane stepped and which lanes were enabled, and all other events."""

    stepped: list[str] = attrs.field(factory=list)
    enabled: list[tuple[str, ...]] = attrs.field(factory=list)
    values: list[tuple[int, int]] = attrs.field(factory=list)
    moves: list[tuple[str, int | None]] = attrs.field(factory=list)
    phases: list[str] = attrs.field(factory=list)
    findings: list[Finding] = attrs.field(factory=list)

    def step(self, _world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        assert enabled.lanes[index] is lane
        self.stepped.append(lane.name)
        self.enabled.append(tuple(lane.name for lane in enabled.lanes))

    def value(self, count: int, value: int) -> None:
        self.values.append((count, value))

    def moved(self, flow: Flow) -> None:
        self.moves.append((flow.name, flow.cpu.id if flow.cpu else None))

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)


def make_world(strategy: Strategy | None = None) -> tuple[World, Seen]:
    """An empty world and its observer."""
    seen = Seen()
    return World(strategy or RandomWalk(0), observers=(seen,)), seen


def make_cell(world: World, name: str = "cell", value: int = 0) -> Cell:
    """A cell, owned by an actor of its own."""
    return Cell(Actor(world, f"owner of {name}"), name, value)


def make_lock(world: World, name: str) -> Lock:
    """A lock, owned by an actor of its own."""
    return Lock(Actor(world, f"owner of {name}"), name)


def make_reader(world: World, name: str = "reader") -> tuple[Actor, list[object]]:
    """An actor that records the messages it receives."""
    mail: list[object] = []

    async def main(_actor: Actor) -> None:
        while True:
            mail.append(await receive())

    return Actor(world, name, main=main), mail


def spawn(world: World, name: str, body: Body, *, cpu: Cpu | None = None, kind: Kind = Kind.TASK) -> Flow:
    """Start a new flow that runs *body*."""
    flow = Flow(world, name, kind, cpu)
    world.spawn(flow, body(flow))
    return flow


def only(findings: list[Finding]) -> Finding:
    """The only finding in *findings*; fail if there is another number of them."""
    (finding,) = findings
    return finding


def record(world: World) -> tuple[list[Payload], Recorder]:
    """Record *world*; its payloads are appended to the returned list."""
    payloads: list[Payload] = []
    recorder = Recorder(payloads.append)
    world.observers = (recorder,)
    return payloads, recorder
