"""`slabrace growth --walk`: the length of the walks of SLAB's reaper, its slab_mutex times, and the waits for it.

This is Greg Thelen's question about the series (KERNEL.md 4.8). The hosts are the usual ones, but with the SLAB
allocator; a second run has services that leave nothing behind, so that there are no zombies. The reaper runs for some
seconds several times a day, and a service that restarts at that time has to wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from explorer.growth.comparison import ORIGINAL
from explorer.growth.fleet import Fleet, HostRun
from explorer.growth.host import Day, HostJob
from explorer.growth.report import describe, outcome_of, total
from explorer.json_out import as_json

NS_PER_US, NS_PER_MS = 1_000, 1_000_000
WALK = {"allocator": "slab", "probe": "yes"}
WITHOUT_ZOMBIES = {"files": "0", "pin": "1"}


def walk_fleet(patched: str, host: int, settings: Mapping[str, str], workers: int) -> Fleet:
    """One host on both kernels, with and without zombies."""
    runs = [
        HostRun(HostJob.of(kernel, host, {**settings, **WALK, **variant}))
        for variant in ({}, WITHOUT_ZOMBIES)
        for kernel in (ORIGINAL, patched)
    ]
    return Fleet(runs, runs[0].job.knobs["days"], workers=workers)


def has_zombies(run: HostRun) -> bool:
    """Whether the services of this run leave something behind."""
    return bool(run.job.knobs["files"])


def show_walk(console: Console, fleet: Fleet) -> None:
    """Print a table for each run: the reaper's walks on each day, and the waits for it."""
    console.print(describe(fleet))
    for run in fleet.runs:
        console.print(_table(run))
        for function, count, mean, longest in waits_of(run.days):
            text = f"  {function} waited {count} times, {mean:.0f} us in the mean, {longest:.0f} us at most"
            console.print(text)
        for finding in run.findings:
            console.print(f"  {finding.message}", style="red")
    console.print(f"{total(fleet.runs, 'steps'):,} steps, {fleet.seconds:.1f} s; {outcome_of(fleet)}")


def _table(run: HostRun) -> Table:
    title = f"{run.job.kernel}, {'with' if has_zombies(run) else 'without'} zombies"
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for name in ("day", "dying cgroups", "child caches", "zombies", "caches per pass", "slab_mutex held, ms"):
        table.add_column(name, justify="right")
    for day in run.days:
        if day.walks is not None:
            visited, held = f"{day.walks.visited:.0f}", f"{day.walks.held / NS_PER_MS:.2f}"
            table.add_row(*map(str, (day.day, day.dying, day.child_caches, day.zombie_caches, visited, held)))
    return table


def waits_of(days: Sequence[Day]) -> list[tuple[str, int, float, float]]:
    """The waits for the reaper over all *days*: function, count, and duration (us) in the mean and at most."""
    waits = [wait for day in days if day.walks is not None for wait in day.walks.waits]
    found = []
    for function in sorted({wait.function for wait in waits}):
        own = [wait for wait in waits if wait.function == function]
        count = sum(wait.count for wait in own)
        mean = sum(wait.total for wait in own) / count / NS_PER_US
        found.append((function, count, mean, max(wait.longest for wait in own) / NS_PER_US))
    return found


def walk_json(fleet: Fleet) -> dict[str, Any]:
    """The JSON object of `--walk --json`; times in nanoseconds."""
    return {
        "outcome": outcome_of(fleet),
        "unit": fleet.runs[0].job.knobs["unit"],
        "days": fleet.days,
        "runs": [
            {
                "kernel": run.job.kernel,
                "host": run.job.host,
                "zombies": has_zombies(run),
                "is_over": run.is_over,
                "days": as_json(run.days),
                "findings": [finding.signature for finding in run.findings],
            }
            for run in fleet.runs
        ],
        "lost_workers": fleet.lost_workers,
        "steps": total(fleet.runs, "steps"),
        "seconds": round(fleet.seconds, 3),
    }


def walk_rows(fleet: Fleet) -> list[tuple[object, ...]]:
    """The rows of `--walk --csv`, with the names of the columns first."""
    rows: list[tuple[object, ...]] = [
        ("kernel", "zombies", "day", "dying_cgroups", "child_caches", "zombie_caches", "caches_per_pass", "held_ns")
    ]
    for run in fleet.runs:
        for day in run.days:
            if day.walks is not None:
                figures = (day.day, day.dying, day.child_caches, day.zombie_caches)
                zombies = "with" if has_zombies(run) else "without"
                rows.append((run.job.kernel, zombies, *figures, round(day.walks.visited), round(day.walks.held)))
    return rows
