"""The search and kernel objects: the parts of an object, its end, and the sleep of workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest

from actors.linux.init.machine import Machine
from actors.linux.kernel.locking.locks import (
    Completion,
    Mutex,
    MutexHeld,
    RwSem,
    down_read,
    down_write,
    up_read,
    up_write,
)
from actors.linux.kernel.workqueue import Work, queue_work_on
from actors.linux.lib.percpu_refcount import BIAS, PercpuRef
from actors.machine.context import Context
from actors.machine.lockless import LocklessField
from actors.system.actor import Actor, Shared
from actors.system.flow import Flow
from actors.system.world import World
from protocol.messages import Message
from protocol.operations import COMMUTE, READ, UPDATE, operation
from scenarios.stage import Stage, small_cache
from tests.helpers import Cell
from tests.search.programs import Body, run_dpor
from tests.search.programs import cells as make_cells
from tests.search.stages import GoingThrough, toy

# -- parts ------------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Struct(Shared):
    """Two fields, with operations on one of them and on both."""

    fields: dict[str, int] = attrs.field(factory=dict)

    @operation(UPDATE, part="left")
    def set_left(self) -> None:
        self.fields["left"] = 1

    @operation(UPDATE, part="right")
    def set_right(self) -> None:
        self.fields["right"] = 1

    @operation(COMMUTE, part="right")
    def add_right(self) -> None:
        self.fields["right"] = self.fields.get("right", 0) + 1

    @operation(UPDATE)
    def clear(self) -> None:
        self.fields.clear()

    @operation(READ, part="left")
    def read_left_and_set_right(self) -> int:
        self.touch_part("right", UPDATE)
        self.fields["right"] = 2
        return self.fields.get("left", 0)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("set_left", "set_right"), 1),
        (("set_left", "set_left"), 2),
        (("add_right", "add_right", "add_right"), 1),
        (("add_right", "add_right", "set_right"), 4),
        (("set_left", "set_right", "clear"), 4),
        (("read_left_and_set_right", "set_left"), 2),
        (("read_left_and_set_right", "add_right"), 2),
    ],
)
def test_steps_on_different_parts_are_independent(names: Sequence[str], classes: int) -> None:
    def program(world: World) -> Sequence[Body]:
        struct = Struct(Actor(world, "struct"))

        def asks(name: str) -> Body:
            async def body(flow: Flow) -> None:
                await flow.ask(getattr(struct, name))

            return body

        return [asks(name) for name in names]

    _, found = run_dpor(program)

    assert len(found) == len(set(found)) == classes


# -- mail -------------------------------------------------------------------------------------------------------------


def test_a_message_that_an_end_drops_might_have_been_delivered() -> None:
    """The receiver ends while a message is pending: a delivery before the end is possible, and can be observed."""
    seen = set()

    def program(world: World) -> Sequence[Body]:
        x, y = make_cells(world, 2)
        office = Actor(world, "office")

        async def send(flow: Flow) -> None:
            await flow.ask(y.read)
            office.post(Message.mail(x.write, 1))
            await flow.ask(y.read)
            office.retire()

        async def look(flow: Flow) -> None:
            seen.add(await flow.ask(x.read))

        return [send, look]

    run_dpor(program)

    assert seen == {0, 1}


# -- kernel objects ---------------------------------------------------------------------------------------------------


def go_through(body: Callable[[Stage], None]) -> list[Stage]:
    """All runs of a scenario with this body."""
    search = GoingThrough(toy(body))
    stages = list(search.runs())
    assert search.ended
    return stages


def boot(stage: Stage) -> Machine:
    return stage.boot(caches=[small_cache("alpha")])


def findings_of(stages: Sequence[Stage]) -> set[frozenset[str]]:
    """The sets of findings of single runs."""
    return {frozenset(stage.world.findings) for stage in stages}


def test_a_use_comes_before_or_after_the_free() -> None:
    """Only the object connects the two flows, and the step that frees it requests something else."""

    def body(stage: Stage) -> None:
        boot(stage)
        cell, other = (Cell(Actor(stage.world, name), name) for name in ("cell", "other"))

        async def free(ctx: Context) -> None:
            await ctx.ask(other.read)
            ctx.kfree(cell)

        async def use(ctx: Context) -> None:
            await ctx.ask(cell.read)

        stage.task("free", free, cpu=0)
        stage.task("use", use, cpu=1)

    kinds = {frozenset(name.partition(":")[0] for name in found) for found in findings_of(go_through(body))}

    assert kinds == {frozenset(), frozenset({"use-after-free"})}


def test_a_worker_that_sleeps_lets_another_work_begin() -> None:
    """Both works are queued on one CPU; the second one runs first only while the first one sleeps on a mutex."""
    seen = set()

    def body(stage: Stage) -> None:
        machine = boot(stage)
        mutex = Mutex(Actor(stage.world, "mutex"), "mutex")
        done: list[str] = []

        async def locked_work(ctx: Context, _work: Work) -> None:
            async with MutexHeld(ctx, mutex):
                done.append("locked")

        async def other_work(_ctx: Context, _work: Work) -> None:
            done.append("other")

        async def queue(ctx: Context) -> None:
            for func in (locked_work, other_work):
                container = Cell(Actor(stage.world, func.__name__), func.__name__)
                await queue_work_on(ctx, 0, machine.system_wq, Work(container.actor, container, func))

        async def hold(ctx: Context) -> None:
            async with MutexHeld(ctx, mutex):
                pass

        async def wind_up(_ctx: Context) -> None:
            seen.add(tuple(done))

        stage.task("queue", queue, cpu=0)
        stage.task("holder", hold, cpu=1)
        stage.wind_up(wind_up)

    go_through(body)

    assert seen == {("locked", "other"), ("other", "locked")}


Act = Callable[[Context], Awaitable[None]]
Acts = Callable[[World], tuple[Act, Act]]


def schedules_of(acts: Acts) -> int:
    """The number of schedules of two tasks on two CPUs that each do one of these."""

    def body(stage: Stage) -> None:
        boot(stage)
        for cpu, act in enumerate(acts(stage.world)):
            stage.task(f"task {cpu}", act, cpu=cpu)

    return len(go_through(body))


def idle(_world: World) -> tuple[Act, Act]:
    """Tasks that do nothing; they end one after the other, which is an order too."""

    async def act(_ctx: Context) -> None:
        """Do nothing."""

    return act, act


def users_of_a_semaphore(*, writes: bool) -> Acts:
    """One task reads under a semaphore; the other one reads too, or *writes*."""

    def acts(world: World) -> tuple[Act, Act]:
        sem = RwSem.boot(world, "sem")

        async def read(ctx: Context) -> None:
            await down_read(ctx, sem)
            await up_read(ctx, sem)

        async def write(ctx: Context) -> None:
            await down_write(ctx, sem)
            await up_write(ctx, sem)

        return read, write if writes else read

    return acts


def completions(world: World) -> tuple[Act, Act]:
    completion = Completion(Actor(world, "completion"), remaining=2)

    async def act(ctx: Context) -> None:
        await ctx.ask(completion.complete)

    return act, act


def puts(count: int) -> Acts:
    """Each of two tasks drops one of *count* references."""

    def acts(world: World) -> tuple[Act, Act]:
        container = Cell(Actor(world, "container"), "container")
        ref = PercpuRef(container.actor, container, release, [0, 0], count=count)

        async def act(ctx: Context) -> None:
            await ctx.ask(ref.atomic_add, -1)

        return act, act

    return acts


async def release(_ctx: Context, _ref: PercpuRef) -> None:
    """Release callback that does nothing."""


@pytest.mark.parametrize(
    "acts",
    [users_of_a_semaphore(writes=False), completions, puts(BIAS + 2)],
    ids=["readers of a semaphore", "completions", "puts while the count is biased"],
)
def test_orders_that_no_flow_can_observe_are_explored_once(acts: Acts) -> None:
    assert schedules_of(acts) == schedules_of(idle)


@pytest.mark.parametrize(
    "acts", [users_of_a_semaphore(writes=True), puts(2)], ids=["a reader and a writer", "the last puts"]
)
def test_steps_whose_order_matters_are_explored_in_every_order(acts: Acts) -> None:
    assert schedules_of(acts) > schedules_of(idle)


def test_a_store_is_seen_late_or_not_before_its_delivery() -> None:
    """The other CPU sees the old value until the store is delivered; the field may be freed before the delivery."""
    seen = set()

    def body(stage: Stage) -> None:
        boot(stage)
        field = LocklessField(Actor(stage.world, "field"), "field", 5)
        other = Cell(Actor(stage.world, "other"), "other")

        async def store(ctx: Context) -> None:
            await ctx.ask(field.store, ctx, 0)
            await ctx.ask(other.read)
            ctx.kfree(field)
            field.actor.retire()

        async def read(ctx: Context) -> None:
            seen.add(await ctx.ask(field.read, ctx.smp_processor_id))

        stage.task("store", store, cpu=0)
        stage.task("read", read, cpu=1)

    kinds = {name.partition(":")[0] for stage in go_through(body) for name in stage.world.findings}

    assert seen == {5, 0}
    assert kinds == {"use-after-free"}
