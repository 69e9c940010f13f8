"""`python -m benchmarks findings`: the findings of every scenario on every kernel, for docs/findings.md.

This is a measurement of the kernels, not of slabrace, so it has no goal. Each campaign of `plan` is run once, and its
findings go to a JSON file, one line a campaign. A campaign that is already in the file is not run again. So the work
can be interrupted, continued, and repeated for kernels whose model has changed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from benchmarks.findings_page import PAGE, RESULTS, Cell, read_results, update_page, write_results
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from protocol.errors import UsageError
from protocol.vocabulary import KERNELS, PROFILES, STEPS, TODAY
from scenarios import OF_TODAY, SCENARIOS, find_scenario

SHORT: dict[str, tuple[tuple[str, str], ...]] = {
    "shared-dentry": (("generations", "2"), ("files", "2"), ("every", "1")),
}
"""Smaller parameters for scenarios whose schedules take more than 0.3 s with their defaults."""

SLOW = (*SHORT, "traced-create", "traced-rmdir-idle", "traced-rmdir-held")
"""The scenarios that come last, so that an interrupted study has tried the races."""

FIXED, MERGED, LAST = "5.4-fixed", "5.3", "v7"
RANDOM_BUDGET, LONG_BUDGET, PORTFOLIO_BUDGET, OLDER_BUDGET = 1_000, 300, 100, 60
"""In schedules; `OLDER_BUDGET` is for the kernels before the last posted version, the steps of v4, and today's."""
LONG = ("rmdir-under-load", "nested")
RARE = (
    "create-vs-destroy-merged",
    "destroy-vs-offline",
    "offline-vs-exit",
    "free-vs-destroy",
    "softirq-free-vs-destroy",
)
"""Scenarios with findings in 5.4-fixed that few schedules of `random` show; `portfolio` tries them, too."""
SMALL = ("allocate-and-block", "reclaim-in-charge", "create-vs-destroy")
"""The scenarios that dpor explores exhaustively, with either allocator."""
EXACT = {"offline-vs-free": (FIXED, MERGED), "offline-vs-destroy": (FIXED, MERGED, "v2", "v3")}
"""The scenarios, with their kernels, that dpor explores as far as it gets within `EXACT_BUDGET` schedules."""
SMALL_BUDGET, EXACT_BUDGET = 5_000, 1_000
GENERATED = "mixed-operations"
"""The scenario whose programs are generated; other parameters are other programs, whose campaigns are `PROGRAMS`."""
PROGRAMS: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
    *(((FIXED, MERGED), {"workload": str(number)}) for number in range(1, 6)),
    ((MERGED, "v2"), {"workload": "423", "tasks": "2", "operations": "7", "cgroups": "4", "cpus": "3", "cgroup": "v1"}),
    (("v3", "v6"), {"workload": "428", "tasks": "4", "operations": "7", "cgroups": "1"}),
    (("v3", "v4"), {"workload": "406", "operations": "5", "caches": "3", "cpus": "3"}),
    (("v1",), {"workload": "408", "tasks": "2", "operations": "7", "cgroups": "1", "caches": "1"}),
)
PROGRAM_BUDGET = 60
DEEPER: tuple[tuple[str, str, int], ...] = (
    *(("destroy-vs-offline", kernel, 4_000) for kernel in ("v2", "v3", "v4", "v5", "v6", LAST, MERGED)),
    ("offline-vs-destroy", MERGED, 1_500),
    ("offline-vs-exit", MERGED, 1_000),
    ("sysfs-vs-shutdown", MERGED, 1_500),
    ("id-reuse", MERGED, 300),
    ("id-reuse", FIXED, 300),
    ("free-vs-destroy", MERGED, 1_500),
)
"""Stages, kernels and budgets of the guided search: a campaign of `stress` has shown more there than the others."""


def plan() -> list[Cell]:
    """The campaigns to run; first the ones that must find nothing new."""
    names = [scenario.name for scenario in SCENARIOS]
    both = ("slub", "slab")
    cells = [cell(name, FIXED, allocator, "random", RANDOM_BUDGET) for name in names for allocator in both]
    cells += [cell(name, FIXED, allocator, "portfolio", RANDOM_BUDGET) for name in RARE for allocator in both]
    cells += [cell(name, MERGED, allocator, "random", LONG_BUDGET) for name in LONG for allocator in both]
    for kernel in (kernel for kernel in PROFILES if kernel != FIXED):
        budget = PORTFOLIO_BUDGET if kernel in {LAST, MERGED} else OLDER_BUDGET
        cells += [
            cell(scenario.name, kernel, str(scenario.values({})["allocator"]), "portfolio", budget)
            for scenario in SCENARIOS
        ]
    cells += [
        cell(GENERATED, kernel, allocator, "random", PROGRAM_BUDGET, **settings)
        for kernels, settings in PROGRAMS
        for kernel in kernels
        for allocator in both
    ]
    cells += [
        cell(name, step, allocator, "portfolio", OLDER_BUDGET) for step in STEPS for name in names for allocator in both
    ]
    cells += [cell(name, kernel, "slub", "guided", budget) for name, kernel, budget in DEEPER]
    cells += [
        cell(scenario.name, kernel, "slub", "portfolio", OLDER_BUDGET)
        for kernel in TODAY
        for scenario in (*SCENARIOS, *OF_TODAY)
        if not scenario.kernels or kernel in scenario.kernels
    ]
    cells.sort(key=lambda wanted: wanted.scenario in SLOW)
    cells += [
        cell(name, kernel, allocator, "dpor", SMALL_BUDGET)
        for name in SMALL
        for allocator in both
        for kernel in (FIXED, MERGED)
    ]
    cells += [cell(name, kernel, "slub", "dpor", EXACT_BUDGET) for name, kernels in EXACT.items() for kernel in kernels]
    return cells


def cell(scenario: str, kernel: str, allocator: str, strategy: str, budget: int, **more: str) -> Cell:
    """One campaign that is still to be run; *more* are settings of its own."""
    settings = {"allocator": allocator, **dict(SHORT.get(scenario, ())), **more}
    return Cell(scenario=scenario, kernel=kernel, settings=settings, strategy=strategy, budget=budget)


def measure(wanted: Cell) -> Cell:
    """Run the campaign; return it with its findings."""
    options = RunOptions(
        scenario=wanted.scenario,
        kernel=wanted.kernel,
        strategy=wanted.strategy,
        driver="stepper",
        settings=wanted.settings,
    )
    campaign = Campaign(Experiment.of(options), options, budget=wanted.budget)
    began = time.process_time()
    campaign.run()
    if campaign.stopped == "interrupted":
        raise KeyboardInterrupt
    findings: dict[str, Any] = {
        signature: {"count": found.count, "first": found.first_schedule, "message": found.finding.message}
        for signature, found in sorted(campaign.found.items())
    }
    return attrs.evolve(
        wanted,
        schedules=campaign.schedules,
        steps=campaign.statistics.steps[1],
        findings=findings,
        unreached=sorted(campaign.unreached or ()),
        stopped=campaign.stopped,
        classes=campaign.classes,
        cut_off=campaign.cut_off,
        seconds=round(time.process_time() - began, 1),
    )


def run(options: argparse.Namespace) -> int:
    """Run the missing campaigns of the plan, save after each, then update the page."""
    path = Path(options.results)
    results = read_results(path)
    for wanted in chosen(plan(), options):
        if options.table or (wanted.key in results and not options.again):
            continue
        began = time.monotonic()
        done = results[wanted.key] = measure(wanted)
        write_results(path, results)
        if not options.json:
            print(f"{time.monotonic() - began:6.1f} s  {done.line}", flush=True)
    if options.json:
        print(json.dumps([attrs.asdict(result) for result in results.values()]))
    if not options.no_page:
        update_page(Path(options.page), results)
    return 0


def chosen(cells: Iterable[Cell], options: argparse.Namespace) -> list[Cell]:
    """The cells that the options select."""
    for kernel in options.kernel:
        if kernel not in KERNELS:
            msg = f"--kernel {kernel}: there is no such kernel; there are {', '.join(KERNELS)}"
            raise UsageError(msg)
    names = {find_scenario(name).name for name in options.scenario}
    return [
        wanted
        for wanted in cells
        if (not options.kernel or wanted.kernel in options.kernel)
        and (not names or wanted.scenario in names)
        and options.allocator in {None, wanted.settings["allocator"]}
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m benchmarks findings`."""
    parser.add_argument("--kernel", action="append", default=[], metavar="K", help="only these kernels")
    parser.add_argument("--scenario", action="append", default=[], metavar="S", help="only these scenarios")
    parser.add_argument("--allocator", choices=("slub", "slab"), help="only this allocator")
    parser.add_argument("--again", action="store_true", help="run campaigns again that have results")
    parser.add_argument("--table", action="store_true", help="run nothing; only update the page")
    parser.add_argument("--results", default=RESULTS, metavar="FILE", help="the file of results")
    parser.add_argument("--page", default=PAGE, metavar="FILE", help="the page with the table")
    parser.add_argument("--no-page", action="store_true", help="leave the page alone")
    parser.add_argument("--json", action="store_true", help="print all results as one JSON list")
