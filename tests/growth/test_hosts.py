"""Simulated hosts on both kernels."""

from __future__ import annotations

import pytest

from actors.oracles.ledger import is_published
from explorer.growth.host import Day
from explorer.growth.memory import (
    HOST_CPUS,
    cache_bytes,
    machine_bytes,
    memcg_bytes,
    memcg_bytes_6_12,
    memcg_bytes_7_2,
    objcg_bytes,
)
from protocol.errors import UsageError
from tests.growth.hosts import TINY, checked_stage_of, days_of, figures, job_of, stage_of

each_kernel = pytest.mark.parametrize("kernel", ["original", "5.3"])


@pytest.fixture(scope="module")
def original() -> list[Day]:
    return days_of("original")


@pytest.fixture(scope="module")
def patched() -> list[Day]:
    return days_of("5.3")


def test_the_same_host_shows_the_same_figures_again(original: list[Day], patched: list[Day]) -> None:
    assert figures(days_of("original")) == figures(original)
    assert figures(days_of("5.3")) == figures(patched)


def test_other_hosts_are_not_the_same() -> None:
    assert figures(days_of("5.3", host="0", **TINY)) != figures(days_of("5.3", host="1", **TINY))


def test_both_kernels_do_the_same_work(original: list[Day], patched: list[Day]) -> None:
    assert [day.cgroups for day in original] == [day.cgroups for day in patched]


def test_cgroups_pile_up_on_the_original_kernel_only(original: list[Day], patched: list[Day]) -> None:
    assert original[1].dying > 3 * patched[1].dying
    assert original[1].dying > original[0].dying
    assert original[1].child_caches > 2 * patched[1].child_caches
    assert original[1].memory > patched[1].memory


@pytest.mark.parametrize("kernel", ["v2", "v7", "5.4-fixed"])
def test_hosts_run_on_other_versions(kernel: str) -> None:
    assert days_of(kernel, **TINY)


@each_kernel
def test_no_cgroup_stays_dying_if_services_leave_nothing_behind(kernel: str) -> None:
    """Files that only one service opens do not stay; most files in memory are gone within the hour."""
    days = days_of(kernel, files="0", pin="1")

    assert [day.dying for day in days] == [0, 0]
    assert [day.zombie_caches for day in days] == [0, 0]


@each_kernel
def test_a_host_without_restarts_has_no_dying_cgroups(kernel: str) -> None:
    assert [day.dying for day in days_of(kernel, restarts="0")] == [0, 0]


@each_kernel
def test_the_counts_of_the_machine_are_right_after_every_step(kernel: str) -> None:
    stage = checked_stage_of(kernel)

    assert not stage.world.findings
    assert stage.world.stopped == "simulated"


def test_a_dying_cgroup_has_pages_that_it_was_first_to_touch() -> None:
    """On the original kernel each dying cgroup has a page that is still charged to it, of a slab or of a file."""
    stage = stage_of("original")
    dead = [memcg for memcg in stage.machine.memcgs() if memcg.css.cgroup.is_dead]

    assert dead
    for memcg in dead:
        assert memcg.user_pages or any(cache.slab_pages for cache in memcg.kmem_caches)


def test_reparented_caches_belong_to_the_root() -> None:
    stage = stage_of("5.3")
    zombies = [cache for cache in stage.machine.child_caches if not is_published(cache)]

    assert zombies
    assert {cache.memcg for cache in zombies} == {stage.machine.root_mem_cgroup}


def test_few_actors_keep_a_place_among_the_lanes() -> None:
    """A long run must not get slower because of many idle caches."""
    stage = stage_of("original")

    assert len(stage.world._lanes) < len(stage.machine.child_caches)


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_is_what_the_structures_take() -> None:
    stage = stage_of("5.3", days="0", restarts="0")
    machine = stage.machine
    memcgs = len(machine.root_cgroup.descendants())

    assert machine_bytes(machine) == memcgs * memcg_bytes(1, HOST_CPUS) + machine.buddy.allocated * 4096


def test_most_of_a_memcg_is_per_cpu() -> None:
    """Linux 5.2.1 showed about 1.9 kB for each CPU (KERNEL.md 12.2); a configuration with all events needs more."""
    per_cpu = memcg_bytes(1, 2) - memcg_bytes(1, 1)

    assert 1_900 < per_cpu < 2_800
    assert memcg_bytes(1, HOST_CPUS) > 0.9 * HOST_CPUS * per_cpu


def test_memory_of_6_12_is_what_its_structures_take() -> None:
    """KERNEL-today 22, without struct cgroup, psi, rstat and kernfs, which are not counted on the other kernels."""
    stage = stage_of("6.12", days="0", restarts="0")
    machine = stage.machine
    memcgs, objcgs = len(machine.root_cgroup.descendants()), len(machine.objcgs)

    assert machine_bytes(machine) == (
        memcgs * memcg_bytes_6_12(1, HOST_CPUS) + objcgs * objcg_bytes(HOST_CPUS) + machine.buddy.allocated * 4096
    )
    assert memcg_bytes_6_12(1, 0) + objcg_bytes(0) == 2048 + 2048 + 2048 + 1024 + 1024 + 32 + 4 * 64
    assert memcg_bytes_6_12(1, 1) - memcg_bytes_6_12(1, 0) == 1088 + 496 + 2 * 8


def test_memory_of_7_2_is_what_its_structures_take() -> None:
    """KERNEL-7.2, section 5: 14 312 bytes and 2312 a CPU for one node, without cgroup, psi, rstat and kernfs."""
    stage = stage_of("7.2", days="0", restarts="0")
    machine = stage.machine
    memcgs, objcgs = len(machine.root_cgroup.descendants()), len(machine.objcgs)

    assert machine_bytes(machine) == (
        memcgs * memcg_bytes_7_2(1, HOST_CPUS) + objcgs * objcg_bytes(HOST_CPUS) + machine.buddy.allocated * 4096
    )
    not_counted, not_counted_percpu = 4096 + 1024 + 136, 64 + 128 + 128
    assert memcg_bytes_7_2(1, 0) + objcg_bytes(0) == 14_312 - not_counted
    assert memcg_bytes_7_2(1, 1) + objcg_bytes(1) == 14_312 - not_counted + 2312 - not_counted_percpu
    assert memcg_bytes_7_2(2, 3) + 2 * objcg_bytes(3) - memcg_bytes_7_2(1, 3) - objcg_bytes(3) == (
        1920 + 2048 + 32 + 1024 + 128 + 3 * 760
    )


def test_6_12_keeps_the_cgroups_that_5_3_keeps_and_no_cache() -> None:
    """The page cache and files in memory pin a memcg on both."""
    old, new = days_of("5.3"), days_of("6.12")

    assert [day.dying for day in new] == [day.dying for day in old]
    assert max(day.dying for day in new) > 0
    assert [day.child_caches for day in new] == [0] * len(new)


def test_a_cache_that_is_killed_has_no_counters_any_more() -> None:
    machine = stage_of("5.3").machine
    published = {is_published(cache): cache_bytes(cache, machine, HOST_CPUS) for cache in machine.child_caches}

    assert published[True] - published[False] == 8 * HOST_CPUS


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["files=x", "unit=0", "popularity=-1", "colour=red", "slabinfo=/nowhere"])
def test_settings_that_do_not_fit_are_refused(setting: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(UsageError, match=name if name != "slabinfo" else "nowhere"):
        job_of("5.3", **{name: value})
