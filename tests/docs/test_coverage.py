"""docs/coverage.md: the functions that it lists are in no race, and all others are in one."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.coverage import (
    MACHINES,
    PAGE,
    ROUND,
    Machine,
    Variation,
    entered,
    excused,
    functions_of,
    read_excuses,
    table,
    unreached,
)

TEXT = PAGE.read_text(encoding="utf-8")
EXCUSES = read_excuses(TEXT)


def test_every_row_of_the_page_is_read() -> None:
    _, _, rest = TEXT.partition("## Why not")
    rows, _, _ = rest.partition("\n## ")

    assert len(EXCUSES) == sum(line.startswith("| `") for line in rows.splitlines()) > 0


def test_every_row_is_of_functions_that_there_are() -> None:
    for excuse, (kernel, allocator) in itertools.product(EXCUSES, MACHINES):
        if (kernel, allocator) in excuse.machines:
            assert excuse.function in functions_of(kernel, allocator)


def test_no_machine_has_two_rows_for_a_function() -> None:
    assert sum(len(excuse.machines) for excuse in EXCUSES) == sum(len(excused(EXCUSES, m)) for m in MACHINES)


def test_the_figures_are_those_of_the_rows() -> None:
    assert "\n".join(table(EXCUSES)) in TEXT


def test_only_what_is_called_in_the_race_counts() -> None:
    """The scenario makes its cgroup in the set-up and removes it in the race."""
    names = entered("rmdir-under-load", "5.3", "slub", range(1), Variation({"cgroups": "1", "objects": "1"}))
    calm = {"cgroup_mkdir", "mem_cgroup_css_alloc"}

    assert names >= {"cgroup_rmdir", "kmem_cache_alloc", "mem_cgroup_css_offline"}
    assert not names & calm
    assert calm <= functions_of("5.3", "slub").keys()


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES[::5], ids=" ".join)
def test_what_the_page_lists_is_in_no_race_and_all_else_is_in_one(machine: Machine) -> None:
    expected = excused(EXCUSES, machine)

    assert unreached(machine, expected, 20 * ROUND) == expected
