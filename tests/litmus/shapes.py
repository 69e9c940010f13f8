"""The published RCU litmus shapes: cycles of up to three processes, each with its verdict.

Process i reads x[i] and writes x[i + 1]; the last process writes x[0]. The question is whether every read can see a 1.
The kind of a process is named by the operation between its two accesses:

    P   nothing            G   synchronize_rcu()        GG  two of them
    R   both are in one RCU read section                C   the write is done by a callback of call_rcu()

In the kernel's memory model the accesses of P and R are not ordered, so a published verdict covers both orders. Here
memory has one order, and the other order is a shape of its own: P~ and R~ write first. The published verdict is "Never"
if the verdict for each order is. The rule for RCU is "Never, if there are at least as many grace periods in the cycle
as read sections" (Alglave, Maranget, McKenney, Parri, Stern, "Frightening Small Children and Disconcerting Grown-ups",
ASPLOS 2018, and the litmus tests that McKenney has published; restated here, with nothing copied).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from tests.litmus.language import Body, Program, Statement, inside, read, sync, write
from tests.litmus.reference import Outcome

KINDS = ("P", "P~", "R", "R~", "G", "GG", "C")
GRACE_PERIODS = {"G": 1, "GG": 2, "C": 1}
MOST_GRACE_PERIODS = 3
"""A cycle with more grace periods tests nothing new, but has ten thousand schedules."""


def process(kind: str, own: int, other: int) -> list[Statement]:
    """The statements of a process of this kind that reads the cell *own* and writes the cell *other*."""
    accesses = [write(other), read(own)] if kind.endswith("~") else [read(own), write(other)]
    if kind.startswith("P"):
        return accesses
    if kind.startswith("R"):
        return [inside("rcu", *accesses)]
    if kind == "C":
        return [accesses[0], inside("call_rcu", accesses[1])]
    return [accesses[0], *[sync()] * len(kind), accesses[1]]


@attrs.frozen
class Shape:
    """A program, the outcome in question (the first registers), and whether it is possible."""

    name: str
    program: Program
    asked: tuple[int, ...]
    can_be: bool

    def has(self, outcomes: set[Outcome]) -> bool:
        """Whether the outcome in question is among *outcomes*."""
        return any(outcome[: len(self.asked)] == self.asked for outcome in outcomes)


def cycle(kinds: tuple[str, ...]) -> Shape:
    """The cycle of these processes, each on a CPU of its own."""
    count = len(kinds)
    flows = [(number, process(kind, number, (number + 1) % count)) for number, kind in enumerate(kinds)]
    return Shape("+".join(kinds), Program.of(*flows), (1,) * count, can_be(kinds))


def can_be(kinds: tuple[str, ...]) -> bool:
    """The published rule, for one order of the accesses of each process."""
    if "P~" in kinds:
        return True  # no rule orders the read after the write
    sections = kinds.count("R~")
    return sections > grace_periods(kinds)


def grace_periods(kinds: tuple[str, ...]) -> int:
    """The number of grace periods in the cycle."""
    return sum(GRACE_PERIODS.get(kind, 0) for kind in kinds)


def cycles() -> Iterator[Shape]:
    """Every cycle of two or three processes, without its rotations."""
    for count in (2, 3):
        for kinds in itertools.product(KINDS, repeat=count):
            is_first = kinds == min(kinds[number:] + kinds[:number] for number in range(count))
            if is_first and grace_periods(kinds) <= MOST_GRACE_PERIODS:
                yield cycle(kinds)


def guarantees() -> Iterator[Shape]:
    """The guarantee of RCU: a reader that has seen the old value never sees a write after the grace period."""
    after: dict[str, Body] = {"sync": (sync(), write(1)), "call": (inside("call_rcu", write(1)),)}
    for name, end in after.items():
        updater = [write(0), *end]
        for reads, asked in (((read(0), read(1)), (0, 1)), ((read(1), read(0)), (1, 0))):
            for section in ("rcu", "preempt", "bh", "irq"):
                order = "old, then freed" if asked == (0, 1) else "new, then old"
                program = Program.of((0, [inside(section, *reads)]), (1, updater))
                yield Shape(f"{order}: {section} against {name}", program, asked, can_be=False)
        yield Shape(
            f"no section against {name}", Program.of((0, [read(0), read(1)]), (1, updater)), (0, 1), can_be=True
        )
        two = [inside("rcu", read(0)), inside("rcu", read(1))]
        yield Shape(f"two sections against {name}", Program.of((0, two), (1, updater)), (0, 1), can_be=True)


def shapes() -> list[Shape]:
    """All shapes."""
    return [*cycles(), *guarantees()]
