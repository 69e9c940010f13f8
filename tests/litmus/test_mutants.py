"""Each clause of the dependence relation is needed: without it, some small program has an outcome that is missed."""

from __future__ import annotations

import pytest

from tests.litmus.mutants import MUTANTS, Mutant, found, try_mutant, what_differs
from tests.litmus.shapes import guarantees


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_is_taken_out_is_there_and_is_put_back(mutant: Mutant) -> None:
    before = [found(place) for place, _ in mutant.places]
    originals = [owner.__dict__[name] for owner, name in before]
    with mutant.applied():
        assert [owner.__dict__[name] for owner, name in before] != originals

    assert [owner.__dict__[name] for owner, name in before] == originals


def test_a_clause_that_is_taken_out_is_missed_only_meanwhile() -> None:
    program = next(shape.program for shape in guarantees() if shape.name == "new, then old: rcu against sync")
    mutant = MUTANTS[0]
    assert what_differs(program, 1_000) == ""
    with mutant.applied():
        assert "lacks" in what_differs(program, 1_000)

    assert what_differs(program, 1_000) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_some_program_shows_that_the_clause_is_needed(name: str) -> None:
    assert try_mutant(name, first=7_000, most=400).program is not None
