"""Every outcome of a small program, by trying all orders of its steps on plain immutable state.

The enumerator uses no code of slabrace: no actors, no strategies, no dependence relation. It implements the rules of
the kernel (KERNEL.md 0.2, 2.1, 2.2):

- An access is a step, and so are entering and leaving a section. Between two sections a flow is in no section.
- On one CPU tasks and workers preempt each other between any two steps, unless the running one excludes this. A softirq
  comes between any two steps unless softirqs or interrupts are off. A hard interrupt comes unless interrupts are off,
  and can interrupt a softirq too. An interrupt runs to its end before the interrupted flow goes on.
- spin_lock() switches preemption off and then spins on its CPU. A flow that waits for a mutex, a completion or a grace
  period sleeps, and does not occupy the CPU.
- A grace period can end when every section that began before it has ended. Every handler and every part with
  preemption, softirqs or interrupts off is such a section too. A callback runs in the softirq of the CPU that called
  call_rcu(), after a grace period that began after the call, in the order of the calls. synchronize_rcu() is such a
  callback and a wait for it.
- `eager`: each callback has a grace period of its own, which begins with the call and may take any time; the number of
  callbacks in one softirq is not determined. `batched`: one grace period at a time; it begins at any time after a call
  and covers all callbacks that are queued at its beginning; a softirq runs all callbacks that are ready when it begins.
- The items of one CPU's pool are started in their order, and the next one only if no worker runs. PENDING is cleared
  when an item is started. A second worker does not start an item that is being executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from tests.litmus.compiled import BARRIER_MUTEX, SLEEPS, Compiler, Instruction, Place
from tests.litmus.language import Program
from tests.litmus.state import State, put

Outcome = tuple[int | None, ...]
"""The registers (None: never read), the cells, and each variable's parts by CPU."""

DEADLOCK: Outcome = ()
"""A flow waits for ever; deadlocks with different register contents count as one outcome."""

MOST_STATES = 200_000


class TooLargeError(Exception):
    """The program has more states than the limit."""


@attrs.define
class Reference:
    """The enumerator of one program, with one kind of grace periods."""

    program: Program
    is_eager: bool
    most_states: int = MOST_STATES
    states: int = 0
    compiled: Compiler = attrs.field(init=False)
    registers: int = attrs.field(init=False)
    cells: int = attrs.field(init=False)
    workers: int = attrs.field(init=False)
    first_hardirq: int = attrs.field(init=False)
    first_softirq: int = attrs.field(init=False)
    first_worker: int = attrs.field(init=False)
    mutexes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        program, cpus = self.program, self.program.cpus
        self.compiled = Compiler(program)
        self.registers = program.count("read", "percpu_read")
        self.cells = program.most("read", "write")
        self.workers = len(program.works)
        self.first_hardirq = len(program.flows)
        self.first_softirq = self.first_hardirq + cpus
        self.first_worker = self.first_softirq + cpus
        self.mutexes = program.most("spin", "spin_irqsave") + 1

    def initial(self) -> State:
        """The state before the first step."""
        program, cpus = self.program, self.program.cpus
        state = State()
        state.places = (
            *((code, 0) for code in self.compiled.tasks),
            *[None] * (2 * cpus + cpus * self.workers),
        )
        percpu = program.most("percpu_read", "percpu_write") * cpus
        state.memory = (*[None] * self.registers, *[0] * (self.cells + percpu))
        state.locks = (None,) * (self.mutexes + program.most("mutex"))
        state.done = state.pending = 0
        state.ipis = state.batches = state.unfinished = ((),) * cpus
        state.callbacks = ((),) * cpus if self.is_eager else (((), (), ()),) * cpus
        state.readers = None
        state.jobs = (None,) * (cpus * self.workers)
        state.pools = ((0, ()),) * cpus
        state.last_pool = (None,) * len(program.works)
        state.noted = ()
        return state

    def outcomes(self) -> set[Outcome]:
        """All outcomes of the program."""
        first = self.initial()
        seen, to_do, outcomes = {first.key()}, [first], set()
        while to_do:
            state = to_do.pop()
            is_last = True
            for after in self.steps(state):
                is_last = False
                key = after.key()
                if key not in seen:
                    seen.add(key)
                    to_do.append(after)
            if is_last:
                outcomes.add(self.outcome(state))
            if len(seen) > self.most_states:
                raise TooLargeError
        self.states = len(seen)
        return outcomes

    def outcome(self, state: State) -> Outcome:
        """The outcome of a state without successors."""
        is_stuck = any(
            place is not None and place[1] < len(self.compiled.codes[place[0]].instructions) for place in state.places
        )
        return DEADLOCK if is_stuck else state.memory

    # -- the flows that may step --------------------------------------------------------------------------------------

    def place(self, state: State, flow: int) -> Place | None:
        """The place of the flow; None if it is idle or has ended."""
        where = state.places[flow]
        return self.compiled.codes[where[0]].places[where[1]] if where is not None else None

    def steps(self, state: State) -> Iterator[State]:
        """All successors of a state."""
        for cpu in range(self.program.cpus):
            yield from self.steps_on(state, cpu)
        if not self.is_eager:
            if state.readers is None and any(waiting for waiting, _, _ in state.callbacks):
                yield self.start_grace_period(state)
            if state.readers is not None and not state.readers:
                yield self.end_grace_period(state)

    def steps_on(self, state: State, cpu: int) -> Iterator[State]:
        """The successors by a step on one CPU."""
        hardirq, softirq = self.first_hardirq + cpu, self.first_softirq + cpu
        if state.places[hardirq] is not None:
            yield from self.step(state, hardirq, cpu)
            return
        running = self.running(state, cpu)
        for flow in running:
            yield from self.step(state, flow, cpu)
        places = [self.place(state, flow) for flow in running]
        if state.ipis[cpu] and not any(place.keeps_irqs_off for place in places if place):
            yield self.interrupt(state, cpu)
        if state.places[softirq] is None and not any(place.keeps_softirqs_off for place in places if place):
            yield from self.begin_softirq(state, cpu)
        if self.may_take(state, cpu) and not any(self.keeps_off(state, flow) for flow in running):
            yield self.take_work(state, cpu)

    def keeps_off(self, state: State, flow: int) -> bool:
        """Whether the flow keeps all other tasks off its CPU."""
        place = self.place(state, flow)
        is_softirq = self.first_softirq <= flow < self.first_worker
        return place is not None and (is_softirq or place.keeps_tasks_off)

    def running(self, state: State, cpu: int) -> list[int]:
        """The flows that may step on a CPU without a hard interrupt: its softirq, else its holders, else all."""
        softirq = self.first_softirq + cpu
        if state.places[softirq] is not None:
            return [softirq]
        flows = []
        for flow in range(self.first_hardirq):
            place = self.place(state, flow)
            if place is not None and place.cpu == cpu:
                flows.append(flow)
        first = self.first_worker + cpu * self.workers
        flows += [flow for flow in range(first, first + self.workers) if state.places[flow] is not None]
        holders = [flow for flow in flows if self.keeps_off(state, flow)]
        return holders or flows

    def is_possible(self, state: State, flow: int, instruction: Instruction) -> bool:
        """Whether the instruction need not wait."""
        name, at, _ = instruction
        if name == "lock":
            return state.locks[at] is None
        if name == "mutex_lock":
            return state.locks[self.mutex(at)] is None
        if name in {"wait", "spin_wait"}:
            return state.done & at == at
        if name == "wait_flushed":
            upto = next(ticket for who, cpu, ticket in state.noted if who == flow and cpu == at)
            return all(ticket > upto for ticket in state.unfinished[at])
        return True

    def mutex(self, number: int) -> int:
        """The place of a mutex among the locks."""
        return self.mutexes - 1 if number == BARRIER_MUTEX else self.mutexes + number

    # -- the effect of a step -----------------------------------------------------------------------------------------

    def step(self, state: State, flow: int, cpu: int) -> Iterator[State]:
        """The successor by the next step of a flow, if the flow need not wait."""
        code, position = state.places[flow]  # type: ignore[misc]  # the flow has a position
        instructions = self.compiled.codes[code].instructions
        if position == len(instructions):
            return  # a task that has ended
        instruction = instructions[position]
        if not self.is_possible(state, flow, instruction):
            return
        after = state.copy()
        skipped = self.do(after, flow, cpu, instruction)
        self.go_on(after, flow, code, position + 1 + skipped)
        yield after

    def go_on(self, state: State, flow: int, code: int, position: int) -> None:
        """Move the flow to its next instruction, or to its end; outside a section it blocks no grace period."""
        where: tuple[int, int] | None = (code, position)
        if position == len(self.compiled.codes[code].instructions):
            where = None
            if self.first_softirq <= flow < self.first_worker:
                where = self.next_callback(state, flow - self.first_softirq)
            elif flow >= self.first_worker:
                where = self.next_job(state, flow)
        state.places = put(state.places, flow, where)
        if where is None or not self.compiled.codes[where[0]].places[where[1]].reads:
            self.left(state, flow)

    def left(self, state: State, flow: int) -> None:
        """Remove the flow from the readers of all grace periods."""
        if state.readers is not None and flow in state.readers:
            state.readers -= {flow}
        if self.is_eager and any(flow in readers for queue in state.callbacks for _, readers in queue):
            state.callbacks = tuple(
                tuple((code, readers - {flow}) for code, readers in queue) for queue in state.callbacks
            )

    def do(self, state: State, flow: int, cpu: int, instruction: Instruction) -> int:
        """Execute the instruction; return the number of following instructions to skip."""
        name, at, value = instruction
        if name == "read":
            state.memory = put(state.memory, value, state.memory[self.registers + at])
        elif name == "write":
            state.memory = put(state.memory, self.registers + at, value)
        elif name == "percpu_read":
            state.memory = put(state.memory, value, state.memory[self.percpu(at, cpu)])
        elif name == "percpu_write":
            state.memory = put(state.memory, self.percpu(at, cpu), value)
        elif name in {"lock", "unlock"}:
            state.locks = put(state.locks, at, flow if name == "lock" else None)
        elif name in {"mutex_lock", "mutex_unlock"}:
            state.locks = put(state.locks, self.mutex(at), flow if name == "mutex_lock" else None)
        elif name == "complete":
            state.done |= 1 << at
        elif name == "call_rcu":
            state.done &= ~value
            self.call_rcu(state, cpu, at)
        else:
            return self.do_more(state, flow, cpu, instruction)
        return 0

    def do_more(self, state: State, flow: int, cpu: int, instruction: Instruction) -> int:
        """Execute one of the rarer instructions."""
        name, at, value = instruction
        if name.startswith("send "):
            state.done &= ~value
            target = int(name[5:])
            state.ipis = put(state.ipis, target, (*state.ipis[target], at))
        elif name.startswith("entrain "):
            self.entrain(state, int(name[8:]), at, value)
        elif name == "note_queued":
            others = [note for note in state.noted if note[:2] != (flow, at)]
            state.noted = tuple(sorted([*others, (flow, at, state.pools[at][0])]))
        elif name == "wait_flushed":
            state.noted = tuple(note for note in state.noted if note[:2] != (flow, at))
        elif name == "set_pending":
            return self.set_pending(state, cpu, at)
        elif name == "insert_if_executing":
            pool = state.last_pool[at]
            assert pool is not None
            if any(job is not None and job[0] == at for job in self.jobs_of(state, pool)):
                self.insert(state, pool, at)
                return 1
        elif name == "insert":
            self.insert(state, cpu, at)
        return 0

    def percpu(self, variable: int, cpu: int) -> int:
        """The index of one CPU's part of a variable in memory."""
        return self.registers + self.cells + variable * self.program.cpus + cpu

    # -- interrupts ---------------------------------------------------------------------------------------------------

    def interrupt(self, state: State, cpu: int) -> State:
        """The successor in which the oldest IPI begins."""
        after = state.copy()
        first, *others = state.ipis[cpu]
        after.ipis = put(state.ipis, cpu, tuple(others))
        after.places = put(state.places, self.first_hardirq + cpu, (first, 0))
        return after

    def begin_softirq(self, state: State, cpu: int) -> Iterator[State]:
        """The successors in which the softirq begins, if callbacks are ready."""
        after = state.copy()
        if self.is_eager:
            queue = state.callbacks[cpu]
            if not queue or queue[0][1]:
                return
            after.callbacks = put(state.callbacks, cpu, queue[1:])
            batch: tuple[int, ...] = (queue[0][0],)
        else:
            waiting, waited, batch = state.callbacks[cpu]
            if not batch:
                return
            after.callbacks = put(state.callbacks, cpu, (waiting, waited, ()))
        after.batches = put(after.batches, cpu, batch[1:])
        after.places = put(state.places, self.first_softirq + cpu, (batch[0], 0))
        yield after

    def next_callback(self, state: State, cpu: int) -> tuple[int, int] | None:
        """The position of the softirq after a callback."""
        batch = state.batches[cpu]
        if not batch:
            return None
        state.batches = put(state.batches, cpu, batch[1:])
        return batch[0], 0

    # -- RCU ----------------------------------------------------------------------------------------------------------

    def read_now(self, state: State) -> frozenset[int]:
        """The flows that a grace period that begins now has to wait for."""
        found = set()
        for flow in range(len(state.places)):
            place = self.place(state, flow)
            if place is not None and place.reads:
                found.add(flow)
        return frozenset(found)

    def call_rcu(self, state: State, cpu: int, code: int) -> None:
        if self.is_eager:
            queue = (*state.callbacks[cpu], (code, self.read_now(state)))
        else:
            waiting, waited, ready = state.callbacks[cpu]
            queue = ((*waiting, code), waited, ready)
        state.callbacks = put(state.callbacks, cpu, queue)

    def entrain(self, state: State, cpu: int, code: int, done: int) -> None:
        """Put a marker behind all callbacks of a CPU, including the running ones; without callbacks do nothing."""
        queue = state.callbacks[cpu]
        is_calling = state.places[self.first_softirq + cpu] is not None
        if not (is_calling or (queue if self.is_eager else any(queue))):
            state.done |= done
            return
        state.done &= ~done
        if self.is_eager:
            queue = (*queue, (code, frozenset()))
        else:
            segment = next((number for number, part in enumerate(queue) if part), 2)
            queue = put(queue, segment, (*queue[segment], code))
        state.callbacks = put(state.callbacks, cpu, queue)

    def start_grace_period(self, state: State) -> State:
        after = state.copy()
        after.readers = self.read_now(state)
        after.callbacks = tuple(((), (*waited, *waiting), ready) for waiting, waited, ready in state.callbacks)
        return after

    def end_grace_period(self, state: State) -> State:
        after = state.copy()
        after.readers = None
        after.callbacks = tuple((waiting, (), (*ready, *waited)) for waiting, waited, ready in state.callbacks)
        return after

    # -- work items ---------------------------------------------------------------------------------------------------

    def jobs_of(self, state: State, cpu: int) -> tuple[Any, ...]:
        """The jobs of the workers of a pool."""
        return state.jobs[cpu * self.workers : (cpu + 1) * self.workers]

    def set_pending(self, state: State, cpu: int, work: int) -> int:
        """Set PENDING; return 2 (skip all) if it was set, 1 if no other pool can still execute the work, else 0."""
        if state.pending >> work & 1:
            return 2
        state.pending |= 1 << work
        return 0 if state.last_pool[work] not in {None, cpu} else 1

    def insert(self, state: State, cpu: int, work: int) -> None:
        tickets, queue = state.pools[cpu]
        state.pools = put(state.pools, cpu, (tickets + 1, (*queue, (work, tickets + 1))))
        state.unfinished = put(state.unfinished, cpu, (*state.unfinished[cpu], tickets + 1))

    def may_take(self, state: State, cpu: int) -> bool:
        """Whether the pool has an item and no running worker; a sleeping worker is not running."""
        if not state.pools[cpu][1]:
            return False
        first = self.first_worker + cpu * self.workers
        return all(
            state.places[flow] is None or self.sleeps(state, flow) for flow in range(first, first + self.workers)
        )

    def sleeps(self, state: State, flow: int) -> bool:
        code, position = state.places[flow]  # type: ignore[misc]  # the flow has a position
        instruction = self.compiled.codes[code].instructions[position]
        return instruction[0] in SLEEPS and not self.is_possible(state, flow, instruction)

    def take_work(self, state: State, cpu: int) -> State:
        """An idle worker starts the oldest item that no worker executes; the others wait for their workers."""
        after = state.copy()
        tickets, queue = state.pools[cpu]
        first = self.first_worker + cpu * self.workers
        while queue:
            (work, ticket), queue = queue[0], queue[1:]
            busy = [number for number, job in enumerate(self.jobs_of(after, cpu)) if job is not None and job[0] == work]
            if not busy:
                number = next(number for number, job in enumerate(self.jobs_of(after, cpu)) if job is None)
                self.begin_work(after, first + number, (work, ticket, ()))
                after.places = put(after.places, first + number, (self.compiled.works[work], 0))
                break
            index = cpu * self.workers + busy[0]
            _, own, scheduled = after.jobs[index]  # type: ignore[misc]  # the worker is busy
            after.jobs = put(after.jobs, index, (work, own, (*scheduled, (work, ticket))))
        after.pools = put(after.pools, cpu, (tickets, queue))
        return after

    def begin_work(self, state: State, flow: int, job: tuple[int, int, tuple[tuple[int, int], ...]]) -> None:
        index = flow - self.first_worker
        state.jobs = put(state.jobs, index, job)
        state.pending &= ~(1 << job[0])
        state.last_pool = put(state.last_pool, job[0], index // self.workers)

    def next_job(self, state: State, flow: int) -> tuple[int, int] | None:
        """Finish an item; continue with the items that had to wait for it."""
        index = flow - self.first_worker
        cpu = index // self.workers
        _, ticket, scheduled = state.jobs[index]  # type: ignore[misc]  # the worker executes an item
        state.unfinished = put(state.unfinished, cpu, tuple(t for t in state.unfinished[cpu] if t != ticket))
        if not scheduled:
            state.jobs = put(state.jobs, index, None)
            return None
        (work, ticket), *others = scheduled
        self.begin_work(state, flow, (work, ticket, tuple(others)))
        return self.compiled.works[work], 0


def reference(program: Program, rcu: str, *, most_states: int = MOST_STATES) -> set[Outcome]:
    """The outcomes of *program* with `eager` or `batched` grace periods."""
    return Reference(program, rcu == "eager", most_states).outcomes()
