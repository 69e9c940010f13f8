"""Each clause of the dependence relation is needed: without it the search misses an outcome of some small program."""

from __future__ import annotations

import pytest

from tests.litmus.mutants import MUTANTS, Mutant, found, try_mutant, what_differs
from tests.litmus.shapes import guarantees


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_omitted_clause_exists_and_is_restored(mutant: Mutant) -> None:
    before = [found(place) for place, _ in mutant.places]
    originals = [owner.__dict__[name] for owner, name in before]
    with mutant.applied():
        assert [owner.__dict__[name] for owner, name in before] != originals

    assert [owner.__dict__[name] for owner, name in before] == originals


def test_a_clause_is_omitted_only_while_the_mutant_is_applied() -> None:
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
