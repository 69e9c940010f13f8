"""What history found in the kernels after the series is found in them without the fix, and not with it."""

from __future__ import annotations

import attrs
import pytest

from benchmarks.rows import Kernel, Row
from benchmarks.rows_today import ROWS_TODAY
from benchmarks.trials import Task, search

BUDGET = 2_000
"""The schedules within which a flaw must be found."""

LONG = (
    "list-lru-add-without-rcu",
    "kmemcg-id-late",
    "obj-stock-flush-required",
    "lruvec-no-recheck",
    "lists-after-objcgs",
    "events-without-rcu",
    "refault-without-rcu",
)
"""The rows whose search takes more than some seconds."""


def trials(of_kernels: str) -> list[object]:
    """Each row with each of its kernels, the long ones as slow tests."""
    return [
        pytest.param(
            row,
            kernel,
            id=f"{row.slug} on {kernel}",
            marks=[pytest.mark.slow] if row.slug in LONG and of_kernels == "having" else [],
        )
        for row in ROWS_TODAY
        for kernel in getattr(row, of_kernels)
    ]


@pytest.mark.parametrize(("row", "kernel"), trials("having"))
def test_a_flaw_is_found(row: Row, kernel: Kernel) -> None:
    assert search(Task(row, kernel, "portfolio", 0, BUDGET)).is_found


@pytest.mark.parametrize(("row", "kernel"), trials("cured"))
def test_it_is_not_found_with_the_fix(row: Row, kernel: Kernel) -> None:
    assert not search(Task(row, kernel, "portfolio", 0, 60)).is_found


@pytest.mark.parametrize(("small", "large"), [(2, 0), (0, 2)])
def test_without_a_cycle_the_vectors_go(small: int, large: int) -> None:
    """Buffers of one size have vectors in slabs of the other, which have none themselves."""
    settings = (("small", str(small)), ("large", str(large)))
    row = next(row for row in ROWS_TODAY if row.slug == "objcg-vector-cycle")
    assert not search(Task(attrs.evolve(row, settings=settings), row.having[0], "portfolio", 0, 20)).is_found
