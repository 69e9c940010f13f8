"""How much a search has not seen: the estimates against what is known exactly."""

from __future__ import annotations

import math

import pytest

from actors.system.stepper import run_stepper
from explorer.campaign_report import of_how_many
from explorer.estimate import Probes, Sightings
from explorer.strategies import make_strategy
from explorer.strategies.dfs import Dfs
from tests.search.programs import Program, independent, last_zero, locked, read_then_write, run_dfs, start

WALKS = 2_000


def walk(program: Program, seed: int) -> float:
    """The decimal logarithm of the product of the numbers of alternatives along one random walk."""
    world, watch = start(program, make_strategy("random", seed))
    run_stepper(world)
    watch.end_step()
    return watch.log10_alternatives


def test_walks_of_one_shape_say_at_once_how_many_schedules_there_are() -> None:
    """Three flows with one step each: 3 alternatives, then 2, then 1."""
    assert 10 ** walk(independent([1, 1, 1]), seed=0) == pytest.approx(6)


@pytest.mark.parametrize("program", [independent([1, 3, 5]), last_zero(3), read_then_write(3), locked(3)])
def test_the_mean_of_the_walks_is_the_number_of_schedules(program: Program) -> None:
    """Knuth's estimate is without bias; with so many walks of fixed seeds it is within a tenth here."""
    probes = Probes()
    for seed in range(WALKS):
        probes.add(walk(program, seed))

    assert probes.log10_schedules is not None
    assert 10**probes.log10_schedules == pytest.approx(len(run_dfs(program, Dfs())), rel=0.1)


def test_products_beyond_the_largest_float_are_added_up() -> None:
    probes = Probes()
    for log10_product in (400.0, 400.0, 401.0):
        probes.add(log10_product)

    assert probes.log10_schedules == pytest.approx(400 + math.log10(12 / 3))


def test_without_a_walk_nothing_is_known() -> None:
    assert Probes().log10_schedules is None
    assert of_how_many(None) == ""


@pytest.mark.parametrize(("log10", "text"), [(math.log10(720), " of some 720"), (52.6, " of some 1e53")])
def test_large_numbers_are_said_by_their_order(log10: float, text: str) -> None:
    assert of_how_many(log10) == text


def test_the_chance_of_a_new_class_is_that_of_the_singletons() -> None:
    """Good 1953: a, b twice, c three times: one of six sightings was of a class seen once."""
    sightings = Sightings()
    for trace_class in "abbccc":
        sightings.add(trace_class)

    assert sightings.classes == 3
    assert sightings.chance_of_new == pytest.approx(1 / 6)


def test_how_many_are_unseen_at_least() -> None:
    """Chao 1984: f1^2 / 2 f2 with two seen once and one seen twice; f1 (f1 - 1) / 2 if none was seen twice."""
    sightings = Sightings()
    for trace_class in "abcc":
        sightings.add(trace_class)
    assert sightings.at_least_unseen == pytest.approx(2)

    sightings.add("c")
    assert sightings.at_least_unseen == pytest.approx(1)
