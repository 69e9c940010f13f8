"""The services' work is drawn in advance, and follows the documented laws."""

from __future__ import annotations

import itertools
import statistics

from scenarios.services import DAY, HOUR, Plan, Service, draws, lifetimes, services_of


def test_draws_are_always_the_same_and_even() -> None:
    drawn = list(itertools.islice(draws("x"), 4_000))

    assert drawn == list(itertools.islice(draws("x"), 4_000))
    assert drawn != list(itertools.islice(draws("y"), 4_000))
    assert all(0 <= number < 1 for number in drawn)
    assert abs(statistics.fmean(drawn) - 0.5) < 0.02


def test_services_are_restarted_as_often_as_is_said() -> None:
    services = services_of(0, 100, 1.3, 5)
    restarts = sum(DAY / statistics.fmean(plan.runs_for for plan in runs) for runs in _plans(services, 200))

    assert abs(restarts - 100) < 5
    assert max(service.period for service in services) < 4.1 * min(service.period for service in services)


def test_some_files_are_opened_by_all_and_most_by_hardly_anybody() -> None:
    opened = [rank for runs in _plans(services_of(0, 100, 1.3, 5), 100) for plan in runs for rank in plan.files]
    once = [rank for rank in set(opened) if opened.count(rank) == 1]

    assert opened.count(0) > len(opened) / 10
    assert len(once) > len(set(opened)) / 2


def test_a_file_in_memory_outlives_a_time_as_pareto_says() -> None:
    lives = list(itertools.islice(lifetimes(0, HOUR), 1_000))

    assert min(lives) >= HOUR
    for times in (2, 5, 20):
        assert abs(sum(life > times * HOUR for life in lives) - 1_000 / times) < 10


def _plans(services: list[Service], runs: int) -> list[list[Plan]]:
    return [list(itertools.islice(service.plans(), 1, runs + 1)) for service in services]
