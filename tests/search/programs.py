"""Small programs whose numbers of schedules and of trace classes are known in closed form (SEARCH.md 5c)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

import attrs

from actors.system.actor import Actor, Shared
from actors.system.flow import Flow, Kind
from actors.system.stepper import run_stepper
from actors.system.strategy import Strategy
from actors.system.world import World
from explorer.search.jobs import JobReport
from explorer.search.strategies.dfs import Dfs
from explorer.search.strategies.dpor import Dpor
from explorer.search.strategies.prefix import Following
from explorer.watch import Watch
from protocol.operations import READ, UPDATE, operation

Body = Callable[[Flow], Awaitable[None]]
Program = Callable[[World], Sequence[Body]]


@attrs.define(eq=False)
class Cell(Shared):
    """A number that can be read and written."""

    name: str
    value: int = 0

    @property
    def label(self) -> str:
        return self.name

    @operation(READ)
    def read(self) -> int:
        return self.value

    @operation(UPDATE)
    def write(self, value: int) -> None:
        self.value = value


@attrs.define(eq=False)
class Lock(Shared):
    """A lock: while it is held, flows that need it are not enabled."""

    name: str
    owner: Flow | None = None

    @property
    def label(self) -> str:
        return self.name

    def is_free(self, _flow: Flow) -> bool:
        return self.owner is None

    @operation(UPDATE, when=is_free)
    def lock(self, flow: Flow) -> None:
        self.owner = flow

    @operation(UPDATE)
    def unlock(self) -> None:
        self.owner = None


def cells(world: World, count: int) -> list[Cell]:
    """Make *count* cells, each with an actor of its own."""
    return [Cell(Actor(world, f"owner of {name}"), name) for name in (f"x{i}" for i in range(count))]


def readers(count: int) -> Program:
    """One flow writes a cell, *count* flows read it: each read is before or after the write, 2^count classes."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def write(flow: Flow) -> None:
            await flow.ask(x.write, 1)

        async def read(flow: Flow) -> None:
            await flow.ask(x.read)

        return [write, *[read] * count]

    return program


def last_zero(count: int) -> Program:
    """Writer i sets x[i] to x[i-1] + 1; a reader looks for the last zero from the end (Concuerror's benchmark)."""

    def program(world: World) -> Sequence[Body]:
        x = cells(world, count + 1)

        async def look(flow: Flow) -> None:
            i = count
            while await flow.ask(x[i].read) != 0:
                i -= 1

        def writer(i: int) -> Body:
            async def write(flow: Flow) -> None:
                before = await flow.ask(x[i - 1].read)
                await flow.ask(x[i].write, before + 1)

            return write

        return [look, *[writer(i) for i in range(1, count + 1)]]

    return program


def read_then_write(count: int) -> Program:
    """*count* flows each read a cell and then write it."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def add_one(flow: Flow) -> None:
            value = await flow.ask(x.read)
            await flow.ask(x.write, value + 1)

        return [add_one] * count

    return program


def writers(count: int) -> Program:
    """*count* flows write one cell: count! classes (n senders, n receives)."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def write(flow: Flow) -> None:
            await flow.ask(x.write, 1)

        return [write] * count

    return program


def independent(lengths: Sequence[int]) -> Program:
    """Flows that share nothing: one class; the number of schedules is the multinomial coefficient."""

    def program(world: World) -> Sequence[Body]:
        xs = cells(world, len(lengths))

        def body(x: Cell, length: int) -> Body:
            async def work(flow: Flow) -> None:
                for i in range(length):
                    await flow.ask(x.write, i)

            return work

        return [body(x, length) for x, length in zip(xs, lengths, strict=True)]

    return program


def locked(count: int) -> Program:
    """*count* flows each add to a cell under one lock: count! classes."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)
        lock = Lock(Actor(world, "owner of lock"), "lock")

        async def add_one(flow: Flow) -> None:
            await flow.ask(lock.lock, flow)
            value = await flow.ask(x.read)
            await flow.ask(x.write, value + 1)
            await flow.ask(lock.unlock)

        return [add_one] * count

    return program


def start(program: Program, strategy: Strategy) -> tuple[World, Watch]:
    """A world in which *program* is about to race."""
    world = World(strategy)
    watch = Watch(world, wants_accesses=True)
    world.observers = (watch,)
    watch.phase("race")
    for number, body in enumerate(program(world)):
        flow = Flow(world, f"flow {number}", Kind.KTHREAD)
        world.spawn(flow, body(flow))  # type: ignore[arg-type]  # an async function returns a coroutine
    return world, watch


def run(program: Program, strategy: Strategy) -> tuple[World, str]:
    """Run *program* once; return the world and the trace class."""
    world, watch = start(program, strategy)
    if isinstance(strategy, Following):
        strategy.watched_by(watch)
    run_stepper(world)
    if isinstance(strategy, Following):
        strategy.end(world)
    return world, watch.trace_class()


def run_dpor(program: Program) -> tuple[Dpor, list[str]]:
    """Explore *program* to the end; return the search, and the classes of the schedules that were completed."""
    search = Dpor()
    classes = []
    while (branch := search.next_schedule()) is not None:
        world, trace_class = run(program, branch)
        search.learn(branch, JobReport())
        if world.stopped != "asleep":
            classes.append(trace_class)
    return search, classes


def run_dfs(program: Program, search: Dfs) -> list[str]:
    """Explore *program* within the bounds of *search*; return the class of each schedule."""
    classes = []
    while (follow := search.next_schedule()) is not None:
        classes.append(run(program, follow)[1])
    return classes


def random_program(seed: int) -> Program:
    """Up to three flows that read, write and lock at random."""
    draw = random.Random(seed)
    scripts = [
        [(draw.choice("rrww" + "lll" * (draw.random() < 0.5)), draw.randrange(2)) for _ in range(draw.randint(1, 3))]
        for _ in range(draw.randint(2, 3))
    ]

    def program(world: World) -> Sequence[Body]:
        xs = cells(world, 2)
        locks = [Lock(Actor(world, f"owner of lock {i}"), f"lock {i}") for i in range(2)]

        def body(script: Sequence[tuple[str, int]]) -> Body:
            async def work(flow: Flow) -> None:
                held: list[Lock] = []
                for action, at in script:
                    if action == "r":
                        await flow.ask(xs[at].read)
                    elif action == "w":
                        await flow.ask(xs[at].write, 1)
                    elif locks[at] not in held:
                        await flow.ask(locks[at].lock, flow)
                        held.append(locks[at])
                for lock in reversed(held):
                    await flow.ask(lock.unlock)

            return work

        return [body(script) for script in scripts]

    return program
