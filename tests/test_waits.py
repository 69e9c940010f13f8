"""Forbidden waits: sleep in atomic context, and waits that nothing ends."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from actors.system.cpu import Cpu
from actors.system.flow import Flow, Kind, Section
from actors.system.stepper import run_stepper
from actors.system.world import World
from protocol.findings import Oops
from tests.helpers import (
    Cell,
    Drive,
    Script,
    Seen,
    each_driver,
    make_cell,
    make_lock,
    make_world,
    only,
    record,
    spawn,
)

pytestmark = each_driver

FREED = "kmem_cache_destroy() in rmmod, step 7"


# -- sleep in atomic context ------------------------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[Flow], Section]] = {
    "RCU": lambda flow: flow.rcu_read_section,
    "IRQs off": lambda flow: flow.irq_section,
    "preemption off": lambda flow: flow.preempt_section,
}
each_section = pytest.mark.parametrize("section", SECTIONS.values(), ids=list(SECTIONS))


@each_section
@pytest.mark.parametrize("how", ["ask", "sleep"])
def test_a_flow_that_sleeps_in_an_atomic_section_is_reported_and_goes_on(
    drive: Drive, section: Callable[[Flow], Section], how: str
) -> None:
    world, seen = make_world()
    cpu = Cpu.boot(world, 0)
    cell = make_cell(world, value=1)
    went_on: list[str] = []

    async def wait(flow: Flow) -> None:
        if how == "ask":
            await flow.ask(cell.sleep_until_positive)
        else:
            await flow.sleep(10)

    async def body(flow: Flow) -> None:
        with section(flow):
            await wait(flow)
        went_on.append(how)
        await wait(flow)

    spawn(world, "a", body, cpu=cpu)
    drive(world)

    finding = only(seen.findings)
    (kept,) = world.findings.values()
    assert (finding.kind, finding.function) == ("atomic-sleep", "wait")
    assert kept.count == 1, "the second time it was outside"
    assert went_on == [how]
    assert world.stopped == "quiescent"


@each_section
def test_an_access_that_does_not_sleep_is_allowed_in_every_section(
    drive: Drive, section: Callable[[Flow], Section]
) -> None:
    world, seen = make_world()
    cpu = Cpu.boot(world, 0)
    cell = make_cell(world, value=1)

    async def body(flow: Flow) -> None:
        with section(flow):
            await flow.ask(cell.add)
            await flow.ask(cell.take)
            await flow.choose(2)

    spawn(world, "a", body, cpu=cpu)
    drive(world)

    assert seen.findings == []


def test_an_rcu_reader_may_be_preempted_and_go_on_on_another_cpu(drive: Drive) -> None:
    world, seen = make_world()
    cpus = [Cpu.boot(world, number) for number in range(2)]
    where: list[Cpu | None] = []

    async def body(flow: Flow) -> None:
        with flow.rcu_read_section:
            await flow.migrate(cpus[1])
            where.append(flow.cpu)

    spawn(world, "a", body, cpu=cpus[0])
    drive(world)

    assert where == [cpus[1]]
    assert seen.findings == []


@pytest.mark.parametrize("name", ["IRQs off", "preemption off"])
def test_a_flow_that_excludes_others_from_its_cpu_is_not_moved_and_gives_that_cpu_back(drive: Drive, name: str) -> None:
    world, seen = make_world(Script("a", "a"))
    cpus = [Cpu.boot(world, number) for number in range(2)]
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        with SECTIONS[name](flow):
            await flow.migrate(cpus[1])
            await flow.ask(cell.add)

    spawn(world, "a", body, cpu=cpus[0])
    spawn(world, "b", lambda flow: add_once(flow, cell), cpu=cpus[0])
    spawn(world, "c", lambda flow: add_once(flow, cell), cpu=cpus[1])
    drive(world)

    assert seen.moves == []
    assert cell.value == 3
    assert world.stopped == "quiescent"


async def add_once(flow: Flow, cell: Cell) -> None:
    await flow.ask(cell.add)


def test_a_handler_must_not_sleep(drive: Drive) -> None:
    world, seen = make_world()
    cpu = Cpu.boot(world, 0)

    async def handler(flow: Flow) -> None:
        flow.begin_handler()
        await flow.sleep(10)
        flow.end_handler()

    cpu.softirq = spawn(world, "si", handler, cpu=cpu, kind=Kind.SOFTIRQ)
    drive(world)

    assert only(seen.findings).kind == "atomic-sleep"


def test_sections_nest_and_only_the_outermost_end_lets_one_sleep(drive: Drive) -> None:
    world, seen = make_world()
    cpu = Cpu.boot(world, 0)
    cell = make_cell(world, value=1)
    atomic: list[bool] = []

    async def body(flow: Flow) -> None:
        with flow.preempt_section:
            with flow.preempt_section, flow.irq_section, flow.rcu_read_section:
                atomic.append(flow.is_atomic)
            atomic.append(flow.is_atomic)
            await flow.ask(cell.add)
        atomic.append(flow.is_atomic)

    spawn(world, "a", body, cpu=cpu)
    drive(world)

    assert atomic == [True, True, False]
    assert seen.findings == []


def test_a_grace_period_hears_of_its_reader_when_the_last_section_ends(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world)
    heard: list[int] = []

    async def body(flow: Flow) -> None:
        flow.blocks = lambda _flow: heard.append(world.steps)
        with flow.rcu_read_section:
            await flow.ask(cell.add)
            with flow.preempt_section, flow.rcu_read_section:
                await flow.ask(cell.add)
            await flow.ask(cell.add)
        flow.blocks = None

    spawn(world, "a", body, cpu=Cpu.boot(world, 0))
    drive(world)

    assert heard == [3]


# -- deadlock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_lane", ["ab", "ba"])
def test_a_deadlock_has_the_same_cycle_whichever_flow_came_first(drive: Drive, first_lane: str) -> None:
    """A third waiting flow is reported too, and does not change the finding's name."""
    world, seen = make_world(Script(first_lane, "ba" if first_lane == "ab" else "ab"))
    first, second = make_lock(world, "slab_mutex"), make_lock(world, "cgroup_mutex")

    async def take_ab(flow: Flow) -> None:
        await flow.ask(first.lock, flow)
        await flow.ask(second.lock, flow)

    async def take_ba(flow: Flow) -> None:
        await flow.ask(second.lock, flow)
        await flow.ask(first.lock, flow)

    async def take_a(flow: Flow) -> None:
        await flow.ask(first.lock, flow)

    spawn(world, "a", take_a)
    spawn(world, "ab", take_ab)
    spawn(world, "ba", take_ba)
    drive(world)

    finding = only(seen.findings)
    assert finding.signature == "deadlock:take_ab(lock) -> take_ba(lock):"
    assert finding.details == (
        "ab waits in take_ab for lock of cgroup_mutex, held by ba; so it waits for ba",
        "ba waits in take_ba for lock of slab_mutex, held by ab; so it waits for ab",
        "a waits in take_a for lock of slab_mutex, held by ab",
    )
    assert finding.flow == "ab"
    assert world.stopped == "finding"


def test_the_endings_do_not_run_after_a_deadlock(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world)
    ends: list[int] = []
    world.endings.append(lambda: ends.append(1))

    async def body(flow: Flow) -> None:
        await flow.ask(cell.take)

    spawn(world, "a", body)
    drive(world)

    assert world.stopped == "finding"
    assert ends == []


def test_a_wait_for_something_that_nobody_holds_is_a_deadlock_too(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world, "an event")

    async def body(flow: Flow) -> None:
        await flow.ask(cell.take)

    spawn(world, "a", body)
    drive(world)

    assert only(seen.findings).details == ("a waits in body for take of an event",)


def contend(drive: Drive, *order: str) -> tuple[Seen, Cell]:
    """Two tasks of one CPU contend for a lock; only the task "spinner" switches preemption off before it waits."""
    world, seen = make_world(Script(*order))
    cpu = Cpu.boot(world, 0)
    lock = make_lock(world, "list_lock")
    cell = make_cell(world)

    async def holder(flow: Flow) -> None:
        await flow.ask(lock.lock, flow)
        await flow.ask(cell.add)
        await flow.ask(lock.unlock)

    async def spinner(flow: Flow) -> None:
        await flow.ask(cell.add)
        with flow.preempt_section:
            await flow.ask(lock.lock, flow)
            await flow.ask(lock.unlock)

    spawn(world, "holder", holder, cpu=cpu)
    spawn(world, "spinner", spinner, cpu=cpu)
    drive(world)
    return seen, cell


def test_a_flow_that_waits_for_a_lock_with_preemption_off_keeps_the_cpu_to_the_end(drive: Drive) -> None:
    """The holder of the lock is on the same CPU and cannot run to release it, as with a spinlock."""
    seen, cell = contend(drive, "holder", "spinner", "spinner")

    finding = only(seen.findings)
    assert finding.kind == "deadlock"
    assert finding.name == "a CPU -> spinner(lock)"
    assert any("spinner waits" in detail and "held by holder" in detail for detail in finding.details)
    assert seen.stepped == ["holder", "spinner", "spinner"], "the last step switches preemption off, and spins"
    assert cell.value == 1


def test_a_flow_that_is_about_to_switch_preemption_off_lets_the_holder_of_the_lock_run(drive: Drive) -> None:
    seen, cell = contend(drive, "holder", "spinner", "holder", "holder")

    assert not seen.findings
    assert seen.stepped == ["holder", "spinner", "holder", "holder", "spinner", "spinner"]
    assert cell.value == 2


# -- both drivers -----------------------------------------------------------------------------------------------------


def make_trouble(world: World) -> None:
    """A world with requests, sections, choices and sleeps, which ends in a deadlock."""
    cpu = Cpu.boot(world, 0)
    lock = make_lock(world, "lock")
    cell = make_cell(world, value=1)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.read)
        with flow.preempt_section:
            await flow.ask(cell.sleep_until_positive)
        await flow.ask(lock.lock, flow)
        if await flow.choose(2):
            kind = "warn"
            raise Oops(kind, "odd", "WARNING: odd", "a detail")
        await flow.sleep(500)
        await flow.ask(lock.lock, flow)

    for name in "abc":
        spawn(world, name, body, cpu=cpu)


def test_findings_are_recorded_alike_under_both_drivers(drive: Drive) -> None:
    recorded = []
    for driver in (drive, run_stepper):
        world, _ = make_world()
        payloads, _ = record(world)
        make_trouble(world)
        driver(world)
        recorded.append((payloads, [msgspec.to_builtins(finding) for finding in world.findings.values()]))

    assert recorded[0] == recorded[1]
    assert {finding["kind"] for finding in recorded[0][1]} == {"atomic-sleep", "deadlock"}
