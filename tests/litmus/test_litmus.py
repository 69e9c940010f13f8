"""The exhaustive search has exactly the outcomes of the reference, and samplers have no others, on small programs.

`python -m tests.litmus` does the same comparison for any number of programs.
"""

from __future__ import annotations

import pytest

from tests.litmus.build import run_exactly
from tests.litmus.found import FOUND
from tests.litmus.language import Program, read
from tests.litmus.programs import RCU_MODES, compare, differences, random_program
from tests.litmus.reference import DEADLOCK, reference
from tests.litmus.shapes import Shape, shapes

HUNDRED = range(100)
MANY = range(100, 1_100)

SHAPES = shapes()
SMALL_SHAPES = [shape for shape in SHAPES if shape.program.count("synchronize_rcu", "call_rcu") < 2]


def assert_right(program: Program, *, samples: int, budget: int) -> bool:
    """Every exhausted search has all outcomes, and no search has others. Return whether all searches were exhausted."""
    comparison = compare(program, samples=samples, budget=budget)

    assert not comparison.differences, "\n".join([str(program), *map(str, comparison.differences)])
    return not comparison.is_too_large


@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND)
def test_the_searches_are_right_on_programs_with_a_former_error(program: Program) -> None:
    assert assert_right(program, samples=50, budget=1_000)


@pytest.mark.parametrize(
    "first", [*HUNDRED[:50:10], *(pytest.param(first, marks=pytest.mark.slow) for first in HUNDRED[50::10])]
)
def test_on_a_hundred_programs_the_searches_are_right(first: int) -> None:
    ended = sum(assert_right(random_program(seed), samples=1, budget=400) for seed in range(first, first + 10))

    assert ended >= 8


@pytest.mark.slow
@pytest.mark.parametrize("first", MANY[:500:100])
def test_on_thousands_of_programs_the_searches_are_right(first: int) -> None:
    ended = sum(assert_right(random_program(seed), samples=1, budget=1_000) for seed in range(first, first + 100))

    assert ended >= 95


def test_the_hundred_programs_cover_all_statements() -> None:
    """They have every kind of statement, two to four tasks, one to three CPUs, and deadlocks."""
    programs = [random_program(seed) for seed in HUNDRED]
    ops = {statement.op for program in programs for statement in program.statements()}

    assert len(ops) == 19
    assert {len(program.flows) for program in programs} == {2, 3, 4}
    assert {program.cpus for program in programs} == {1, 2, 3}
    assert any(DEADLOCK in reference(program, "eager") for program in programs)


@pytest.mark.parametrize("rcu", RCU_MODES)
@pytest.mark.parametrize("seed", range(0, 20, 2))
def test_independent_steps_change_no_outcome(seed: int, rcu: str) -> None:
    program = random_program(seed)
    dummy = read(7)
    padded = Program(
        tuple((cpu, (*body[:1], dummy, *body[1:])) for cpu, body in program.flows), program.works, program.cpus
    )
    reached = run_exactly(padded, "dpor", rcu, budget=1_000)

    assert not list(differences("dpor", rcu, reference(padded, rcu), reached, is_exact=reached.is_exhausted))


# -- published shapes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rcu", RCU_MODES)
def test_the_reference_answers_as_published(rcu: str) -> None:
    wrong = [shape.name for shape in SHAPES if shape.has(reference(shape.program, rcu)) != shape.can_be]

    assert not wrong
    assert len(SHAPES) > 100
    assert {shape.can_be for shape in SHAPES} == {True, False}


def check_shape(shape: Shape, rcu: str) -> None:
    """The search is exhausted, has the published verdict, and has every other outcome too."""
    reached = run_exactly(shape.program, "dpor", rcu, budget=10_000)

    assert reached.is_exhausted, shape.name
    assert shape.has(set(reached.outcomes)) == shape.can_be, shape.name
    assert set(reached.outcomes) == reference(shape.program, rcu), shape.name


@pytest.mark.parametrize("rcu", RCU_MODES)
def test_the_search_answers_small_shapes_as_published(rcu: str) -> None:
    for shape in SMALL_SHAPES:
        check_shape(shape, rcu)


@pytest.mark.slow
@pytest.mark.parametrize("rcu", RCU_MODES)
@pytest.mark.parametrize("part", range(6))
def test_the_search_answers_every_shape_as_published(part: int, rcu: str) -> None:
    for shape in SHAPES[part::6]:
        check_shape(shape, rcu)
