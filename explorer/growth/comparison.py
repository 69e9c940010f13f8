"""The means over the simulated hosts, and their errors relative to the published figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import attrs

from explorer.growth.fleet import HostRun
from explorer.growth.host import Day
from explorer.growth.published import TABLES, V4_TO_V7, Table
from protocol.vocabulary import TODAY

MB = 1_000_000
ORIGINAL = "original"


@attrs.frozen
class DayMeans:
    """One day, as the mean over the hosts; memory in MB. None: no host has reached it, on that kernel or on both."""

    day: int
    original: float | None
    patched: float | None
    memory: float | None
    original_caches: float | None
    patched_caches: float | None


@attrs.frozen
class Error:
    """The relative errors of one row of a published table, day by day."""

    series: str
    row: str
    is_fitted: bool
    by_day: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean error over the days."""
        return statistics.fmean(self.by_day)

    @property
    def worst(self) -> float:
        """The largest error of a day."""
        return max(self.by_day)


def rows_of(runs: Sequence[HostRun], patched: str, days: int) -> list[DayMeans]:
    """The means, day by day. The memory difference covers the hosts that reached the day on both kernels."""
    return [_row(runs, patched, day) for day in range(days + 1)]


def _row(runs: Sequence[HostRun], patched: str, day: int) -> DayMeans:
    def on(kernel: str) -> dict[int, Day]:
        return {run.job.host: run.days[day] for run in runs if run.job.kernel == kernel and len(run.days) > day}

    def mean(found: dict[int, Day], figure: Callable[[Day], int]) -> float | None:
        return statistics.fmean(map(figure, found.values())) if found else None

    old, new = on(ORIGINAL), on(patched)
    saved = [old[host].memory - new[host].memory for host in old.keys() & new.keys()]
    return DayMeans(
        day=day,
        original=mean(old, lambda found: found.dying),
        patched=mean(new, lambda found: found.dying),
        memory=statistics.fmean(saved) / MB if saved else None,
        original_caches=mean(old, lambda found: found.child_caches),
        patched_caches=mean(new, lambda found: found.child_caches),
    )


def published_rows(patched: str) -> tuple[str, ...]:
    """The rows of the tables that are about the kernels compared: those of 2019 know no kernel of today."""
    return ("original",) if patched in TODAY else ("original", "patched", "memory")


def errors_of(rows: Sequence[DayMeans], patched: str) -> list[Error]:
    """The errors of each row of each published table that is about *patched*, if any of its days was simulated."""
    found = []
    for table in TABLES:
        for name in published_rows(patched):
            by_day = _by_day(rows, table, name)
            if by_day:
                is_fitted = table is V4_TO_V7 and name != "memory"
                found.append(Error(table.series, name, is_fitted, tuple(by_day)))
    return found


def _by_day(rows: Sequence[DayMeans], table: Table, name: str) -> list[float]:
    published: tuple[int, ...] = getattr(table, name)
    pairs = [(getattr(row, name), figure) for row, figure in zip(rows, published, strict=False)]
    return [abs(ours - figure) / figure for ours, figure in pairs if ours is not None]


def mean_error(errors: Sequence[Error], *, is_fitted: bool) -> float | None:
    """The mean error over all days of all fitted rows, or of all predicted ones."""
    by_day = [error for row in errors if row.is_fitted is is_fitted for error in row.by_day]
    return statistics.fmean(by_day) if by_day else None
