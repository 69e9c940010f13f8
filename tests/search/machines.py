"""Random programs with all operations of the seam, on two CPUs with interrupts, and the outcome of each schedule.

The flows themselves record the outcome of a schedule: the values that each one read, in its order, and the memory at
the end. The outcome does not depend on the search's independence relation. So a search that wrongly omits a schedule
is noticed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import attrs

from actors.system.actor import Actor, Shared
from actors.system.cpu import Cpu
from actors.system.flow import Flow, Kind
from actors.system.world import World
from explorer.search.jobs import JobReport
from explorer.search.strategies.dfs import Dfs
from explorer.search.strategies.dpor import ASLEEP, Dpor
from protocol.messages import Message
from protocol.operations import READ, UPDATE, OperationInfo, operation
from tests.search.programs import Cell, Lock, run

CPUS = 2
PEEK, POKE = OperationInfo("peek", READ), OperationInfo("poke")

Script = list["str | tuple[str, Script]"]

PLAIN = ("read", "write", "peek", "poke", "choose", "mail", "migrate", "sleep", "hardirq", "softirq", "free-running")
SECTIONS = ("preemption off", "IRQs off", "RCU", "lock", "spinlock")


@attrs.frozen
class Outcome:
    """The outcome of a run: the values that each flow read, the memory, the findings, the number of flows left."""

    seen: tuple[tuple[str, tuple[object, ...]], ...]
    memory: tuple[int, ...]
    flaws: tuple[str, ...]
    flows_left: int


@attrs.define(eq=False)
class Pending(Shared):
    """Whether an interrupt of one kind is pending on a CPU."""

    name: str
    is_raised: bool = False

    @property
    def label(self) -> str:
        return self.name

    def waits(self) -> bool:
        return self.is_raised

    @operation(UPDATE)
    def raise_it(self) -> None:
        self.is_raised = True

    @operation(UPDATE, when=waits, idle=True)
    def enter(self) -> None:
        self.is_raised = False


@attrs.define(eq=False)
class Grace(Shared):
    """Grace periods, one after the other: each waits for the readers that are in a section when it begins."""

    readers: set[Flow] = attrs.field(factory=set)
    is_running: bool = False

    @property
    def label(self) -> str:
        return "grace"

    def is_idle(self) -> bool:
        return not self.is_running

    def has_no_readers(self) -> bool:
        return not self.readers

    @operation(UPDATE, when=is_idle, looks_at_contexts=True)
    def begin(self) -> None:
        self.is_running = True
        for flow in self.actor.world.flows:
            if flow.is_atomic:
                self.readers.add(flow)
                flow.blocks = self.reader_left

    @operation(UPDATE, when=has_no_readers)
    def end(self) -> None:
        self.is_running = False

    def reader_left(self, flow: Flow) -> None:
        flow.blocks = None
        self.readers.discard(flow)
        if not self.readers:
            self.reconsider()


@attrs.define(eq=False)
class Machine:
    """Memory, locks, interrupts and per-CPU data; `seen` are the values that each flow read, by its name."""

    world: World
    seen: dict[str, list[object]] = attrs.field(factory=dict)
    cpus: list[Cpu] = attrs.field(init=False)
    memory: list[Cell] = attrs.field(init=False)
    local: list[Cell] = attrs.field(init=False)
    locks: list[Lock] = attrs.field(init=False)
    hardirqs: list[Pending] = attrs.field(init=False)
    softirqs: list[Pending] = attrs.field(init=False)
    post_office: Actor = attrs.field(init=False)
    grace: Grace = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        world = self.world
        self.cpus = [Cpu.boot(world, number) for number in range(CPUS)]
        self.memory = [Cell(Actor(world, f"owner of x{i}"), f"x{i}") for i in range(2)]
        self.local = [Cell(cpu.actor, f"local {cpu.id}") for cpu in self.cpus]
        self.locks = [Lock(Actor(world, f"owner of {name}"), name) for name in ("lock", "spinlock")]
        self.hardirqs = [Pending(Actor(world, f"irqs {i}"), f"irq {i}") for i in range(CPUS)]
        self.softirqs = [Pending(Actor(world, f"softirqs {i}"), f"softirq {i}") for i in range(CPUS)]
        self.post_office = Actor(world, "post office")
        self.grace = Grace(Actor(world, "rcu"))

    def outcome(self) -> Outcome:
        """The outcome of the run."""
        return Outcome(
            seen=tuple((name, tuple(seen)) for name, seen in sorted(self.seen.items())),
            memory=tuple(cell.value for cell in (*self.memory, *self.local)),
            flaws=tuple(sorted(finding.kind for finding in self.world.findings.values())),
            flows_left=len(self.world.flows),
        )

    # -- flows --------------------------------------------------------------------------------------------------------

    def spawn(self, name: str, kind: Kind, cpu: Cpu | None, script: Script) -> Flow:
        """A flow that runs *script* once."""
        flow = Flow(self.world, name, kind, cpu)
        self.seen[name] = []
        self.world.spawn(flow, self.live(flow, script))
        return flow

    async def live(self, flow: Flow, script: Script) -> None:
        """The code of a flow: it accesses nothing before its first step."""
        await flow.begin()
        await self.do(flow, script)

    def add_handler(self, cpu: Cpu, kind: Kind, pending: Pending, script: Script) -> Flow:
        """The handler of one kind of interrupt, which runs *script* each time."""
        flow = Flow(self.world, f"{kind.value}/{cpu.id}", kind, cpu)
        self.seen[flow.name] = []

        async def serve() -> None:
            while True:
                await flow.ask(pending.enter)
                flow.begin_handler()
                await self.do(flow, script)
                flow.end_handler()

        self.world.spawn(flow, serve())
        return flow

    # -- actions ------------------------------------------------------------------------------------------------------

    async def do(self, flow: Flow, script: Script) -> None:
        """Do everything in *script*, in order."""
        for item in script:
            if isinstance(item, str):
                await self.act(flow, item)
            else:
                await self.inside(flow, *item)

    async def act(self, flow: Flow, action: str) -> None:
        """Do one action; an action that is forbidden here is replaced by a read."""
        seen, cell = self.seen[flow.name], self.memory[0]
        here = flow.cpu.id if flow.cpu else 0
        if action == "free-running" and flow.owns_cpu and flow.cpu is not None:
            self.touch(flow, is_update=True)
        elif action == "write":
            await flow.ask(cell.write, len(seen) + 10 * (1 + sorted(self.seen).index(flow.name)))
        elif action in ("peek", "poke") and flow.cpu is not None:
            await flow.this_cpu(self.local[here], PEEK if action == "peek" else POKE)
            self.touch(flow, is_update=action == "poke")
        elif action == "choose":
            seen.append(await flow.choose(2))
        elif action == "mail":
            self.post_office.post(Message.mail(self.memory[1].write, 1 + len(seen)))
        elif action == "migrate" and flow.cpu is not None and not flow.is_atomic:
            await flow.migrate(self.cpus[1 - here])
        elif action == "sleep" and not flow.is_atomic:
            await flow.sleep(1_000)
        elif action in ("hardirq", "softirq"):
            await flow.ask((self.hardirqs if action == "hardirq" else self.softirqs)[here].raise_it)
        elif action == "grace" and not flow.is_atomic:
            await flow.ask(self.grace.begin)
            await flow.ask(self.grace.end)
        else:
            seen.append(await flow.ask(self.memory[action == "read other"].read))

    def touch(self, flow: Flow, *, is_update: bool) -> None:
        """Access the data of this CPU as its owner."""
        assert flow.cpu is not None
        cell = self.local[flow.cpu.id]
        flow.use(cell)
        cell.value += is_update
        self.seen[flow.name].append(cell.value)

    async def inside(self, flow: Flow, section: str, script: Script) -> None:
        """Do *script* in a section; a lock that is held is not taken again."""
        if section == "RCU":
            with flow.rcu_read_section:
                await self.do(flow, script)
        elif section == "lock":
            await self.locked(flow, self.locks[0], script)
        elif flow.cpu is None:
            await self.do(flow, script)
        else:
            with flow.irq_section if section == "IRQs off" else flow.preempt_section:
                if section == "spinlock":
                    await self.locked(flow, self.locks[1], script)
                else:
                    await self.do(flow, script)

    async def locked(self, flow: Flow, lock: Lock, script: Script) -> None:
        """Do *script* under *lock*, unless the flow holds it already."""
        if lock.owner is flow:
            await self.do(flow, script)
            return
        await flow.ask(lock.lock, flow)
        await self.do(flow, script)
        await flow.ask(lock.unlock)


@attrs.frozen
class Plan:
    """The scripts of all flows, each with the CPU that the flow begins on; None is a kthread not bound to a CPU."""

    flows: tuple[tuple[int | None, Script], ...]
    softirq: Script = attrs.field(factory=lambda: ["poke", "write"])
    hardirq: Script = attrs.field(factory=lambda: ["poke"])

    def build(self, world: World) -> Machine:
        """Make the machine and its flows."""
        machine = Machine(world)
        for here, hardirq, softirq in zip(machine.cpus, machine.hardirqs, machine.softirqs, strict=True):
            here.hardirq = machine.add_handler(here, Kind.HARDIRQ, hardirq, self.hardirq)
            here.softirq = machine.add_handler(here, Kind.SOFTIRQ, softirq, self.softirq)
        for number, (where, script) in enumerate(self.flows):
            cpu = None if where is None else machine.cpus[where]
            machine.spawn(f"flow {number}", Kind.KTHREAD if cpu is None else Kind.TASK, cpu, script)
        return machine

    @property
    def has_grace_periods(self) -> bool:
        """Whether a flow waits for a grace period; the search then omits some orders that make no difference."""
        return "grace" in repr(self.flows)

    @classmethod
    def random(cls, seed: int) -> Plan:
        """Two or three flows with a few actions each."""
        draw = random.Random(seed)
        actions = draw.sample((*PLAIN, "grace", "read other"), 5)

        def script(length: int, depth: int) -> Script:
            items: Script = []
            for _ in range(length):
                if depth and draw.random() < 0.35:
                    items.append((draw.choice(SECTIONS), script(draw.randint(1, 2), depth - 1)))
                else:
                    items.append(draw.choice(actions))
            return items

        return cls(
            tuple((draw.choice((0, 0, 0, 1, None)), script(draw.randint(1, 2), 2)) for _ in range(draw.randint(2, 3)))
        )


def outcomes(plan: Plan, search: Dfs | Dpor, *, most: int) -> Iterator[tuple[str, Outcome]]:
    """The trace class and the outcome of each schedule of *search*, up to *most* schedules."""
    for _ in range(most):
        schedule: Any = search.next_schedule()
        if schedule is None:
            return
        machines: list[Machine] = []

        def program(world: World, machines: list[Machine] = machines) -> tuple[()]:
            machines.append(plan.build(world))
            return ()

        world, trace_class = run(program, schedule)
        search.learn(schedule, JobReport())
        if world.stopped != ASLEEP:
            yield trace_class, machines[0].outcome()
