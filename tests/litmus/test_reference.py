"""The enumerator, on programs with countable outcomes, and on known facts about RCU."""

from __future__ import annotations

import itertools
import math

import pytest

from tests.litmus.language import Program, Statement, inside, read, sync, write
from tests.litmus.programs import RCU_MODES, random_program
from tests.litmus.reference import DEADLOCK, TooLargeError, reference


@pytest.mark.parametrize("rcu", RCU_MODES)
@pytest.mark.parametrize("count", range(1, 6))
def test_each_writer_may_be_the_last(count: int, rcu: str) -> None:
    program = Program.of(*[(number % 2, [write(0, number + 1)]) for number in range(count)])

    assert reference(program, rcu) == {(value,) for value in range(1, count + 1)}


@pytest.mark.parametrize("count", range(1, 5))
def test_each_reader_sees_the_write_or_does_not(count: int) -> None:
    program = Program.of((0, [write(0)]), *[(1, [read(0)]) for _ in range(count)])

    assert len(reference(program, "eager")) == 2**count


@pytest.mark.parametrize(("reads", "writes"), [(1, 1), (2, 2), (3, 2), (2, 3), (4, 4)])
def test_a_reader_of_a_counter_sees_it_grow(reads: int, writes: int) -> None:
    """The outcomes are the non-decreasing sequences of *reads* numbers from 0 to *writes*."""
    program = Program.of((0, [write(0, number + 1) for number in range(writes)]), (1, [read(0)] * reads))
    grow = itertools.combinations_with_replacement(range(writes + 1), reads)

    assert reference(program, "eager") == {(*seen, writes) for seen in grow}
    assert len(reference(program, "eager")) == math.comb(reads + writes, reads)


def test_store_buffering_is_forbidden_where_memory_has_one_order() -> None:
    program = Program.of((0, [write(0), read(1)]), (1, [write(1), read(0)]))

    assert reference(program, "eager") == {(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 1, 1)}


def test_steps_under_a_lock_are_atomic() -> None:
    def body(value: int) -> list[Statement]:
        return [inside("spin", write(0, value), read(0))]

    assert reference(Program.of((0, body(1)), (1, body(2))), "eager") == {(1, 2, 2), (1, 2, 1)}


@pytest.mark.parametrize("lock", ["spin", "mutex"])
@pytest.mark.parametrize("other_cpu", [0, 1])
def test_two_locks_in_two_orders_can_wait_for_each_other(lock: str, other_cpu: int) -> None:
    first = inside(lock, inside(lock, write(0), at=1))
    second = inside(lock, inside(lock, write(0, 2)), at=1)
    outcomes = reference(Program.of((0, [first]), (other_cpu, [second])), "eager")

    # On one CPU the first spinner is never preempted while it holds one of the two locks.
    assert outcomes == {(1,), (2,)} | (set() if lock == "spin" and other_cpu == 0 else {DEADLOCK})


INTERRUPT = {(1, 0), (1, 1), (0, 1)}


@pytest.mark.parametrize("rcu", RCU_MODES)
@pytest.mark.parametrize("section", ["rcu", "preempt", "bh", "irq"])
@pytest.mark.parametrize(
    ("who", "seen"),
    [("ipi", INTERRUPT), ("ipi_wait", INTERRUPT), ("call_rcu", INTERRUPT), ("task", {*INTERRUPT, (0, 0)})],
)
def test_an_interrupt_comes_before_or_after_a_whole_section(
    who: str, seen: set[tuple[int, int]], section: str, rcu: str
) -> None:
    comes_in = [read(0), write(1)]
    other = {"task": (0, comes_in), "call_rcu": (0, [inside("call_rcu", *comes_in)])}.get(
        who, (1, [inside(who, *comes_in)])
    )
    outcomes = reference(Program.of((0, [write(0), inside(section, read(1))]), other), rcu)

    assert {(r0, r1) for r0, r1, *_ in outcomes} == seen


@pytest.mark.parametrize("rcu", RCU_MODES)
@pytest.mark.parametrize("section", ["rcu", "preempt", "spin"])
def test_between_a_step_and_a_section_a_flow_is_in_no_section(section: str, rcu: str) -> None:
    """A grace period can begin and end there, and another task can run on the CPU."""
    other = (1, [read(0), sync(), write(1)]) if section == "rcu" else (0, [read(0), write(1)])
    outcomes = reference(Program.of((0, [write(0), inside(section, read(1))]), other), rcu)

    assert {(r0, r1) for r0, r1, *_ in outcomes} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_spinner_keeps_its_cpu() -> None:
    """The holder of the lock waits for an interrupt that the spinner has disabled."""
    program = Program.of(
        (0, [inside("spin", inside("ipi_wait", write(0), at=1))]), (1, [inside("spin_irqsave", write(0, 2))])
    )

    assert DEADLOCK in reference(program, "eager")
    assert DEADLOCK not in reference(attrs_with(program, "spin_irqsave", "spin"), "eager")


def attrs_with(program: Program, old: str, new: str) -> Program:
    """The program with *old* replaced by *new*, as the section of its second task."""
    (first, (cpu, (statement,))) = program.flows
    assert statement.op == old
    return Program((first, (cpu, (inside(new, *statement.body),))), program.works, program.cpus)


@pytest.mark.parametrize("rcu", RCU_MODES)
def test_callbacks_of_a_cpu_come_in_order_and_a_barrier_waits_for_them(rcu: str) -> None:
    calls = [inside("call_rcu", write(0, 1)), inside("call_rcu", write(0, 2))]
    with_barrier = Program.of((0, [*calls, Statement("rcu_barrier"), read(0)]))
    without = Program.of((0, [*calls, read(0)]))

    assert reference(with_barrier, rcu) == {(2, 2)}
    assert reference(without, rcu) == {(0, 2), (1, 2), (2, 2)}


def test_a_flush_waits_for_works_queued_before() -> None:
    queue, flush = Statement("queue"), Statement("flush")

    assert reference(Program.of((0, [queue, flush, read(0)]), works=[[write(0)]]), "eager") == {(1, 1)}
    assert reference(Program.of((0, [flush, queue, read(0)]), works=[[write(0)]]), "eager") == {(0, 1), (1, 1)}


def test_a_work_that_is_pending_is_queued_once() -> None:
    program = Program.of((0, [write(0), Statement("queue"), Statement("queue")]), works=[[read(0), write(0, 2)]])

    assert reference(program, "eager") == {(1, 2), (2, 2)}


@pytest.mark.parametrize("first", range(0, 100, 50))
def test_sharing_grace_periods_adds_no_outcome(first: int) -> None:
    compared = 0
    for seed in range(first, first + 50):
        program = random_program(seed)
        try:
            batched, eager = (reference(program, rcu, most_states=5_000) for rcu in ("batched", "eager"))
        except TooLargeError:
            continue
        compared += 1

        assert batched <= eager, program

    assert compared > 40


@pytest.mark.parametrize("rcu", RCU_MODES)
@pytest.mark.parametrize("first", range(0, 20, 10))
def test_a_read_of_a_private_cell_changes_no_outcome(first: int, rcu: str) -> None:
    for seed in range(first, first + 10):
        program = random_program(seed)
        dummy = read(7)
        more = Program(tuple((cpu, (dummy, *body, dummy)) for cpu, body in program.flows), program.works, program.cpus)
        try:
            plain, padded = (reference(each, rcu, most_states=10_000) for each in (program, more))
        except TooLargeError:
            continue

        assert len(plain) == len(padded), program
