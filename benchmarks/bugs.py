"""`bugs`: for each historical bug, the strategies that find it and their speed, the kernels with it and without it.

`python -m benchmarks bugs` makes every trial and writes the tables into docs/; options select a part, and a stopped run
can be continued. It takes hours, so it runs only when named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.bug_tables import Made, as_json, findings_page, strategies_part, today_part
from benchmarks.pages import DOCS, put_between_markers
from benchmarks.rows import ROWS, Kernel, Row, check_profiles, find_rows
from benchmarks.rows_today import ROWS_TODAY
from benchmarks.trials import Results, Task, search_all
from explorer import defaults
from explorer.search.registry import check_strategy
from protocol.atomic import write_file
from protocol.errors import UsageError
from protocol.names import no_such

PARTS = ("kernels", "cured", "strategies")
PAGES = ("strategies.md", "findings-table.md")
SAMPLERS = ("random", "urw", "surw", "pos", "pct:2", "pct:3", "pct:4")
RESULTS = Path("build/bugs.json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `bugs`."""
    parser.add_argument("--parts", nargs="+", default=[*PARTS], metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--today", action="store_true", help="the flaws of 6.12 and later kernels, on portfolio alone")
    parser.add_argument("--rows", nargs="+", default=[], metavar="SLUG", help="only these rows")
    parser.add_argument("--kernels", nargs="+", default=[], metavar="K", help="only these profiles")
    parser.add_argument("--strategies", nargs="+", default=[*SAMPLERS], metavar="S", help="besides portfolio")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="trials of the portfolio on each kernel")
    parser.add_argument("--sampler-seeds", type=int, default=5, metavar="N", help="trials of each other strategy")
    parser.add_argument("--cured-seeds", type=int, default=1, metavar="N", help="trials on each cured kernel")
    parser.add_argument("--budget", type=int, default=defaults.BUDGET, metavar="SCHEDULES", help="of one trial")
    parser.add_argument("--cured-budget", type=int, default=defaults.BUDGET, metavar="SCHEDULES", help="of a cured one")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="number of parallel trials")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help=f"default: {RESULTS}")
    parser.add_argument("--any-code", action="store_true", help="continue with results of other code")
    parser.add_argument("--pages", nargs="*", default=[*PAGES], metavar="PAGE", help=f"of docs/: {', '.join(PAGES)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(options: argparse.Namespace) -> int:
    """Make the trials and print the tables; 1 if a row is missed where it exists, or found where it does not."""
    check(options)
    rows = find_rows(options.rows, ROWS_TODAY if options.today else ROWS)
    results = Results.load(options.results, any_code=options.any_code)
    make(list(tasks_of(options, rows)), results, options.processes)
    made = Made(
        results, rows, options.budget, options.cured_budget, [*dict.fromkeys(["portfolio", *options.strategies])]
    )
    if options.today:
        return tell_today(made, options)
    if "strategies.md" in options.pages:
        put_between_markers(DOCS / "strategies.md", "bugs", strategies_part(made))
    if "findings-table.md" in options.pages:
        write_file(DOCS / "findings-table.md", "\n".join([*findings_page(made), ""]), overwrite=True)
    if options.json:
        print(json.dumps(as_json(made)))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
        for line in (*findings_page(made), "", *strategies_part(made)):
            console.print(line, markup=False, soft_wrap=True)
    return 0 if made.is_as_expected else 1


def tell_today(made: Made, options: argparse.Namespace) -> int:
    """Write the table of the kernels of today into its page, and print it."""
    lines = today_part(made)
    if options.pages:
        put_between_markers(DOCS / "today.md", "bugs", lines)
    print(json.dumps(as_json(made)) if options.json else "\n".join(lines))
    return 0 if made.is_as_expected else 1


def check(options: argparse.Namespace) -> None:
    """UsageError if an option is invalid."""
    for part in options.parts:
        if part not in PARTS:
            msg = f"--parts {part}: {no_such('part', part, PARTS)}"
            raise UsageError(msg)
    for page in options.pages:
        if page not in PAGES:
            msg = f"--pages {page}: {no_such('page', page, PAGES)}"
            raise UsageError(msg)
    check_profiles(options.kernels)
    for strategy in options.strategies:
        check_strategy(strategy)


def tasks_of(options: argparse.Namespace, rows: Sequence[Row]) -> Iterator[Task]:
    """The trials of the selected parts."""
    parts: dict[str, Iterator[tuple[Row, Kernel, str, int]]] = {
        "kernels": (
            (row, kernel, "portfolio", seed)
            for seed in range(options.seeds)
            for row in rows
            for kernel in chosen(row.having, options.kernels)
        ),
        "cured": (
            (row, kernel, "portfolio", seed)
            for seed in range(options.cured_seeds)
            for row in rows
            for kernel in chosen(row.cured, options.kernels)
        ),
        "strategies": (
            (row, kernel, strategy, seed)
            for seed in range(options.sampler_seeds)
            for row in rows
            if not row.needs_no_race
            for kernel in youngest(row, options.kernels)
            for strategy in ("portfolio", *options.strategies)
        ),
    }
    for part in options.parts:
        if part == "strategies" and options.today:
            continue
        for row, kernel, strategy, seed in parts[part]:
            budget = options.cured_budget if part == "cured" else options.budget
            yield Task(row, kernel, strategy, seed, budget)


def chosen(kernels: Sequence[Kernel], profiles: Sequence[str]) -> list[Kernel]:
    """The kernels of the selected profiles."""
    return [kernel for kernel in kernels if not profiles or kernel.profile in profiles]


def youngest(row: Row, profiles: Sequence[str]) -> list[Kernel]:
    """The last kernel with the flaw, on which strategies are compared."""
    return chosen(row.having, profiles)[-1:]


def make(tasks: Sequence[Task], results: Results, processes: int) -> None:
    """Make the trials that are missing in the results."""
    console = Console(stderr=True, highlight=False)
    missing = [task for task in dict.fromkeys(tasks) if results.get(task) is None]
    for number, (task, trial) in enumerate(search_all(missing, processes), start=1):
        results.add(task, trial)
        told = f"found by {trial.first} schedules" if trial.is_found else f"not found in {trial.schedules} schedules"
        line = f"{number} of {len(missing)}: {task.key}: {told}, {trial.seconds:.1f} s"
        console.print(line, markup=False, soft_wrap=True)
