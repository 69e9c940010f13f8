"""`guided`: the guided search against the portfolio, on the historical bugs that need a race.

Trials are those of `bugs`, on the last kernel that has the flaw, with the same seeds for both searches. The table goes
into docs/strategies.md. With `--first-seed`, they are of other seeds than those on which the search was tuned; then the
page stays as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.bug_tables import Made, figure, median
from benchmarks.bugs import make, youngest
from benchmarks.pages import DOCS, markdown_table, put_between_markers
from benchmarks.rows import Row, find_rows
from benchmarks.trials import Results, Task, Trial
from explorer.search.registry import GUIDED, PORTFOLIO

RESULTS = Path("build/guided.json")
HARDEST = (
    "exit-during-atomic-switch",
    "synchronize-rcu-only",
    "partial-limit-not-visible",
    "wq-lock-not-irq-safe (deadlock)",
    "flush-only",
)
"""The rows that took the portfolio longest; the others are the ones on which guidance must not cost anything."""

MOST_OF_HARDEST, MOST_OF_OTHERS = 0.5, 1.1
"""The goals: the median of guided, as a multiple of the portfolio's."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `guided`."""
    parser.add_argument("--rows", nargs="+", default=[], metavar="SLUG", help="only these rows")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="trials of each search")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N", help="seed of the first trial (default: 0)")
    parser.add_argument("--budget", type=int, default=2_000, metavar="SCHEDULES", help="of one trial")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="number of parallel trials")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help=f"default: {RESULTS}")
    parser.add_argument("--any-code", action="store_true", help="continue with results of other code")
    parser.add_argument("--no-pages", action="store_true", help="leave docs/ alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(options: argparse.Namespace) -> int:
    """Make the trials and print the table; 1 if a goal is missed."""
    rows = [row for row in find_rows(options.rows) if not row.needs_no_race]
    results = Results.load(options.results, any_code=options.any_code)
    tasks = [
        Task(row, kernel, strategy, seed, options.budget)
        for row in rows
        for kernel in youngest(row, [])
        for strategy in (PORTFOLIO, GUIDED)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
    ]
    make(tasks, results, options.processes)
    made = Made(results, rows, options.budget, options.budget, [PORTFOLIO, GUIDED], options.first_seed)
    compared = [Compared(row, **trials) for row in rows if (trials := made.compared(row))]
    lines = page(compared, options.budget)
    if not (options.no_pages or options.first_seed):
        put_between_markers(DOCS / "strategies.md", "guided", lines)
    if options.json:
        print(json.dumps({"budget": options.budget, "rows": [one.as_json() for one in compared]}))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
    return 0 if all(one.is_met for one in compared) else 1


class Compared:
    """One row: the trials of both searches, with the same seeds."""

    def __init__(self, row: Row, portfolio: Sequence[Trial], guided: Sequence[Trial]) -> None:
        self.row = row
        self.portfolio = portfolio
        self.guided = guided

    @property
    def ratio(self) -> float:
        """The median of guided, as a multiple of the portfolio's."""
        return median(self.guided) / median(self.portfolio)

    @property
    def goal(self) -> float:
        """The largest ratio that meets the goal."""
        return MOST_OF_HARDEST if self.row.slug in HARDEST else MOST_OF_OTHERS

    @property
    def is_met(self) -> bool:
        """Whether the goal is met."""
        return self.ratio <= self.goal

    def cells(self, budget: int) -> list[str]:
        """The row of the table."""
        found = [f"{sum(t.is_found for t in trials)}/{len(trials)}" for trials in (self.portfolio, self.guided)]
        verdict = f"at most {self.goal:g}{'' if self.is_met else ', **missed**'}"
        figures = [figure(trials, budget).partition(" (")[0] for trials in (self.portfolio, self.guided)]
        name = f"{self.row.slug}, {self.row.having[-1]}"
        return [name, figures[0], found[0], figures[1], found[1], f"{self.ratio:.2f}", verdict]

    def as_json(self) -> dict[str, object]:
        """The row for programs; JSON has no number for the ratio of a search that mostly misses the flaw."""
        firsts = {name: [t.first for t in trials] for name, trials in self.trials}
        ratio = self.ratio if math.isfinite(self.ratio) else None
        return {"row": self.row.slug, "first": firsts, "ratio": ratio, "goal": self.goal, "is_met": self.is_met}

    @property
    def trials(self) -> list[tuple[str, Sequence[Trial]]]:
        """The trials by search."""
        return [(PORTFOLIO, self.portfolio), (GUIDED, self.guided)]


def page(compared: Iterable[Compared], budget: int) -> list[str]:
    """The table, with its explanation."""
    compared = sorted(compared, key=lambda one: one.goal)
    missed = sum(not one.is_met for one in compared)
    return [
        "A figure is the number of schedules until the flaw is found, on the last kernel that has it: the median over",
        f"seeds that are the same for both searches. A trial has at most {budget} schedules; n of m trials found the",
        f"flaw. The ratio is that of the medians. Goals missed: {missed} of {len(compared)}.",
        "",
        *markdown_table(
            ["flaw, kernel", PORTFOLIO, "found", GUIDED, "found", "ratio", "goal"],
            [one.cells(budget) for one in compared],
        ),
    ]
