"""Small programs as plain data: a few flows with accesses to shared cells, sections, and calls of handlers.

A program has a few tasks, each with its CPU, and the bodies of work items. A body is a sequence of statements. Every
read has a register of its own. The final contents of the registers and the memory are the program's outcome.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

SECTIONS = ("rcu", "preempt", "bh", "irq")
"""The sections: an RCU read section; preemption, softirqs or interrupts off."""

Body = tuple["Statement", ...]


@attrs.frozen
class Statement:
    """One operation of a flow.

    `at` is the number of its object: a cell, a per-CPU variable, a lock, a CPU or a work item. `value` is the written
    value, or the register of a read. `body` is the code in the section, under the lock, or of the handler or callback.

        read, write          a shared cell           percpu_read, percpu_write   this CPU's part of a variable
        rcu, preempt, bh, irq     a section          spin, spin_irqsave, mutex   a section under a lock
        synchronize_rcu, call_rcu, rcu_barrier       ipi, ipi_wait               a handler on another CPU
        queue, flush         system_wq               migrate                     continue on another CPU
    """

    op: str
    at: int = 0
    value: int = 0
    body: Body = ()


@attrs.frozen
class Program:
    """`flows` are the tasks, each with the CPU that it begins on; `works` the functions of the work items."""

    flows: tuple[tuple[int, Body], ...]
    works: tuple[Body, ...] = ()
    cpus: int = 2

    @classmethod
    def of(cls, *flows: tuple[int, list[Statement]], works: list[list[Statement]] | None = None) -> Program:
        """The program of these tasks, with as many CPUs as they name; its registers are numbered."""
        named = [cpu for cpu, _ in flows]
        for _, body in flows:
            named += [inner.at for inner in walk(tuple(body)) if inner.op in {"ipi", "ipi_wait", "migrate"}]
        return cls(tuple((cpu, tuple(body)) for cpu, body in flows), tuple(map(tuple, works or ())), max(named) + 1)

    def __attrs_post_init__(self) -> None:
        """Number the registers in the order of the text."""
        numbers = iter(range(1 << 30))
        object.__setattr__(self, "flows", tuple((cpu, _numbered(body, numbers)) for cpu, body in self.flows))
        object.__setattr__(self, "works", tuple(_numbered(body, numbers) for body in self.works))

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The bodies of all tasks and work items."""
        return (*(body for _, body in self.flows), *self.works)

    def statements(self) -> Iterator[Statement]:
        """Every statement, in the order of the text."""
        for body in self.bodies:
            yield from walk(body)

    def count(self, *ops: str) -> int:
        """The number of statements with one of these names (`Statement.op`)."""
        return sum(statement.op in ops for statement in self.statements())

    def most(self, *ops: str) -> int:
        """The number of cells, locks, ... that these statements need: one more than their highest `at`."""
        return max((statement.at for statement in self.statements() if statement.op in ops), default=-1) + 1

    def __str__(self) -> str:
        lines = [f"{self.cpus} CPUs"]
        for number, (cpu, body) in enumerate(self.flows):
            lines += [f"P{number} on CPU {cpu}:", *_lines(body, 1)]
        for number, body in enumerate(self.works):
            lines += [f"work {number}:", *_lines(body, 1)]
        return "\n".join(lines)


def walk(body: Body) -> Iterator[Statement]:
    """Every statement of *body*; an inner one comes after the one that contains it."""
    for statement in body:
        yield statement
        yield from walk(statement.body)


def _numbered(body: Body, numbers: Iterator[int]) -> Body:
    result = []
    for statement in body:
        if statement.op in {"read", "percpu_read"}:
            result.append(attrs.evolve(statement, value=next(numbers)))
        else:
            result.append(attrs.evolve(statement, body=_numbered(statement.body, numbers)))
    return tuple(result)


def _lines(body: Body, depth: int) -> Iterator[str]:
    """The text of *body*."""
    indent = "    " * depth
    for statement in body:
        yield indent + _text(statement) + (" {" if statement.body else "")
        if statement.body:
            yield from _lines(statement.body, depth + 1)
            yield indent + "}"


def _text(statement: Statement) -> str:
    op, at, value = statement.op, statement.at, statement.value
    texts = {
        "read": f"r{value} = x{at}",
        "write": f"x{at} = {value}",
        "percpu_read": f"r{value} = this_cpu(v{at})",
        "percpu_write": f"this_cpu(v{at}) = {value}",
        "spin": f"spin_lock(l{at})",
        "spin_irqsave": f"spin_lock_irqsave(l{at})",
        "mutex": f"mutex_lock(m{at})",
        "ipi": f"IPI to CPU {at}",
        "ipi_wait": f"IPI to CPU {at}, and wait",
        "queue": f"queue_work(work {at})",
        "migrate": f"migrate to CPU {at}",
        **{name: f"{name}()" for name in ("call_rcu", "synchronize_rcu", "rcu_barrier")},
        "flush": "flush_workqueue()",
    }
    return texts.get(op, f"{op} section")


# -- short constructors -----------------------------------------------------------------------------------------------


def read(cell: int) -> Statement:
    return Statement("read", cell)


def write(cell: int, value: int = 1) -> Statement:
    return Statement("write", cell, value)


def inside(section: str, *body: Statement, at: int = 0) -> Statement:
    """*body* in a section, under a lock, or in a handler or callback: `inside("rcu", read(0))`."""
    return Statement(section, at, 0, body)


def sync() -> Statement:
    return Statement("synchronize_rcu")
