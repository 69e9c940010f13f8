"""`shrunk`: the length of shrunk schedules for historical bugs.

For each row with a race, on each kernel that has it, the first schedule in which `portfolio` shows the flaw is shrunk
and explained, as by `slabrace shrink` and `slabrace explain`. The table goes into docs/strategies.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence

import attrs
from rich.console import Console

from benchmarks.pages import DOCS, markdown_table, put_between_markers
from benchmarks.rows import Kernel, Row, find_rows
from benchmarks.trials import Task, search_first
from explorer import defaults
from explorer.explain.explanation import explain_schedule
from explorer.shrink import Shrinker, reproduce

GOAL = 60
"""The goal: at most so many steps that matter."""
MOST_SEEDS = 5


@attrs.frozen
class Shrunk:
    """The result for one schedule: steps of its race before and after, and the steps that matter by `explain`."""

    row: str
    kernel: str
    found: int
    shrunk: int
    matter: int
    switches: int


def shrink(row: Row, kernel: Kernel) -> Shrunk | None:
    """Find the flaw, shrink its schedule, and count; None if no search finds it."""
    for seed in range(MOST_SEEDS):
        campaign, found = search_first(Task(row, kernel, "portfolio", seed, defaults.BUDGET))
        if found is None:
            continue
        signature = found.finding.signature
        trace, controls_clock = reproduce(campaign.experiment, found.schedule, signature)
        shrinker = Shrinker(campaign.experiment, trace, controls_clock=controls_clock)
        shrinker.shrink()
        best = shrinker.best
        matter = len(explain_schedule(shrinker.experiment, best.schedule, signature).important)
        return Shrunk(row.slug, str(kernel), len(trace.steps), len(best.steps), matter, best.switches)
    return None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `shrunk`."""
    parser.add_argument("--rows", nargs="+", default=[], metavar="SLUG", help="only these rows")
    parser.add_argument("--no-pages", action="store_true", help="leave docs/ alone")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")


def run(options: argparse.Namespace) -> int:
    """Shrink all rows and print the table; 1 if a schedule is longer than the goal, or a flaw is not found."""
    rows = [row for row in find_rows(options.rows) if not row.needs_no_race]
    progress = Console(stderr=True, highlight=False)
    done: list[Shrunk] = []
    missed: list[str] = []
    for row, kernel in ((entry, kernel) for entry in rows for kernel in entry.having):
        shrunk = shrink(row, kernel)
        progress.print(f"{row.slug}, {kernel}: {shrunk or 'not found'}", markup=False, soft_wrap=True)
        if shrunk is None:
            missed.append(f"{row.slug} on {kernel}")
        else:
            done.append(shrunk)
    lines = part(done, missed)
    if not options.no_pages:
        put_between_markers(DOCS / "strategies.md", "shrunk", lines)
    if options.json:
        print(json.dumps([attrs.asdict(shrunk) for shrunk in done]))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
    return int(bool(missed) or any(shrunk.matter > GOAL for shrunk in done))


def part(done: Iterable[Shrunk], missed: Sequence[str]) -> list[str]:
    """The table, one line a row, with ranges over its kernels."""
    by_row: dict[str, list[Shrunk]] = {}
    for shrunk in done:
        by_row.setdefault(shrunk.row, []).append(shrunk)
    lines = [
        [
            slug,
            f"{len(of_row)}",
            span(one.found for one in of_row),
            span(one.shrunk for one in of_row),
            span(one.switches for one in of_row),
            span(one.matter for one in of_row),
        ]
        for slug, of_row in by_row.items()
    ]
    header = ["flaw", "kernels", "steps of the race", "shrunk", "switches", "steps that matter"]
    return [*markdown_table(header, lines), *(["", f"Not found: {', '.join(missed)}."] if missed else [])]


def span(counts: Iterable[int]) -> str:
    """A number, or the range of several."""
    found = sorted(counts)
    return str(found[0]) if found[0] == found[-1] else f"{found[0]} to {found[-1]}"
