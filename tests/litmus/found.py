"""Minimal programs on which an earlier search was wrong; each shows a kind of order that is easily missed."""

from __future__ import annotations

from tests.litmus.language import Program, Statement, inside, read, write

QUEUE, FLUSH, BARRIER = Statement("queue"), Statement("flush"), Statement("rcu_barrier")

FOUND: dict[str, Program] = {
    "a grace period in the moment before a section": Program.of(
        (0, [write(0), inside("rcu", read(1))]), (1, [read(0), Statement("synchronize_rcu"), write(1)])
    ),
    "an interrupt between a step and a section without": Program.of(
        (0, [write(0), write(2), inside("irq", read(1))]), (1, [inside("ipi", read(0), write(1))])
    ),
    "a task between a step and a section without softirqs": Program.of(
        (0, [Statement("percpu_read"), inside("bh", Statement("percpu_write", 0, 1))]),
        (0, [Statement("percpu_write", 0, 2)]),
    ),
    "a task before the part of an IPI's sender that keeps it off": Program.of(
        (1, [write(0, 2)]), (1, [inside("ipi_wait", write(0))])
    ),
    "a work before a section that keeps it off": Program.of(
        (0, [inside("irq", read(0), Statement("percpu_read"))]),
        (1, []),
        (0, [QUEUE]),
        works=[[Statement("percpu_write", 0, 2)]],
    ),
    "a work that is queued where an interrupt comes in": Program.of(
        (1, [inside("ipi_wait", read(1))]), (1, []), (0, [QUEUE]), works=[[write(1, 2)]]
    ),
    "a work from elsewhere into a section": Program.of(
        (0, [inside("irq", write(1), read(1))]), (1, [inside("ipi_wait", read(0)), QUEUE]), works=[[write(1, 2)]]
    ),
    "a spinner and a task of its CPU": Program.of(
        (0, [inside("spin", write(0, 2))]), (1, [inside("spin", read(0))]), (1, [read(0)])
    ),
    "two calls of call_rcu, one from an interrupt": Program.of(
        (1, [inside("spin_irqsave", inside("call_rcu", write(1, 2)))]),
        (0, [inside("ipi", inside("call_rcu", read(1)), at=1)]),
    ),
    "callbacks of one CPU with a step between them": Program.of(
        (0, [inside("call_rcu", read(0)), inside("call_rcu", write(1)), write(0), read(1)])
    ),
    "a holder that waits for a spinner with interrupts off": Program.of(
        (0, [inside("spin", inside("ipi_wait", write(0), at=1))]), (1, [inside("spin_irqsave", write(0, 2))])
    ),
    "a callback that takes a lock and may interrupt who holds it": Program.of(
        (
            0,
            [
                inside("call_rcu", inside("spin", write(0, 2))),
                inside("spin", inside("ipi_wait", inside("call_rcu", inside("call_rcu", write(0))), at=1)),
            ],
        ),
        (1, []),
    ),
    "a work that a spinner keeps off, and who holds the lock": Program.of(
        (0, [inside("spin", write(1, 2))]), (1, [QUEUE, inside("spin", write(1, 1))]), works=[[read(1)]]
    ),
    "a task before a sender that keeps it off, and the handler before a lock": Program.of(
        (0, [inside("ipi_wait", inside("spin", write(1)), at=1)]), (1, [inside("spin", read(1))]), (0, [read(1)])
    ),
    "a writer that a handler keeps off, which waits for who reads": Program.of(
        (0, [inside("spin_irqsave", read(0), read(0))]),
        (1, [inside("ipi_wait", inside("spin_irqsave", read(0)), at=2)]),
        (2, [write(0, 2)]),
    ),
    "a worker that is not needed any more once another goes on": Program.of(
        (0, [inside("mutex", Statement("queue", 0), Statement("queue", 1))]),
        works=[[inside("mutex", write(1, 2))], [read(1)]],
    ),
    "a softirq among three tasks": Program.of(
        (1, [read(1)]), (1, [inside("call_rcu", read(1))]), (0, [write(1, 2)]), (1, [read(1)])
    ),
    "a spinner with interrupts off and a writer on its CPU": Program.of(
        (0, [inside("spin_irqsave", read(0), read(0))]), (1, [inside("spin_irqsave", write(0, 2))]), (1, [write(0, 2)])
    ),
    "a sender that waits between two writers of its CPU": Program.of(
        (0, [write(1, 2)]), (0, [inside("ipi_wait", read(1), at=1)]), (0, [write(1, 1)])
    ),
    "two senders that wait, each for the other's writer": Program.of(
        (1, [inside("ipi_wait", write(0, 2)), read(0)]), (1, [read(0), inside("ipi_wait", write(0, 1))])
    ),
    "a task between two callbacks of its CPU": Program.of(
        (0, [inside("call_rcu", write(1, 1)), inside("call_rcu", read(1)), read(1)]), (0, [write(1, 2)])
    ),
    "a task before a block that reads later what it read": Program.of(
        (0, [inside("irq", write(1, 2), read(0))]), (1, [read(1)]), (0, [read(0)]), (1, [write(0, 1)])
    ),
    "two mutexes in two orders": Program.of(
        (0, [inside("mutex", inside("mutex", write(0), at=1))]), (0, [inside("mutex", inside("mutex", read(0)), at=1)])
    ),
    "a barrier while a callback runs": Program.of(
        (0, [inside("call_rcu", read(0), write(0))]), (1, [BARRIER, read(0)])
    ),
    "a flush while a work that is pending is not in its queue yet": Program.of(
        (0, [QUEUE, FLUSH, read(0)]), (1, [QUEUE, FLUSH, read(0)]), works=[[write(0)]]
    ),
}
"""Minimal programs on which some search was wrong, and some on which a search could have been wrong."""
