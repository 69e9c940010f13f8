"""The rules for the next flow on a CPU (KERNEL.md 0.2), compared with a naive model on random programs and schedules.

The model has no masks and no holders. For each flow it records the sections that the flow's program was in, moment by
moment since the flow's last step. From the rules alone it derives which flows may step: a flow may step if at one of
these moments no other flow excludes it. At every step the result must be exactly the enabled set.
"""

from __future__ import annotations

from collections import deque

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.system.actor import Actor, Shared
from actors.system.cpu import Cpu
from actors.system.flow import Flow, Kind
from actors.system.lane import Lane
from actors.system.observer import Observer
from actors.system.stepper import run_stepper
from actors.system.trio_driver import run_trio
from actors.system.world import EnabledSet, World
from protocol.operations import UPDATE, operation
from tests.helpers import (
    Cell,
    Drive,
    Payload,
    Script,
    each_driver,
    make_cell,
    make_lock,
    make_world,
    record,
    spawn,
)

CPUS = 2
STEP, RAISE_HARDIRQ, RAISE_SOFTIRQ, MIGRATE, SLEEP = "step", "raise hardirq", "raise softirq", "migrate", "sleep"
IRQS, SOFTIRQS, PREEMPTION = "IRQs off", "softirqs off", "preemption off"

Program = list["str | tuple[str, Program]"]


def programs(*actions: str, sections: tuple[str, ...], most: int = 4) -> st.SearchStrategy[Program]:
    """Programs: actions, and sections around programs."""
    strategy: st.SearchStrategy[Program] = st.recursive(
        st.lists(st.sampled_from(actions), max_size=most),
        lambda inner: st.lists(st.sampled_from(actions) | st.tuples(st.sampled_from(sections), inner), max_size=most),
        max_leaves=6,
    )
    return strategy


task_programs = programs(STEP, RAISE_HARDIRQ, RAISE_SOFTIRQ, MIGRATE, SLEEP, sections=(IRQS, SOFTIRQS, PREEMPTION))
softirq_programs = programs(STEP, RAISE_HARDIRQ, sections=(IRQS,), most=3)
hardirq_programs = programs(STEP, sections=(IRQS,), most=3)


@attrs.define(eq=False)
class Pending(Shared):
    """The number of pending interrupts of one kind on a CPU."""

    count: int = 0

    def is_raised(self) -> bool:
        return self.count > 0

    @operation(UPDATE)
    def raise_it(self) -> None:
        self.count += 1

    @operation(UPDATE, when=is_raised, idle=True)
    def enter(self) -> None:
        self.count -= 1


@attrs.define(eq=False)
class Rules(Observer):
    """The naive model: an observer that records each flow's sections and derives which flows may step."""

    cpus: list[Cpu]
    flows: list[Flow] = attrs.field(factory=list)
    sections: dict[Flow, list[str]] = attrs.field(factory=dict)
    moments: dict[Flow, list[set[str]]] = attrs.field(factory=dict)
    handling: set[Flow] = attrs.field(factory=set)
    steps: int = 0
    refused: int = 0

    def may_step(self, flow: Flow) -> bool:
        """KERNEL.md 0.2, clause by clause."""
        here = [other for other in self.flows if other.cpu is flow.cpu and not other.finished]
        handlers = [other for other in here if other in self.handling]
        hardirq = next((other for other in handlers if other.kind is Kind.HARDIRQ), None)
        if hardirq is not None:
            return flow is hardirq  # a hard IRQ handler runs to its end
        softirq = next((other for other in handlers if other.kind is Kind.SOFTIRQ), None)
        if softirq is not None:
            return flow is softirq or (flow.kind is Kind.HARDIRQ and not self.keeps(softirq, {IRQS}))
        others = [other for other in here if other is not flow]
        if flow.kind is Kind.HARDIRQ:
            return not any(self.keeps(other, {IRQS}) for other in others)
        if flow.kind is Kind.SOFTIRQ:
            return not any(self.keeps(other, {IRQS, SOFTIRQS}) for other in others)
        return not any(self.keeps(other, {IRQS, SOFTIRQS, PREEMPTION}) for other in others)

    def keeps(self, flow: Flow, sections: set[str]) -> bool:
        """Whether the flow was in one of these sections at each moment since its last step."""
        return all(moment & sections for moment in self.moments[flow])

    def is_in(self, flow: Flow, sections: list[str]) -> None:
        """Record that the flow's code has entered or left a section."""
        self.sections[flow] = sections
        self.moments[flow].append(set(sections))

    # -- an observer ----------------------------------------------------------------------------------------------

    def step(self, _world: World, enabled: EnabledSet, _index: int, lane: Lane) -> None:
        ready = [flow for flow in self.flows if flow.ready and not flow.finished]
        allowed = [flow for flow in ready if self.may_step(flow)]
        self.steps += 1
        self.refused += len(ready) - len(allowed)

        assert [lane.name for lane in enabled.lanes] == [flow.name for flow in allowed]
        assert isinstance(lane, Flow)
        self.moments[lane] = [set(self.sections[lane])]


class Numbers(Script):
    """A schedule from Hypothesis: numbers, modulo the number of enabled lanes; after them always the first lane."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__()
        self._numbers = deque(numbers)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        return self._numbers.popleft() % len(lanes) if self._numbers else 0


@attrs.frozen
class Programs:
    """The programs of all flows: two tasks and a kworker on each CPU, and the handlers, which repeat theirs."""

    flows: list[Program]
    softirq: Program
    hardirq: Program


all_programs = st.builds(
    Programs, st.lists(task_programs, min_size=2, max_size=3 * CPUS), softirq_programs, hardirq_programs
)
schedules = st.lists(st.integers(0, 11), min_size=20, max_size=200)


@attrs.define(eq=False)
class Board:
    """A world with CPUs and handlers, on which programs run."""

    world: World
    cell: Cell
    rules: Rules
    softirqs: list[Pending]
    hardirqs: list[Pending]

    async def run(self, flow: Flow, program: Program) -> None:
        """Run *program* and report each section to the model."""
        for item in program:
            if isinstance(item, tuple):
                section, inner = item
                self.enter(flow, section)
                await self.run(flow, inner)
                self.leave(flow, section)
            else:
                await self.act(flow, item)

    async def act(self, flow: Flow, action: str) -> None:
        """Do one action; an action that the current section forbids is replaced by a plain step."""
        assert flow.cpu is not None
        if action == RAISE_HARDIRQ:
            await flow.ask(self.hardirqs[flow.cpu.id].raise_it)
        elif action == RAISE_SOFTIRQ:
            await flow.ask(self.softirqs[flow.cpu.id].raise_it)
        elif action == MIGRATE and not flow.is_atomic:
            await flow.migrate(self.rules.cpus[1 - flow.cpu.id])
        elif action == SLEEP and not flow.is_atomic:
            await flow.sleep(700)
        else:
            await flow.ask(self.cell.add)

    def enter(self, flow: Flow, section: str) -> None:
        self.rules.is_in(flow, [*self.rules.sections[flow], section])
        if section == IRQS:
            flow.irq_section.enter()
        elif section == PREEMPTION:
            flow.preempt_disable()
        else:
            flow.local_bh_disable()

    def leave(self, flow: Flow, section: str) -> None:
        self.rules.is_in(flow, self.rules.sections[flow][:-1])
        if section == IRQS:
            flow.irq_section.leave()
        elif section == PREEMPTION:
            flow.preempt_enable()
        else:
            flow.local_bh_enable()

    def add(self, name: str, kind: Kind, cpu: Cpu, program: Program) -> Flow:
        """A task or a kworker that runs *program* once."""
        flow = Flow(self.world, name, kind, cpu)

        async def body() -> None:
            await flow.ask(self.cell.read)
            await self.run(flow, program)
            await flow.ask(self.cell.read)

        return self._spawn(flow, body())

    def add_handler(self, name: str, kind: Kind, cpu: Cpu, pending: Pending, program: Program) -> Flow:
        """A handler that runs *program* each time it is raised."""
        flow = Flow(self.world, name, kind, cpu)

        async def body() -> None:
            while True:
                await flow.ask(pending.enter)
                flow.begin_handler()
                self.rules.handling.add(flow)
                await self.run(flow, program)
                await flow.ask(self.cell.read)
                self.rules.handling.remove(flow)
                flow.end_handler()

        return self._spawn(flow, body())

    def _spawn(self, flow: Flow, coro: object) -> Flow:
        self.rules.flows.append(flow)
        self.rules.sections[flow], self.rules.moments[flow] = [], [set()]
        self.world.spawn(flow, coro)  # type: ignore[arg-type]  # a coroutine, made just above
        return flow


def set_up(world: World, programs: Programs) -> Board:
    """CPUs with their handlers; then the flows, in turn on each CPU, every third a kworker."""
    cpus = [Cpu.boot(world, number) for number in range(CPUS)]
    softirqs = [Pending(Actor(world, f"softirqs of {cpu.id}")) for cpu in cpus]
    hardirqs = [Pending(Actor(world, f"hardirqs of {cpu.id}")) for cpu in cpus]
    board = Board(world, make_cell(world), Rules(cpus), softirqs, hardirqs)
    for cpu in cpus:
        cpu.hardirq = board.add_handler(f"hi/{cpu.id}", Kind.HARDIRQ, cpu, hardirqs[cpu.id], programs.hardirq)
        cpu.softirq = board.add_handler(f"si/{cpu.id}", Kind.SOFTIRQ, cpu, softirqs[cpu.id], programs.softirq)
    for number, program in enumerate(programs.flows):
        kind = Kind.KWORKER if number // CPUS == 2 else Kind.TASK
        board.add(f"{kind.value}{number}", kind, cpus[number % CPUS], program)
    return board


# -- properties -------------------------------------------------------------------------------------------------------


@given(programs=all_programs, numbers=schedules)
def test_at_every_step_the_enabled_set_is_what_the_rules_allow(programs: Programs, numbers: list[int]) -> None:
    world = World(Numbers(numbers))
    board = set_up(world, programs)
    world.observers = (board.rules,)
    run_stepper(world)

    assert world.stopped == "quiescent"
    assert board.rules.steps == world.steps
    assert not world.findings
    assert all(pending.count == 0 for pending in board.softirqs + board.hardirqs), "every interrupt was handled"


@given(programs=all_programs, numbers=schedules)
def test_both_drivers_record_the_same_bytes_for_any_program_and_schedule(
    programs: Programs, numbers: list[int]
) -> None:
    recorded: list[list[Payload]] = []
    for drive in (run_stepper, run_trio):
        world = World(Numbers(numbers))
        payloads, _ = record(world)
        set_up(world, programs)
        drive(world)
        recorded.append(payloads)

    assert recorded[0] == recorded[1]


def test_each_rule_excludes_a_flow() -> None:
    """The property above is not vacuous: in this world each rule excludes at least one flow."""
    inner: Program = [RAISE_HARDIRQ, RAISE_SOFTIRQ, STEP]
    program: Program = [(IRQS, inner), (SOFTIRQS, inner), (PREEMPTION, inner), STEP]
    world = World(Numbers([7, 3, 5, 2, 11, 4] * 30))
    board = set_up(world, Programs([program] * 6, [STEP, (IRQS, [RAISE_HARDIRQ, STEP])], [STEP]))
    world.observers = (board.rules,)
    run_stepper(world)

    assert world.stopped == "quiescent"
    assert board.rules.refused > 50


# -- each rule by an example ------------------------------------------------------------------------------------------


def trace(drive: Drive, program: Program, order: list[str], *, softirq: Program | None = None) -> list[tuple[str, ...]]:
    """The enabled sets of CPU 0 while T0 runs *program* in *order*, with another task and both handlers there."""
    world, seen = make_world(Script(*order))
    board = set_up(world, Programs([program, [], [STEP], []], softirq if softirq is not None else [STEP], [STEP]))
    drive(world)
    assert world.stopped == "quiescent"
    assert board.cell.value > 0
    return [tuple(name for name in enabled if name in ("T0", "T2", "hi/0", "si/0")) for enabled in seen.enabled]


@each_driver
@pytest.mark.parametrize(
    ("section", "may"),
    [
        (IRQS, ("T0",)),
        (SOFTIRQS, ("hi/0", "T0")),
        (PREEMPTION, ("hi/0", "si/0", "T0")),
    ],
)
def test_a_section_excludes_the_flows_that_it_should(drive: Drive, section: str, may: tuple[str, ...]) -> None:
    program: Program = [(section, [RAISE_HARDIRQ, RAISE_SOFTIRQ, STEP])]
    sets = trace(drive, program, ["T0", "T0", "T0", "T0"])

    assert sets[3] == may, "both interrupts are raised, another task is ready, and T0 is in the section"
    assert sets[4] == ("hi/0", "si/0", "T0", "T2"), "T0 has left it"


@each_driver
@pytest.mark.parametrize("section", [IRQS, SOFTIRQS, PREEMPTION])
def test_between_two_sections_there_is_a_moment_without(drive: Drive, section: str) -> None:
    program: Program = [(section, [RAISE_HARDIRQ, RAISE_SOFTIRQ]), (section, [STEP, STEP])]
    sets = trace(drive, program, ["T0", "T0", "T0", "T0"])

    assert sets[3] == ("hi/0", "si/0", "T0", "T2"), "T0 has left the first and not entered the second"
    assert "T2" not in sets[4], "T0 is in the second"


@each_driver
def test_a_hard_irq_handler_runs_to_its_end_before_anyone_else(drive: Drive) -> None:
    sets = trace(drive, [RAISE_SOFTIRQ, RAISE_HARDIRQ, STEP], ["T0", "T0", "T0", "hi/0", "hi/0", "hi/0"])

    assert sets[3] == ("hi/0", "si/0", "T0", "T2")
    assert sets[4] == sets[5] == ("hi/0",)
    assert sets[6] == ("si/0", "T0", "T2")


@each_driver
def test_a_softirq_handler_is_interrupted_by_a_hard_irq_only(drive: Drive) -> None:
    order = ["T0", "T0", "si/0", "si/0", "hi/0", "hi/0", "hi/0", "si/0", "si/0"]
    sets = trace(drive, [RAISE_SOFTIRQ, STEP], order, softirq=[RAISE_HARDIRQ, STEP])

    assert sets[2] == ("si/0", "T0", "T2")
    assert sets[3] == ("si/0",)
    assert sets[4] == ("hi/0", "si/0")
    assert sets[5] == sets[6] == ("hi/0",)
    assert sets[7] == sets[8] == ("si/0",)
    assert sets[9] == ("T0", "T2")


@each_driver
def test_a_softirq_handler_with_irqs_off_is_interrupted_by_nobody(drive: Drive) -> None:
    order = ["T0", "T0", "si/0", "si/0", "si/0"]
    sets = trace(drive, [RAISE_SOFTIRQ, STEP], order, softirq=[(IRQS, [RAISE_HARDIRQ, STEP]), STEP])

    assert sets[3] == sets[4] == ("si/0",)
    assert sets[5] == ("hi/0", "si/0"), "IRQs are on again"


@each_driver
def test_a_handler_interrupts_a_task_that_has_preemption_off_and_gives_the_cpu_back_to_it(drive: Drive) -> None:
    program: Program = [(PREEMPTION, [RAISE_SOFTIRQ, STEP, STEP])]
    sets = trace(drive, program, ["T0", "T0", "si/0", "si/0", "si/0", "T0"])

    assert sets[2] == ("si/0", "T0")
    assert sets[3] == sets[4] == ("si/0",)
    assert sets[5] == ("T0",), "the other task is still kept off"


@each_driver
def test_a_section_on_one_cpu_excludes_nothing_on_another(drive: Drive) -> None:
    world, seen = make_world(Script("T0", "T0", "T1", "T1", "T1"))
    board = set_up(world, Programs([[(IRQS, [STEP, STEP])], [STEP]], [], []))
    drive(world)

    assert board.cell.value == 3
    assert seen.stepped[:5] == ["T0", "T0", "T1", "T1", "T1"]
    assert seen.enabled[2] == ("T0", "T1")


@each_driver
def test_a_task_that_waits_for_a_spinlock_keeps_tasks_of_its_cpu_off_but_not_interrupts(drive: Drive) -> None:
    world, seen = make_world(Script("spinner", "holder", "spinner", "raiser", "hi/0", "hi/0", "holder", "spinner"))
    board = set_up(world, Programs([], [], []))
    lock = make_lock(world, "list_lock")
    cpus = board.rules.cpus

    async def holder(flow: Flow) -> None:
        await flow.ask(lock.lock, flow)
        await flow.ask(lock.unlock)

    async def spinner(flow: Flow) -> None:
        await flow.ask(board.cell.read)
        with flow.preempt_section:
            await flow.ask(board.cell.read)
            await flow.ask(lock.lock, flow)
            await flow.ask(lock.unlock)

    async def raiser(flow: Flow) -> None:
        await flow.ask(board.hardirqs[0].raise_it)

    async def victim(flow: Flow) -> None:
        await flow.ask(board.cell.read)

    for name, body, cpu in (
        ("holder", holder, cpus[1]),
        ("spinner", spinner, cpus[0]),
        ("raiser", raiser, cpus[1]),
        ("victim", victim, cpus[0]),
    ):
        spawn(world, name, body, cpu=cpu)
    drive(world)

    assert seen.stepped[-1] == "victim"
    assert seen.enabled[3] == ("holder", "raiser")
    assert seen.enabled[4] == ("hi/0", "holder")
    assert world.stopped == "quiescent"
