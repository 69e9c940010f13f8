"""The comparison of many programs in chunks, one process for each, and the smallest program with a difference."""

from __future__ import annotations

import attrs

from tests.litmus.language import Program
from tests.litmus.programs import Comparison, Difference, compare, random_program
from tests.litmus.shrink import shrink


@attrs.frozen
class Chunk:
    """The seeds of the programs that one process compares."""

    first: int
    count: int
    samples: int
    budget: int


@attrs.define
class Tally:
    """The totals of some comparisons; `wrong` are the programs that differ: size, seed, differences."""

    programs: int = 0
    too_large: int = 0
    outcomes: int = 0
    schedules: int = 0
    cut_off: int = 0
    samples: int = 0
    wrong: list[tuple[int, int, list[Difference]]] = attrs.field(factory=list)

    def add(self, seed: int, program: Program, comparison: Comparison) -> None:
        """Add one program's comparison."""
        self.programs += 1
        self.too_large += comparison.is_too_large
        self.outcomes += comparison.outcomes
        self.schedules += comparison.schedules
        self.cut_off += comparison.cut_off
        self.samples += comparison.samples
        if comparison.differences:
            self.wrong.append((sum(1 for _ in program.statements()), seed, comparison.differences))

    def merge(self, other: Tally) -> None:
        """Add the totals of another process."""
        for name in ("programs", "too_large", "outcomes", "schedules", "cut_off", "samples"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.wrong += other.wrong


def run_chunk(chunk: Chunk) -> Tally:
    """Compare the programs of a chunk."""
    tally = Tally()
    for seed in range(chunk.first, chunk.first + chunk.count):
        program = random_program(seed)
        tally.add(seed, program, compare(program, budget=chunk.budget, samples=chunk.samples, seed=seed))
    return tally


def smallest(program: Program, difference: Difference, budget: int) -> tuple[Program, Difference]:
    """Shrink *program* while it shows such a difference."""

    def such(program: Program) -> Difference | None:
        samples = 0 if difference.strategy == "dpor" else 200
        found = compare(program, budget=budget, samples=samples, modes=(difference.rcu,)).differences
        same = (d for d in found if bool(d.missing) == bool(difference.missing) and d.strategy == difference.strategy)
        return next(same, None)

    program = shrink(program, lambda smaller: such(smaller) is not None)
    return program, such(program) or difference
