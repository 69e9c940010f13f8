"""Output of a fleet: progress, text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Sequence
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from explorer.growth.comparison import ORIGINAL, DayMeans, Error, errors_of, mean_error, published_rows, rows_of
from explorer.growth.fleet import Fleet, HostRun
from explorer.growth.memory import HOST_CPUS
from explorer.growth.published import TABLES
from explorer.json_out import as_json
from explorer.report import LiveProgress
from explorer.streams import tell
from scenarios.services import WORKLOAD

LINE_SECONDS = 10.0


@attrs.frozen
class Comparison:
    """A simulated fleet, with its means and errors."""

    fleet: Fleet
    patched: str
    rows: list[DayMeans]
    errors: list[Error]

    @classmethod
    def of(cls, fleet: Fleet, patched: str) -> Comparison:
        """The comparison of *fleet* with its present results."""
        rows = rows_of(fleet.runs, patched, fleet.days)
        return cls(fleet, patched, rows, errors_of(rows, patched))

    @property
    def outcome(self) -> str:
        """The outcome of the fleet."""
        return outcome_of(self.fleet)


def outcome_of(fleet: Fleet) -> str:
    """`interrupted`, `lost` (a host could not be simulated), `finding` if a kernel had one, or `ok`."""
    if fleet.interrupted or fleet.loss is not None:
        return "interrupted" if fleet.interrupted else "lost"
    return "finding" if any(run.findings for run in fleet.runs) else "ok"


# -- while it runs ----------------------------------------------------------------------------------------------------


class FleetProgress(LiveProgress):
    """Progress on standard error: a live line on a terminal, otherwise a line every ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next_line = time.monotonic() + LINE_SECONDS

    def tell(self, fleet: Fleet) -> None:
        """Show the progress of *fleet*, if a line is due."""
        text = progress_line(fleet)
        self.show(text)
        if not sys.stderr.isatty() and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            tell(text)


def progress_line(fleet: Fleet) -> str:
    """The simulated share, and the time that is left."""
    done, elapsed = fleet.share_done, fleet.seconds
    left = f"{elapsed * (1 - done) / done:.0f} s left" if done else "time left is not known yet"
    over = sum(run.is_over for run in fleet.runs)
    return f"{done:.0%} of {fleet.days} days, {over} of {len(fleet.runs)} runs over, {elapsed:.0f} s, {left}"


# -- as text ----------------------------------------------------------------------------------------------------------


def show(console: Console, comparison: Comparison) -> None:
    """Print the tables with the published figures beside them, and the errors."""
    fleet = comparison.fleet
    console.print(describe(fleet))
    for index, table in enumerate(TABLES):
        console.print(_table(comparison, index))
        for error in comparison.errors:
            if error.series == table.series:
                console.print(_error_line(error, comparison.patched))
    console.print(_caches(comparison))
    for kind, is_fitted in (("fitted", True), ("predicted", False)):
        mean = mean_error(comparison.errors, is_fitted=is_fitted)
        if mean is not None:
            console.print(f"mean error of all {kind} figures: {mean:.1%}")
    for run in fleet.runs:
        for finding in run.findings:
            console.print(f"host {run.job.host} on {run.job.kernel}: {finding.message}", style="red")
    steps, cgroups = total(fleet.runs, "steps"), total(fleet.runs, "cgroups")
    console.print(f"{cgroups} cgroups, {steps:,} steps, {fleet.seconds:.1f} s; {comparison.outcome}")


def describe(fleet: Fleet) -> str:
    """The hosts and the workload in one line."""
    knobs = fleet.runs[0].job.knobs
    hosts = len({run.job.host for run in fleet.runs})
    workload = " ".join(f"{knob.name}={knobs[knob.name]}" for knob in WORKLOAD)
    days = f"{fleet.days} days" if fleet.days else "day 0 only, after which nothing is simulated"
    return (
        f"{hosts} hosts, {days}, {knobs['allocator']}, one cgroup for {knobs['unit']}; {workload}; "
        f"memory as with {HOST_CPUS} CPUs"
    )


def total(runs: Sequence[HostRun], figure: str) -> int:
    """The sum over all runs of a figure on the last day."""
    return sum(getattr(run.days[-1], figure) for run in runs if run.days)


def _table(comparison: Comparison, index: int) -> Table:
    """One published table, with the simulated figures."""
    published = TABLES[index]
    table = Table(title=f"simulated (published {published.series})", box=None, pad_edge=False, title_justify="left")
    for name in ("day", ORIGINAL, comparison.patched, "memory difference, MB"):
        table.add_column(name, justify="right")
    known = published_rows(comparison.patched)
    for row in comparison.rows:
        cells = []
        for name in ("original", "patched", "memory"):
            ours, figures = getattr(row, name), getattr(published, name)
            theirs = f"({figures[row.day]})" if name in known and row.day < len(figures) else ""
            cells.append(f"{'-' if ours is None else round(ours)} {theirs:>6}")
        table.add_row(str(row.day), *cells)
    return table


def _error_line(error: Error, patched: str) -> str:
    name = {"original": ORIGINAL, "patched": patched, "memory": "memory difference"}[error.row]
    kind = "fitted" if error.is_fitted else "predicted"
    return f"  {name}, {kind}: error {error.mean:.1%} in the mean, {error.worst:.1%} on the worst day"


def _caches(comparison: Comparison) -> str:
    last = next((row for row in reversed(comparison.rows) if row.original_caches and row.patched_caches), None)
    if last is None:
        return ""
    return (
        f"child caches on day {last.day}: {last.original_caches:.0f} on {ORIGINAL}, "
        f"{last.patched_caches:.0f} on {comparison.patched}"
    )


# -- as JSON and CSV --------------------------------------------------------------------------------------------------


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The JSON object of `--json`."""
    fleet = comparison.fleet
    knobs = fleet.runs[0].job.knobs
    return {
        "outcome": comparison.outcome,
        "kernels": [ORIGINAL, comparison.patched],
        "hosts": sorted({run.job.host for run in fleet.runs}),
        "days": fleet.days,
        "unit": knobs["unit"],
        "allocator": knobs["allocator"],
        "workload": {knob.name: knobs[knob.name] for knob in WORKLOAD},
        "mean": as_json(comparison.rows),
        "published": as_json(TABLES),
        "errors": [
            {
                "series": error.series,
                "row": error.row,
                "fitted": error.is_fitted,
                "mean": round(error.mean, 4),
                "worst": round(error.worst, 4),
                "by_day": [round(day, 4) for day in error.by_day],
            }
            for error in comparison.errors
        ],
        "mean_error": {
            "fitted": mean_error(comparison.errors, is_fitted=True),
            "predicted": mean_error(comparison.errors, is_fitted=False),
        },
        "runs": [_run_json(run) for run in fleet.runs],
        "lost_workers": fleet.lost_workers,
        "cgroups": total(fleet.runs, "cgroups"),
        "steps": total(fleet.runs, "steps"),
        "seconds": round(fleet.seconds, 3),
    }


def _run_json(run: HostRun) -> dict[str, Any]:
    return {
        "kernel": run.job.kernel,
        "host": run.job.host,
        "is_over": run.is_over,
        "days": as_json(run.days),
        "findings": [finding.signature for finding in run.findings],
    }


def to_csv(comparison: Comparison) -> str:
    """The means, then every host, then the published figures, all in the layout of the published tables."""
    rows: list[tuple[object, ...]] = [("series", "day", "original", "patched", "memory_difference_mb")]
    rows += _series("simulated", comparison.rows)
    for host in sorted({run.job.host for run in comparison.fleet.runs}):
        runs = [run for run in comparison.fleet.runs if run.job.host == host]
        rows += _series(f"host-{host}", rows_of(runs, comparison.patched, comparison.fleet.days))
    for table in TABLES:
        for day, figures in enumerate(zip(table.original, table.patched, table.memory, strict=True)):
            rows.append((table.series, day, *figures))
    return csv_text(rows)


def _series(name: str, rows: Sequence[DayMeans]) -> list[tuple[object, ...]]:
    return [(name, row.day, *map(_cell, (row.original, row.patched, row.memory))) for row in rows]


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """The rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
