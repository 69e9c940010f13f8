"""SLAB's reaper on a host: the caches that it walks, and the tasks that wait for it."""

from __future__ import annotations

import pytest

from explorer.growth.walk import WALK, waits_of
from tests.conftest import Command
from tests.growth.hosts import TINY, days_of, stage_of

LONG = {"days": "0", "unit": "40", "uptime": "2000"}
"""A time after which most caches on the original kernel are zombies."""


@pytest.mark.parametrize("kernel", ["original", "5.3"])
def test_the_reaper_visits_every_cache(kernel: str) -> None:
    (day,) = days_of(kernel, **TINY, **WALK)

    assert day.walks is not None
    assert day.walks.passes > 10
    assert day.walks.visited >= day.child_caches
    assert day.walks.held > 0


@pytest.mark.slow
def test_it_walks_more_on_the_original_kernel() -> None:
    original, patched = (days_of(kernel, **LONG, **WALK)[0].walks for kernel in ("original", "5.3"))

    assert original is not None
    assert patched is not None
    assert original.visited > 1.2 * patched.visited
    assert original.held > 1.2 * patched.held


def test_only_the_reaper_frees_zombies_of_slab() -> None:
    """The services leave nothing behind here, so after a walk every child cache belongs to a running service."""
    stage = stage_of("5.3", days="0", files="0", pin="1", **WALK)
    memcgs = {cache.memcg for cache in stage.machine.child_caches}

    assert all(memcg is not None and not memcg.css.cgroup.is_dead for memcg in memcgs)


def test_creation_waits_for_the_reaper() -> None:
    waits = waits_of(days_of("original", **LONG, **WALK))

    assert [function for function, *_ in waits] == ["memcg_create_kmem_cache"]
    for _, count, mean, longest in waits:
        assert count > 0
        assert 0 < mean <= longest


def test_the_command_prints_both_kernels_with_and_without_zombies(slabrace: Command) -> None:
    answer = slabrace("growth", "--walk", "--days", "0", "--set", "unit=60")

    assert answer.code == 0, answer.err
    for title in ("original, with zombies", "5.3, with zombies", "original, without zombies", "5.3, without zombies"):
        assert title in answer.out
    assert "caches per pass" in answer.out
