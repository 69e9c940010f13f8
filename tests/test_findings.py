"""Findings of the actor system: accesses to freed objects, retired actors, flows that die, and the reports of these."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from actors.system.cpu import Cpu
from actors.system.flow import Flow
from protocol.findings import FATAL, ORACLES, Oops
from protocol.messages import Message
from tests.helpers import (
    PEEK,
    Cell,
    Drive,
    Script,
    each_driver,
    make_cell,
    make_lock,
    make_reader,
    make_world,
    only,
    spawn,
)

pytestmark = each_driver

FREED = "kmem_cache_destroy() in rmmod, step 7"


# -- freed objects ----------------------------------------------------------------------------------------------------


def test_a_request_to_a_freed_object_is_a_use_after_free_that_says_who_freed_it(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world, "kmem_cache foo")
    cell.freed = FREED
    returned: list[int] = []

    async def touch(flow: Flow) -> None:
        returned.append(await flow.ask(cell.add))

    spawn(world, "toucher", touch, cpu=Cpu.boot(world, 3))
    drive(world)

    finding = only(seen.findings)
    assert (finding.kind, finding.name) == ("use-after-free", "Cell")
    assert (finding.flow, finding.function, finding.cpu, finding.step) == ("toucher", "touch", 3, 0)
    assert "kmem_cache foo" in finding.message
    assert any(FREED in detail for detail in finding.details)
    assert (returned, cell.value) == ([], 0), "nothing is done to freed memory, and no reply comes from it"
    assert world.stopped == "finding"


def test_a_request_made_before_the_free_and_handled_after_it_is_a_use_after_free(drive: Drive) -> None:
    world, seen = make_world(Script("freer", "toucher"))
    cell = make_cell(world)
    other = make_cell(world, "other")

    async def toucher(flow: Flow) -> None:
        await flow.ask(cell.read)

    async def freer(flow: Flow) -> None:
        await flow.ask(other.read)
        cell.freed = FREED

    spawn(world, "toucher", toucher)
    spawn(world, "freer", freer)
    drive(world)

    assert only(seen.findings).kind == "use-after-free"


def test_a_request_handled_before_the_free_is_no_use_after_free(drive: Drive) -> None:
    world, seen = make_world(Script("toucher", "freer"))
    cell = make_cell(world)
    other = make_cell(world, "other")

    async def toucher(flow: Flow) -> None:
        await flow.ask(cell.read)

    async def freer(flow: Flow) -> None:
        await flow.ask(other.read)
        cell.freed = FREED

    spawn(world, "toucher", toucher)
    spawn(world, "freer", freer)
    drive(world)

    assert seen.findings == []
    assert world.stopped == "quiescent"


def test_a_this_cpu_access_to_a_freed_object_is_a_use_after_free(drive: Drive) -> None:
    world, seen = make_world()
    cpu = Cpu.boot(world, 0)
    cell = Cell(cpu.actor, "per-CPU cell")
    touched: list[int] = []

    async def touch(flow: Flow) -> None:
        cell.freed = FREED
        await flow.this_cpu(cell, PEEK)
        touched.append(cell.value)

    spawn(world, "toucher", touch, cpu=cpu)
    drive(world)

    finding = only(seen.findings)
    assert (finding.kind, finding.function) == ("use-after-free", "touch")
    assert any(FREED in detail for detail in finding.details)
    assert touched == []


# -- actors that retire -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_used_before", [False, True])
def test_objects_of_a_retired_actor_are_freed_for_later_requests(drive: Drive, *, is_used_before: bool) -> None:
    """A retired actor must still report that its memory is freed, whether or not it ever had a task."""
    world, seen = make_world()
    cell = make_cell(world)
    other = make_cell(world, "other")

    async def body(flow: Flow) -> None:
        if is_used_before:
            await flow.ask(cell.add)
        await flow.ask(other.add)
        cell.freed = FREED
        cell.actor.retire()
        await flow.ask(other.add)
        await flow.ask(cell.read)

    spawn(world, "a", body)
    drive(world)

    assert only(seen.findings).kind == "use-after-free"
    assert world.stopped == "finding"


@pytest.mark.parametrize("is_used_before", [False, True])
def test_a_world_goes_on_after_an_actor_has_retired(drive: Drive, *, is_used_before: bool) -> None:
    world, seen = make_world()
    cells = [make_cell(world, f"cell{number}") for number in range(5)]
    other = make_cell(world, "other")

    async def body(flow: Flow) -> None:
        for cell in cells:
            if is_used_before:
                await flow.ask(cell.add)
            await flow.ask(other.add)
            cell.freed = FREED
            cell.actor.retire()

    spawn(world, "a", body)
    spawn(world, "b", lambda flow: repeat(flow, other.add, 20))
    drive(world)

    assert other.value == 25
    assert all(cell.actor.finished for cell in cells)
    assert seen.findings == []
    assert world.stopped == "quiescent"


async def repeat(flow: Flow, operation: Callable[[], int], times: int) -> None:
    for _ in range(times):
        await flow.ask(operation)


def test_a_request_right_after_the_owner_has_retired_is_a_use_after_free(drive: Drive) -> None:
    """No step lies in between: a driver must not have to end the owner's task before the next request comes."""
    world, seen = make_world(Script("uses", "frees", "touches"))
    cell = make_cell(world)
    other = make_cell(world, "other")

    async def uses(flow: Flow) -> None:
        await flow.ask(cell.add)

    async def frees(flow: Flow) -> None:
        await flow.ask(other.add)
        cell.freed = FREED
        cell.actor.retire()

    async def touches(flow: Flow) -> None:
        await flow.ask(cell.read)

    for name, body in (("uses", uses), ("frees", frees), ("touches", touches)):
        spawn(world, name, body)
    drive(world)

    assert only(seen.findings).flow == "touches"
    assert seen.stepped == ["uses", "frees", "touches"]


def test_an_actor_that_retires_by_itself_still_says_that_its_memory_is_gone(drive: Drive) -> None:
    """The actor retires while it handles a message, and the next step is a request to it."""
    world, seen = make_world(Script("a", "owner of cell", "b"))
    cell = make_cell(world)
    other = make_cell(world, "other")

    def free() -> None:
        cell.freed = FREED
        cell.actor.retire()

    mail = Message(free, target=cell)

    async def posts(flow: Flow) -> None:
        await flow.ask(other.add)
        cell.actor.post(mail)

    async def touches(flow: Flow) -> None:
        await flow.ask(cell.read)

    spawn(world, "a", posts)
    spawn(world, "b", touches)
    drive(world)

    assert only(seen.findings).flow == "b"
    assert world.stopped == "finding"


def test_actors_that_come_and_go_leave_their_places_to_others(drive: Drive) -> None:
    """A machine that makes and frees caches for years does not grow."""
    world, seen = make_world()
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        for number in range(50):
            reader, _ = make_reader(world, f"reader{number}")
            reader.post("hello")
            await flow.ask(cell.add)
            await flow.settle()
            reader.retire()

    spawn(world, "a", body)
    drive(world)

    assert len(seen.stepped) == 150
    assert {name for enabled in seen.enabled for name in enabled} == {"a", *(f"reader{n}" for n in range(50))}
    assert len(world._lanes) == 2


def test_mail_to_an_actor_that_has_retired_is_no_error(drive: Drive) -> None:
    """Messages that are pending when the actor retires, or come later, are dropped, and the world ends."""
    world, seen = make_world(Script("a", "a"))
    cell = make_cell(world)
    gone, mail = make_reader(world, "gone")

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        gone.post("early")
        gone.retire()
        await flow.ask(cell.add)
        gone.post("late")

    spawn(world, "a", body)
    drive(world)

    assert mail == []
    assert seen.stepped == ["a", "a"]
    assert world.stopped == "quiescent"


# -- flows that die ---------------------------------------------------------------------------------------------------


def test_an_oops_ends_its_flow_and_becomes_a_finding(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)
    after: list[int] = []

    async def dies(flow: Flow) -> None:
        await flow.ask(cell.add)
        kind = "bug"
        raise Oops(kind, "cell != 1", "kernel BUG: cell != 1", "a detail", "another")

    async def survives(flow: Flow) -> None:
        while len(after) < 100:
            after.append(await flow.ask(cell.add))

    spawn(world, "survives", survives)
    dead = spawn(world, "dies", dies)
    drive(world)

    finding = only(seen.findings)
    assert (finding.kind, finding.name, finding.message) == ("bug", "cell != 1", "kernel BUG: cell != 1")
    assert finding.details == ("a detail", "another")
    assert finding.flow == "dies"
    assert dead.finished
    assert dead not in world.flows
    assert len(after) < 100
    assert world.stopped == "finding"


def test_an_oops_that_is_not_fatal_ends_only_its_flow(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)

    async def dies(flow: Flow) -> None:
        await flow.ask(cell.add)
        kind = "warn"
        raise Oops(kind, "odd", "WARNING: odd")

    spawn(world, "survives", lambda flow: repeat(flow, cell.add, 30))
    spawn(world, "dies", dies)
    drive(world)

    assert cell.value == 31
    assert only(seen.findings).kind == "warn"
    assert world.stopped == "quiescent"


def test_a_flow_that_dies_keeps_its_cpu_from_later_flows(drive: Drive) -> None:
    """A later flow that is given the same place among the lanes is kept out too."""
    world, seen = make_world(Script("dies", "spawns"))
    cpus = [Cpu.boot(world, number) for number in range(2)]
    cell = make_cell(world)

    async def dies(flow: Flow) -> None:
        flow.preempt_disable()
        await flow.ask(cell.add)
        kind = "warn"
        raise Oops(kind, "odd", "WARNING: odd")

    async def spawns(flow: Flow) -> None:
        await flow.ask(cell.add)
        spawn(world, "later", lambda later: repeat(later, cell.add, 1), cpu=cpus[0])

    spawn(world, "dies", dies, cpu=cpus[0])
    spawn(world, "spawns", spawns, cpu=cpus[1])
    drive(world)

    assert seen.stepped == ["dies", "spawns"]
    assert [finding.kind for finding in seen.findings] == ["warn", "deadlock"]


def test_a_flow_that_dies_keeps_what_it_held(drive: Drive) -> None:
    """As after an oops in the kernel, the lock is never released, and its waiters wait for ever."""
    world, seen = make_world(Script("dies"))
    lock = make_lock(world, "slab_mutex")

    async def dies(flow: Flow) -> None:
        await flow.ask(lock.lock, flow)
        kind = "warn"
        raise Oops(kind, "odd", "WARNING: odd")

    async def waits(flow: Flow) -> None:
        await flow.ask(lock.lock, flow)

    spawn(world, "dies", dies)
    spawn(world, "waits", waits)
    drive(world)

    assert [finding.kind for finding in seen.findings] == ["warn", "deadlock"]
    assert any("held by dies" in detail for detail in seen.findings[1].details)


def kernel_function_that_fails() -> None:
    kind = "bug"
    raise Oops(kind, "here", "kernel BUG: here")


async def kernel_function_that_waits(flow: Flow, cell: Cell) -> None:
    await flow.ask(cell.add)


def test_a_finding_names_the_function_that_was_running_not_the_one_that_waited_last(drive: Drive) -> None:
    """The last await was in one function, and the failure is in the next one; the finding names the second."""
    world, seen = make_world()
    cell = make_cell(world)

    async def outer(flow: Flow) -> None:
        await kernel_function_that_waits(flow, cell)
        kernel_function_that_fails()

    spawn(world, "a", outer)
    drive(world)

    finding = only(seen.findings)
    assert finding.function == "kernel_function_that_fails"
    assert finding.stack == ("kernel_function_that_fails", "outer")


def test_a_report_names_the_function_that_made_it_not_the_one_that_waited_last(drive: Drive) -> None:
    """A WARN_ON after the return of a function that waited belongs to the caller."""
    world, seen = make_world()
    cell = make_cell(world)

    async def warns(flow: Flow) -> None:
        await kernel_function_that_waits(flow, cell)
        world.report("warn", "odd", "WARNING: odd", flow=flow)

    async def outer(flow: Flow) -> None:
        await warns(flow)

    spawn(world, "a", outer)
    drive(world)

    finding = only(seen.findings)
    assert finding.function == "warns"
    assert finding.stack == ("warns", "outer")


def test_the_stack_of_a_use_after_free_has_the_callers_innermost_first(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)
    cell.freed = FREED

    async def middle(flow: Flow) -> None:
        await kernel_function_that_waits(flow, cell)

    async def outer(flow: Flow) -> None:
        await middle(flow)

    spawn(world, "a", outer)
    drive(world)

    assert only(seen.findings).stack[:3] == ("kernel_function_that_waits", "middle", "outer")


# -- reports ----------------------------------------------------------------------------------------------------------


def test_the_same_flaw_again_is_counted_not_reported_again(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        for number in range(4):
            await flow.ask(cell.add)
            world.report("warn", "odd", f"WARNING: number {number}", flow=flow)

    spawn(world, "a", body)
    drive(world)

    assert only(seen.findings).message == "WARNING: number 0"
    (kept,) = world.findings.values()
    assert (kept.count, kept.message) == (4, "WARNING: number 0")
    assert world.stopped == "quiescent"


@pytest.mark.parametrize("kind", ORACLES)
def test_a_run_ends_with_a_fatal_finding_and_only_with_that(drive: Drive, kind: str) -> None:
    world, _ = make_world()
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        world.report(kind, "x", "x", flow=flow)
        await flow.ask(cell.add)

    spawn(world, "a", body)
    drive(world)

    assert cell.value == (1 if kind in FATAL else 2)
    assert world.stopped == ("finding" if kind in FATAL else "quiescent")


def test_every_fatal_kind_is_an_oracle(drive: Drive) -> None:
    assert drive is not None
    assert set(ORACLES) >= FATAL
