"""The search: it finds traces of the model itself, by its preferences or by deviations from them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.match.cursor import Cursor
from explorer.match.follower import Follower
from explorer.match.races import ChoicePoint, racing
from explorer.match.search import Attempt, RunPlan, run_along, search
from explorer.search.registry import make_strategy
from protocol.vocabulary import TODAY
from tests.match.traces import CAPTURES, STORIES, STORIES_TODAY, Capture, match, subject, trace_of

each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=str)
same_examples = settings(derandomize=True, deadline=None, database=None, max_examples=12)
KERNELS = ("original", "v5", "v7", "5.3", "5.4-fixed")


@same_examples
@given(st.sampled_from(KERNELS), st.sampled_from(list(STORIES)), st.integers(0, 10_000))
def test_a_run_on_parallel_cpus_matches_its_own_trace(kernel: str, story: str, seed: int) -> None:
    """The `clock` strategy is most like a real machine; in its trace some lines have the same microsecond."""
    text = trace_of(kernel, story, make_strategy("clock", seed), clock=lambda ctx: ctx.world.now // 1_000)

    found = match(text, kernel, STORIES[story], budget=300)

    assert found.is_match, found.best.divergence


@same_examples
@given(st.sampled_from(KERNELS), st.integers(0, 10_000))
def test_any_schedule_of_the_creation_matches_its_own_trace(kernel: str, seed: int) -> None:
    text = trace_of(kernel, "create", make_strategy("random", seed), clock=lambda ctx: ctx.world.steps)

    assert match(text, kernel, "traced-create", budget=300).is_match


NO_CPU = ("7.2", "rmdir-idle-charges")
"""The periodic flush of statistics is in the filter; no CPU runs it in the model."""


@pytest.mark.parametrize(
    ("kernel", "story"), [case for case in itertools.product(TODAY, STORIES_TODAY) if case != NO_CPU]
)
def test_a_run_of_today_s_kernels_matches_its_own_trace(kernel: str, story: str) -> None:
    for seed in range(4):
        text = trace_of(kernel, story, make_strategy("clock", seed), clock=lambda ctx: ctx.world.now // 1_000)
        found = match(text, kernel, STORIES_TODAY[story], budget=100)

        assert found.is_match, found.best.divergence


def test_known_gap_a_trace_with_long_preemptions_may_be_missed() -> None:
    """The schedule is uniformly random, far from all preferences of the search."""
    text = trace_of("5.3", "rmdir-idle", make_strategy("random", 0), clock=lambda ctx: ctx.world.steps)

    found = match(text, "5.3", "traced-rmdir-idle", budget=40)

    assert not found.is_match
    assert not found.is_proof


def test_a_lazy_follower_gets_there_by_deviations() -> None:
    """Its preferences do not fit this capture: the search has to find three deviations."""
    capture = Capture("5.3.1", "rmdir-held")
    lazy = run_along(subject(capture.text(), "5.3", capture.scenario), RunPlan(is_lazy=True))
    assert lazy.divergence is not None

    attempts, best = 1, lazy
    while best.divergence is not None:
        attempt = next(
            found for found in (run_along(best.subject, plan) for plan in best.further) if found.matched > best.matched
        )
        attempts, best = attempts + 1, attempt

    assert len(best.plan.deviations) == attempts - 1 > 0


def test_a_search_makes_the_same_runs_every_time() -> None:
    text = Capture("5.2.1", "rmdir-idle").text()

    first, second = (match(text, "5.3", *STORIES.values(), budget=30) for _ in range(2))

    assert (first.schedules, first.best.matched, first.best.plan) == (
        second.schedules,
        second.best.matched,
        second.best.plan,
    )
    assert first.best.trail == second.best.trail
    assert first.best.divergence == second.best.divergence or str(first.best.divergence) == str(second.best.divergence)


@pytest.mark.parametrize("budget", [1, 7, 20])
def test_the_budget_is_kept(budget: int) -> None:
    assert match(Capture("5.2.1", "rmdir-idle").text(), "5.3", "traced-rmdir-idle", budget=budget).schedules == budget


def test_every_scenario_is_tried_once_whatever_the_budget() -> None:
    assert match(Capture("5.2.1", "rmdir-idle").text(), "5.3", *STORIES.values(), budget=1).schedules == 3


def test_an_interrupted_search_answers_with_the_best_so_far() -> None:
    wanted = subject(Capture("5.2.1", "rmdir-idle").text(), "5.3", "traced-rmdir-idle")
    numbers: list[int] = []

    def interrupt(number: int, _best: Attempt) -> None:
        numbers.append(number)
        if number == 5:
            raise KeyboardInterrupt

    found = search([wanted], budget=100, progress=interrupt)

    assert (found.is_interrupted, found.schedules, found.best.matched) == (True, 5, 8)
    assert numbers == [1, 2, 3, 4, 5]


@each_capture
def test_a_trace_that_stops_early_matches_with_an_open_end(capture: Capture) -> None:
    lines = capture.text().splitlines()
    text = "\n".join(["# tracer: function", *lines[11 : len(lines) - 8]])

    assert match(text, capture.kernel, capture.scenario, budget=20, open_end=True).is_match
    assert not match(text, capture.kernel, capture.scenario, budget=2).is_match


def test_lost_events_end_the_comparison() -> None:
    capture = Capture("5.3.1", "rmdir-idle")
    lines = capture.text().splitlines()
    text = "\n".join(["# tracer: function", *lines[11:40], "CPU:0 [LOST 4 EVENTS]", *lines[60:]])

    found = match(text, capture.kernel, capture.scenario, budget=20)

    assert found.is_match
    assert found.best.matched == sum(" <-" in line for line in lines[11:40])


# -- the choices that may matter --------------------------------------------------------------------------------------


class Thing:
    """Any object that steps access."""


def choice(chosen: str, others: str, *touched: tuple[Thing, bool]) -> ChoicePoint:
    """A choice between lanes, which are represented by their names here."""
    return ChoicePoint(tuple(chosen + others), 0, touched)  # type: ignore[arg-type]  # any object will do for a lane


def test_only_a_step_that_touches_the_same_can_make_a_difference_earlier() -> None:
    one, other = Thing(), Thing()
    choices = [
        choice("a", "b", (one, True)),
        choice("a", "b", (other, True)),
        choice("a", "b", (one, False)),
        choice("b", "a", (one, True)),
    ]

    assert racing(choices, 0) == [(2, 1), (0, 1)]


def test_two_reads_are_no_race() -> None:
    one = Thing()

    assert not racing([choice("a", "b", (one, False)), choice("b", "", (one, False))], 0)


def test_a_lane_that_could_not_step_is_no_alternative() -> None:
    one = Thing()

    assert not racing([choice("a", "", (one, True)), choice("b", "", (one, True))], 0)


def test_a_choice_before_a_lanes_last_step_is_no_alternative() -> None:
    one = Thing()
    choices = [choice("a", "b", (one, True)), choice("b", "a"), choice("b", "", (one, True))]

    assert not racing(choices, 0)


def test_new_deviations_come_after_the_present_ones() -> None:
    plans = list(RunPlan(deviations={2: 1}).further([choice("a", "bc") for _ in range(5)]))

    assert plans[0].deviations == {2: 1, 4: 1}
    assert len(plans) == 2 * 2
    assert all(max(plan.deviations) > 2 for plan in plans)


def test_a_value_that_the_environment_chose_may_be_another() -> None:
    plans = list(RunPlan().further([ChoicePoint(values=3, taken=1)]))

    assert [dict(plan.deviations) for plan in plans] == [{0: 0}, {0: 2}]
    assert Follower(Cursor((), open_end=False), {0: 2}).choose_value(3) == 2
