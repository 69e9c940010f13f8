"""Programs on the simulated kernel: a stage for them, and the results of searches of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from actors.linux.init.machine import Config, Machine
from actors.linux.kernel.locking.locks import (
    Completion,
    Mutex,
    SpinLock,
    mutex_lock,
    mutex_unlock,
    spin_lock,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_irqrestore,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, rcu_barrier, synchronize_rcu
from actors.linux.kernel.smp import on_each_cpu_mask
from actors.linux.kernel.workqueue import Work, flush_workqueue, queue_work
from actors.machine.context import Context
from actors.system.actor import Actor
from actors.system.flow import Section
from actors.system.stepper import run_stepper
from actors.system.strategy import Strategy
from actors.system.world import World
from explorer.profile import Knowledge, seed_of
from explorer.search.jobs import JobReport
from explorer.search.registry import find_strategy, make_exact_search, make_strategy
from explorer.search.strategies.dpor import ASLEEP
from explorer.watch import Watch
from protocol.operations import READ, OperationInfo
from tests.litmus.language import Body, Program, Statement
from tests.litmus.reference import DEADLOCK, Outcome
from tests.search.programs import Cell

PERCPU_READ, PERCPU_WRITE = OperationInfo("this_cpu_read", READ), OperationInfo("this_cpu_write")


@attrs.define(eq=False)
class Stage:
    """A program on a machine that has just been booted."""

    program: Program
    world: World
    rcu: str
    machine: Machine = attrs.field(init=False)
    cells: list[Cell] = attrs.field(init=False)
    percpu: list[list[Cell]] = attrs.field(init=False)
    spinlocks: list[SpinLock] = attrs.field(init=False)
    mutexes: list[Mutex] = attrs.field(init=False)
    works: list[Work] = attrs.field(init=False)
    registers: list[int | None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        program, world = self.program, self.world
        self.machine = machine = Machine(world, Config(kernel="5.3", cpus=program.cpus, rcu=self.rcu))
        self.cells = [Cell(Actor(world, f"x{n}"), f"x{n}") for n in range(program.most("read", "write"))]
        self.percpu = [
            [Cell(cpu.actor, f"v{n} of {cpu.label}") for cpu in machine.cpus]
            for n in range(program.most("percpu_read", "percpu_write"))
        ]
        self.spinlocks = [SpinLock.boot(world, f"l{n}") for n in range(program.most("spin", "spin_irqsave"))]
        self.mutexes = [Mutex.boot(world, f"m{n}") for n in range(program.most("mutex"))]
        self.registers = [None] * program.count("read", "percpu_read")
        self.works = [self._work(n, body) for n, body in enumerate(program.works)]
        world.begin_phase("race", calm=False)
        for number, (cpu, body) in enumerate(program.flows):
            task = machine.new_task(f"P{number}", cpu)
            world.spawn(task, self._live(task, body))

    def _work(self, number: int, body: Body) -> Work:
        actor = Actor(self.world, f"work {number}")
        work = Work(actor, Cell(actor, f"container {number}"), name=f"work{number}")

        async def function(ctx: Context, _work: Work) -> None:
            await self._do(ctx, body)

        work.init_work(function)
        return work

    async def _live(self, task: Context, body: Body) -> None:
        await task.begin()
        await self._do(task, body)

    def outcome(self) -> Outcome:
        """The outcome of the run."""
        if any(finding.kind == "deadlock" for finding in self.world.findings.values()):
            return DEADLOCK
        memory = [*self.cells, *(cell for cells in self.percpu for cell in cells)]
        return (*self.registers, *(cell.value for cell in memory))

    # -- statements ---------------------------------------------------------------------------------------------------

    async def _do(self, ctx: Context, body: Body) -> None:
        for statement in body:
            await ACTIONS[statement.op](self, ctx, statement)

    async def _read(self, ctx: Context, statement: Statement) -> None:
        self.registers[statement.value] = await ctx.ask(self.cells[statement.at].read)

    async def _write(self, ctx: Context, statement: Statement) -> None:
        await ctx.ask(self.cells[statement.at].write, statement.value)

    async def _percpu_read(self, ctx: Context, statement: Statement) -> None:
        cells = self.percpu[statement.at]
        await ctx.this_cpu(cells[ctx.smp_processor_id], PERCPU_READ)
        self.registers[statement.value] = cells[ctx.smp_processor_id].value

    async def _percpu_write(self, ctx: Context, statement: Statement) -> None:
        cells = self.percpu[statement.at]
        await ctx.this_cpu(cells[ctx.smp_processor_id], PERCPU_WRITE)
        cells[ctx.smp_processor_id].value = statement.value

    async def _section(self, ctx: Context, statement: Statement) -> None:
        sections = {
            "rcu": ctx.rcu_read_section,
            "preempt": ctx.preempt_section,
            "irq": ctx.irq_section,
            "bh": Section(ctx.local_bh_disable, ctx.local_bh_enable),
        }
        with sections[statement.op]:
            await self._do(ctx, statement.body)

    async def _spin(self, ctx: Context, statement: Statement) -> None:
        lock = self.spinlocks[statement.at]
        await spin_lock(ctx, lock)
        await self._do(ctx, statement.body)
        await spin_unlock(ctx, lock)

    async def _spin_irqsave(self, ctx: Context, statement: Statement) -> None:
        lock = self.spinlocks[statement.at]
        flags = await spin_lock_irqsave(ctx, lock)
        await self._do(ctx, statement.body)
        await spin_unlock_irqrestore(ctx, lock, flags)

    async def _mutex(self, ctx: Context, statement: Statement) -> None:
        mutex = self.mutexes[statement.at]
        await mutex_lock(ctx, mutex)
        await self._do(ctx, statement.body)
        await mutex_unlock(ctx, mutex)

    async def _synchronize_rcu(self, ctx: Context, _statement: Statement) -> None:
        await synchronize_rcu(ctx)

    async def _call_rcu(self, ctx: Context, statement: Statement) -> None:
        await call_rcu(ctx, RcuHead(ctx.machine.rcu), self._called(statement.body))

    async def _rcu_barrier(self, ctx: Context, _statement: Statement) -> None:
        await rcu_barrier(ctx)

    def _called(self, body: Body) -> Callable[..., Awaitable[None]]:
        async def handler(ctx: Context, *_: object) -> None:
            await self._do(ctx, body)

        return handler

    async def _ipi(self, ctx: Context, statement: Statement) -> None:
        """smp_call_function_single(), without a wait."""
        queue = ctx.machine.call_queues[statement.at]
        with ctx.preempt_section:
            await ctx.ask(queue.send, self._called(statement.body), Completion(queue.actor, remaining=1))

    async def _ipi_wait(self, ctx: Context, statement: Statement) -> None:
        with ctx.preempt_section:
            await on_each_cpu_mask(ctx, [statement.at], self._called(statement.body))

    async def _queue(self, ctx: Context, statement: Statement) -> None:
        await queue_work(ctx, ctx.machine.system_wq, self.works[statement.at])

    async def _flush(self, ctx: Context, _statement: Statement) -> None:
        await flush_workqueue(ctx, ctx.machine.system_wq)

    async def _migrate(self, ctx: Context, statement: Statement) -> None:
        await ctx.migrate(ctx.machine.cpus[statement.at])


ACTIONS: dict[str, Callable[[Stage, Context, Statement], Awaitable[None]]] = {
    "read": Stage._read,
    "write": Stage._write,
    "percpu_read": Stage._percpu_read,
    "percpu_write": Stage._percpu_write,
    **dict.fromkeys(("rcu", "preempt", "bh", "irq"), Stage._section),
    "spin": Stage._spin,
    "spin_irqsave": Stage._spin_irqsave,
    "mutex": Stage._mutex,
    "synchronize_rcu": Stage._synchronize_rcu,
    "call_rcu": Stage._call_rcu,
    "rcu_barrier": Stage._rcu_barrier,
    "ipi": Stage._ipi,
    "ipi_wait": Stage._ipi_wait,
    "queue": Stage._queue,
    "flush": Stage._flush,
    "migrate": Stage._migrate,
}
"""The method for each statement (`Statement.op`)."""


# -- searches ---------------------------------------------------------------------------------------------------------


@attrs.define
class Reached:
    """The result of a search: each outcome with its number of schedules; the number of all schedules."""

    outcomes: dict[Outcome, int] = attrs.field(factory=dict)
    schedules: int = 0
    cut_off: int = 0
    is_exhausted: bool = False
    unexpected: dict[str, str] = attrs.field(factory=dict)

    def add(self, stage: Stage) -> None:
        """Add one schedule that has been run."""
        self.schedules += 1
        outcome = stage.outcome()
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        for finding in stage.world.findings.values():
            if finding.kind not in {"deadlock", "lockdep"}:
                self.unexpected[finding.signature] = finding.message


def set_stage(program: Program, strategy: Strategy, rcu: str) -> Stage:
    """The stage of *program* for one run."""
    return Stage(program, World(strategy), rcu)


def run_exactly(program: Program, strategy: str, rcu: str, *, budget: int) -> Reached:
    """Search until exhausted, or for *budget* schedules."""
    reached = Reached()
    search = make_exact_search(strategy)
    while reached.schedules + reached.cut_off < budget:
        schedule: Any = search.next_schedule()
        if schedule is None:
            reached.is_exhausted = True
            break
        world = World(schedule)
        watch = Watch(world, wants_accesses=True)
        world.observers = (watch,)
        schedule.watched_by(watch)
        stage = Stage(program, world, rcu)
        run_stepper(world)
        schedule.end(world)
        search.learn(schedule, JobReport())
        if world.stopped == ASLEEP:
            reached.cut_off += 1
        else:
            reached.add(stage)
    return reached


def run_sampler(program: Program, strategy: str, rcu: str, *, budget: int, seed: int) -> Reached:
    """Sample *budget* schedules; the run statistics of earlier ones are available to later ones."""
    reached = Reached()
    known = Knowledge()
    _, word = find_strategy(strategy)
    for number in range(budget):
        world = World(make_strategy(strategy, seed_of(seed, number), known))
        watch = Watch(world, word=word)
        world.observers = (watch,)
        stage = Stage(program, world, rcu)
        run_stepper(world)
        reached.add(stage)
        if number < 8:
            known.learn(watch.profile())
    return reached
