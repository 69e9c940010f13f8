"""The chance of a difference between equal kernels, against a count of all cases."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from explorer.trial.evidence import Count, chance


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_the_chance_is_the_share_of_the_ways_to_place_the_sightings(one: int, other: int, data: st.DataObject) -> None:
    seen = data.draw(st.integers(0, one))
    ways = list(itertools.combinations(range(one + other), seen))
    on_one_side = sum(all(schedule < one for schedule in way) for way in ways)

    assert abs(chance(Count(seen, one), Count(0, other)) - on_one_side / len(ways)) < 1e-12


def test_a_side_that_is_exhausted_leaves_nothing_to_chance() -> None:
    assert chance(Count(1, 100), Count(0, 3, is_all=True)) == 0.0
