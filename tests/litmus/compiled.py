"""Programs as atomic instructions, which the reference executes.

Bodies have no branches, so a flow's position determines its sections, and the CPU of a task.
"""

from __future__ import annotations

import attrs

from tests.litmus.language import Body, Program, Statement

Instruction = tuple[str, int, int]
"""The name of an instruction, the number of its object, and its value."""

WAITS = frozenset({"lock", "mutex_lock", "wait", "spin_wait", "wait_flushed"})
SLEEPS = frozenset({"mutex_lock", "wait", "wait_flushed"})

BARRIER_MUTEX = -1
"""The number of rcu_state.barrier_mutex among the mutexes."""


@attrs.frozen
class Place:
    """The CPU and the sections before one instruction of a body."""

    cpu: int
    reads: bool
    keeps_tasks_off: bool
    keeps_softirqs_off: bool
    keeps_irqs_off: bool


@attrs.define
class Code:
    """One body: its instructions, and the place before each of them and at the end."""

    instructions: list[Instruction] = attrs.field(factory=list)
    places: list[Place] = attrs.field(factory=list)


@attrs.define
class Compiler:
    """Makes the code of a program. `codes` are all bodies; `tasks` and `works` are indices into them."""

    program: Program
    codes: list[Code] = attrs.field(factory=list)
    completions: int = 0
    tasks: list[int] = attrs.field(factory=list)
    works: list[int] = attrs.field(factory=list)
    _cpu: int = 0
    _depth: dict[str, int] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.tasks = [self.body(body, cpu) for cpu, body in self.program.flows]
        self.works = [self.body(body, 0, ends_with="finish") for body in self.program.works]

    def body(self, body: Body, cpu: int, *, handler: bool = False, ends_with: str = "", at: int = 0) -> int:
        """Compile a body of its own; return the number of its code."""
        outer = self._cpu, self._depth
        self._cpu, self._depth = cpu, {"handler": int(handler)}
        code = Code()
        number = len(self.codes)
        self.codes.append(code)
        self._add(code, body)
        if ends_with or not body:
            self._emit(code, ends_with or "nothing", at)
        code.places.append(self._place())
        self._cpu, self._depth = outer
        return number

    def _emit(self, code: Code, name: str, at: int = 0, value: int = 0) -> None:
        code.places.append(self._place())
        code.instructions.append((name, at, value))

    def _place(self) -> Place:
        on = {name for name, depth in self._depth.items() if depth}
        return Place(
            self._cpu,
            reads=bool(on),
            keeps_tasks_off=bool(on & {"preempt", "bh", "irq"}),
            keeps_softirqs_off=bool(on & {"bh", "irq"}),
            keeps_irqs_off="irq" in on,
        )

    def _enter(self, code: Code, section: str) -> None:
        self._emit(code, "enter")
        self._depth[section] = self._depth.get(section, 0) + 1

    def _leave(self, code: Code, section: str) -> None:
        self._emit(code, "leave")
        self._depth[section] -= 1

    def _add(self, code: Code, body: Body) -> None:
        for statement in body:
            getattr(self, f"_{statement.op}", self._access)(code, statement)

    def _access(self, code: Code, statement: Statement) -> None:
        self._emit(code, statement.op, statement.at, statement.value)

    # -- sections -----------------------------------------------------------------------------------------------------

    def _section(self, code: Code, statement: Statement) -> None:
        self._enter(code, statement.op)
        self._add(code, statement.body)
        self._leave(code, statement.op)

    _rcu = _preempt = _bh = _irq = _section

    def _spin(self, code: Code, statement: Statement, section: str = "preempt") -> None:
        self._enter(code, section)
        self._emit(code, "lock", statement.at)
        self._add(code, statement.body)
        self._emit(code, "unlock", statement.at)
        self._leave(code, section)

    def _spin_irqsave(self, code: Code, statement: Statement) -> None:
        self._spin(code, statement, "irq")

    def _mutex(self, code: Code, statement: Statement) -> None:
        self._emit(code, "mutex_lock", statement.at)
        self._add(code, statement.body)
        self._emit(code, "mutex_unlock", statement.at)

    # -- handlers, callbacks and waits --------------------------------------------------------------------------------

    def _completion(self) -> int:
        self.completions += 1
        return self.completions - 1

    def _call_rcu(self, code: Code, statement: Statement) -> None:
        self._emit(code, "call_rcu", self.body(statement.body, self._cpu, handler=True))

    def _synchronize_rcu(self, code: Code, _statement: Statement) -> None:
        """wait_rcu_gp(): a callback of its own, and a wait for this callback."""
        done = self._completion()
        self._emit(code, "call_rcu", self.body((), self._cpu, handler=True, ends_with="complete", at=done), 1 << done)
        self._emit(code, "wait", 1 << done)

    def _rcu_barrier(self, code: Code, _statement: Statement) -> None:
        """A marker behind the queued callbacks of each CPU, one CPU after the other, and a wait for all markers."""
        self._emit(code, "mutex_lock", BARRIER_MUTEX)
        waits = 0
        for cpu in range(self.program.cpus):
            done = self._completion()
            waits |= 1 << done
            self._emit(
                code, f"entrain {cpu}", self.body((), cpu, handler=True, ends_with="complete", at=done), 1 << done
            )
        self._emit(code, "wait", waits)
        self._emit(code, "mutex_unlock", BARRIER_MUTEX)

    def _ipi(self, code: Code, statement: Statement) -> None:
        self._enter(code, "preempt")
        done = self._completion()
        handler = self.body(statement.body, statement.at, handler=True, ends_with="complete", at=done)
        self._emit(code, f"send {statement.at}", handler, 1 << done)
        if statement.op == "ipi_wait":
            self._emit(code, "spin_wait", 1 << done)
        self._leave(code, "preempt")

    _ipi_wait = _ipi

    def _queue(self, code: Code, statement: Statement) -> None:
        """queue_work(): with interrupts off; first PENDING, then the pool."""
        self._enter(code, "irq")
        self._emit(code, "set_pending", statement.at)
        self._emit(code, "insert_if_executing", statement.at)
        self._emit(code, "insert", statement.at)
        self._leave(code, "irq")

    def _flush(self, code: Code, _statement: Statement) -> None:
        for cpu in range(self.program.cpus):
            self._emit(code, "note_queued", cpu)
        for cpu in range(self.program.cpus):
            self._emit(code, "wait_flushed", cpu)

    def _migrate(self, code: Code, statement: Statement) -> None:
        """The preempted task is moved to another CPU; the step itself is executed there."""
        self._cpu = statement.at
        self._emit(code, "migrate")
