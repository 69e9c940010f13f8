"""Small programs with a known flaw, on slabrace's actors; `benchmarks.peers.programs` has the same for asyncio.

A step is one access, preceded by a preemption point. So both forms have as many schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs

from actors.system.actor import Actor, Shared
from actors.system.flow import Flow, Kind
from actors.system.world import World
from explorer.experiment import DRIVERS, Experiment, RunOptions
from protocol.operations import READ, UPDATE, operation
from scenarios.registry import Scenario
from scenarios.stage import Stage

Body = Callable[[Flow], Coroutine[Any, Any, None]]
Program = tuple[Sequence[Body], Callable[[], bool]]
"""The bodies of the tasks, and a test whether the result is the flaw."""


@attrs.define(eq=False)
class Cell(Shared):
    """A number that can be read and written."""

    name: str
    value: int = 0

    @property
    def label(self) -> str:
        """Its name."""
        return self.name

    @operation(READ)
    def read(self) -> int:
        """Return the number."""
        return self.value

    @operation(UPDATE)
    def write(self, value: int) -> None:
        """Set the number."""
        self.value = value


@attrs.define(eq=False)
class Lock(Shared):
    """A lock: a flow that wants it while it is held is not enabled."""

    name: str
    owner: Flow | None = None

    @property
    def label(self) -> str:
        """Its name."""
        return self.name

    def is_free(self, _flow: Flow) -> bool:
        """Whether the lock is free."""
        return self.owner is None

    @operation(UPDATE, when=is_free)
    def lock(self, flow: Flow) -> None:
        """Take the lock."""
        self.owner = flow

    @operation(UPDATE)
    def unlock(self) -> None:
        """Release the lock."""
        self.owner = None


def cells(world: World, count: int) -> list[Cell]:
    """So many cells, each with an actor of its own."""
    return [Cell(Actor(world, f"owner of {name}"), name) for name in (f"x{i}" for i in range(count))]


def lost_update(world: World, tasks: int, rounds: int) -> Program:
    """Tasks count without a lock; an update may be lost."""
    (x,) = cells(world, 1)

    async def count(flow: Flow) -> None:
        for _ in range(rounds):
            value = await flow.ask(x.read)
            await flow.ask(x.write, value + 1)

    return [count] * tasks, lambda: x.value != tasks * rounds


def all_lost(world: World, tasks: int) -> Program:
    """Tasks count once each without a lock; the flaw is that all updates but one are lost."""
    (x,) = cells(world, 1)

    async def count(flow: Flow) -> None:
        value = await flow.ask(x.read)
        await flow.ask(x.write, value + 1)

    return [count] * tasks, lambda: x.value == 1


def readers(world: World, count: int) -> Program:
    """One task writes, the others read; the flaw is that every second reader, and no other, sees the write."""
    (x,) = cells(world, 1)
    seen = [0] * count

    async def write(flow: Flow) -> None:
        await flow.ask(x.write, 1)

    def reader(i: int) -> Body:
        async def read(flow: Flow) -> None:
            seen[i] = await flow.ask(x.read)

        return read

    return [write, *map(reader, range(count))], lambda: seen == [i % 2 for i in range(count)]


def last_zero(world: World, count: int) -> Program:
    """Writer i sets x[i] to x[i-1] + 1, a reader looks for the last zero; the flaw is that it finds it at x[0]."""
    x = cells(world, count + 1)
    found: list[int] = []

    async def look(flow: Flow) -> None:
        i = count
        while await flow.ask(x[i].read) != 0:
            i -= 1
        found.append(i)

    def writer(i: int) -> Body:
        async def write(flow: Flow) -> None:
            before = await flow.ask(x[i - 1].read)
            await flow.ask(x[i].write, before + 1)

        return write

    return [look, *map(writer, range(1, count + 1))], lambda: found == [0] and x[count].value == count


def reorder(world: World, setters: int) -> Program:
    """Setters write one cell, then the other; the flaw is that a checker sees the first write without the second."""
    a, b = cells(world, 2)
    seen: list[int] = []

    async def set_both(flow: Flow) -> None:
        await flow.ask(a.write, 1)
        await flow.ask(b.write, -1)

    async def check(flow: Flow) -> None:
        first = await flow.ask(a.read)
        seen.extend([first, await flow.ask(b.read)])

    return [*[set_both] * setters, check], lambda: seen == [1, 0]


def philosophers(world: World, count: int) -> Program:
    """Each takes the lock on one side, then the lock on the other; the flaw is a deadlock."""
    locks = [Lock(Actor(world, f"owner of fork {i}"), f"fork {i}") for i in range(count)]

    def philosopher(i: int) -> Body:
        async def eat(flow: Flow) -> None:
            first, second = locks[i], locks[(i + 1) % count]
            await flow.ask(first.lock, flow)
            await flow.ask(second.lock, flow)
            await flow.ask(second.unlock)
            await flow.ask(first.unlock)

        return eat

    return [philosopher(i) for i in range(count)], lambda: False


Load = tuple[Callable[..., Program], tuple[int, ...]]
"""A program, and its size."""

PROGRAMS: dict[str, Load] = {
    "lost update, 2 x 1": (lost_update, (2, 1)),
    "all lost, 4 tasks": (all_lost, (4,)),
    "readers, 5": (readers, (5,)),
    "last zero, 4": (last_zero, (4,)),
    "reorder, 5": (reorder, (5,)),
    "deadlock, 2 tasks": (philosophers, (2,)),
    "deadlock, 4 tasks": (philosophers, (4,)),
}
"""The programs whose flaw is searched, by name, with their size."""

LOADS: dict[str, Load] = {
    "3 tasks x 3 rounds": (lost_update, (3, 3)),
    "8 tasks x 10 rounds": (lost_update, (8, 10)),
    "last zero, 5": (last_zero, (5,)),
}
"""The programs whose schedules are counted without looking for the flaw."""


class ProgramStage(Stage):
    """A world without a machine, in which a program races."""

    program: Callable[[World], Program]
    hunts: bool

    def start(self) -> None:
        """Begin the race."""
        self.world.begin_phase("race", calm=False)
        bodies, is_bad = self.program(self.world)
        for number, body in enumerate(bodies):
            flow = Flow(self.world, f"flow {number}", Kind.KTHREAD)
            self.world.spawn(flow, body(flow))
        if self.hunts:
            self.world.endings.append(lambda: self.world.report("property", "flaw", "the flaw") if is_bad() else None)


@attrs.frozen
class ProgramExperiment(Experiment):
    """A small program that can be run and searched like a scenario of the kernel. It `hunts` for its flaw."""

    program: Callable[..., Program] = lost_update
    arguments: tuple[int, ...] = (2, 1)
    hunts: bool = False

    @classmethod
    def make(
        cls, program: Callable[..., Program], arguments: tuple[int, ...], options: RunOptions, *, hunts: bool
    ) -> ProgramExperiment:
        """The experiment of one program."""
        scenario = Scenario("small", "a small program", (), lambda _stage: None)
        base = Experiment.of(options, scenario)
        return cls(base.header, scenario, (), program=program, arguments=arguments, hunts=hunts)

    def set_stage(self, strategy: Any) -> ProgramStage:
        """A world in which the program is ready to race."""
        stage = ProgramStage(World(strategy), self.header.kernel, {})
        stage.program = lambda world: self.program(world, *self.arguments)
        stage.hunts = self.hunts
        return stage

    def drive(self, world: World, driver: str = "stepper") -> None:
        """Run the program to its end."""
        DRIVERS[driver](world)
