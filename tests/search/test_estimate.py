"""Estimates of the unseen part of a search, compared with exactly known numbers."""

from __future__ import annotations

import math
import random

import pytest

from actors.system.stepper import run_stepper
from explorer.search.estimate import Probes, Sightings
from explorer.search.registry import make_strategy
from explorer.search.report import of_how_many, unseen
from explorer.search.strategies.dfs import Dfs
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
    """Knuth's estimator is unbiased; with this number of walks, of fixed seeds, the mean is within a tenth."""
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
    assert of_how_many(Probes()) == ""


@pytest.mark.parametrize(
    ("log10", "text"),
    [(math.log10(720), " of some 720 (by 1 random walk)"), (52.6, " of some 1e53 (by 1 random walk)")],
)
def test_large_numbers_are_said_by_their_order(log10: float, text: str) -> None:
    probes = Probes()
    probes.add(log10)

    assert of_how_many(probes) == text


def drawn(classes: str) -> Sightings:
    """Class counts in which each letter of *classes* is a draw by a random walk."""
    sightings = Sightings()
    for trace_class in classes:
        sightings.add(trace_class, "random")
    return sightings


def test_the_chance_of_a_new_class_is_that_of_the_singletons() -> None:
    """Good 1953: a once, b twice, c three times: one of six draws was of a class seen once."""
    sightings = drawn("abbccc")

    assert sightings.classes == 3
    assert sightings.chance_of_new == pytest.approx(1 / 6)


def test_the_lower_bound_of_unseen_classes() -> None:
    """Chao 1984: f1^2 / 2 f2 with two classes seen once and one seen twice; f1 (f1 - 1) / 2 if none was seen twice."""
    assert drawn("abcc").at_least_unseen == pytest.approx(2)
    assert drawn("abccc").at_least_unseen == pytest.approx(1)


def test_classes_that_were_not_drawn_do_not_enter_the_estimates() -> None:
    sightings = Sightings()
    for trace_class in "abcdef":
        sightings.add(trace_class)

    assert sightings.classes == 6
    assert sightings.chance_of_new is None
    assert sightings.at_least_unseen is None
    assert "not known" in unseen(sightings)


def test_classes_that_other_methods_have_shown_are_not_unseen() -> None:
    """Four draws: a and b once each, c twice. Chao's bound is two more; a search has shown a, 1 and 2."""
    sightings = drawn("abcc")
    for trace_class in "1a2":
        sightings.add(trace_class)

    assert sightings.chance_of_new == pytest.approx(1 / 4), "only b was shown by nothing but one draw"
    assert sightings.at_least_unseen == pytest.approx(0), "the two may be 1 and 2"


def test_the_order_in_which_classes_are_seen_makes_no_difference() -> None:
    """Of five draws only e is of a class that no other method has shown; one class was drawn once, two twice."""
    seen = list(zip("aabbcd11ed", ["random", "", "urw", "urw", "pos", "", "", "", "random", ""], strict=True))
    answers = set()
    for seed in range(50):
        sightings = Sightings()
        for trace_class, by in random.Random(seed).sample(seen, len(seen)):
            sightings.add(trace_class, by)
        answers.add((sightings.classes, sightings.chance_of_new, sightings.draws.total()))

    assert answers == {(6, 2 / 5, 5)}


@pytest.mark.parametrize("seed", range(4))
def test_the_estimated_chance_is_right_where_it_is_known(seed: int) -> None:
    """300 classes of very different chances, every seventh shown by a search, and 2,000 draws."""
    draw = random.Random(seed)
    weights = [1 / (1 + number) for number in range(300)]
    shown = set(range(0, 300, 7))
    sightings = Sightings()
    for number in shown:
        sightings.add(str(number))
    for number in draw.choices(range(300), weights, k=2_000):
        sightings.add(str(number), "random")
        shown.add(number)
    truth = sum(weight for number, weight in enumerate(weights) if number not in shown) / sum(weights)

    assert sightings.chance_of_new == pytest.approx(truth, abs=0.01)


def test_the_estimate_of_unseen_classes_is_a_lower_bound_in_the_mean() -> None:
    """200 draws of 300 classes leave many unseen; the estimate is a lower bound in the mean."""
    weights = [1 / (1 + number) for number in range(300)]
    said, unseen_in_fact = 0.0, 0
    for seed in range(50):
        sightings = Sightings()
        for number in random.Random(seed).choices(range(300), weights, k=200):
            sightings.add(str(number), "random")
        assert sightings.at_least_unseen is not None
        said += sightings.at_least_unseen
        unseen_in_fact += 300 - sightings.classes

    assert unseen_in_fact / 2 < said < unseen_in_fact


def test_the_verdict_says_from_what_the_estimates_are_made() -> None:
    sightings = drawn("abbccc")
    sightings.add("e", "urw")
    sightings.add("f")

    assert unseen(sightings) == (
        "the next schedule is of a new class with 29%, at least 1 classes are unseen "
        "(from 7 schedules of random and urw)"
    )
