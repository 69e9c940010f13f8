"""`python -m benchmarks coverage`: the kernel functions that no race of any scenario enters, for docs/coverage.md.

On each kernel with each allocator, `random` runs every scenario several times. A function called between set-up and
wind-up is reached in a race. The page gives a reason for every other function. This is a measurement of the scenarios,
so it has no goal; `tests/docs/test_coverage.py` compares the page with it.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from actors.system.observer import Observer
from actors.versions.kernel_fn import KernelFn, functions
from actors.versions.profiles import ALLOCATORS, profile_range
from benchmarks.findings import SHORT
from benchmarks.pages import DOCS, markdown_table, put_between_markers
from explorer.experiment import Experiment, RunOptions
from explorer.profile import seed_of
from explorer.search.registry import make_strategy
from protocol.vocabulary import PROFILES
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from actors.machine.context import Context

PAGE = DOCS / "coverage.md"
SCHEDULES, ROUND = 240, 12
ROW = re.compile(r"^\| `(?P<function>\w+)` \| (?P<kernels>[^|]+) \| (?P<allocators>[^|]+) \| (?P<why>[^|]+) \|$")


@attrs.frozen
class Variation:
    """Settings of a scenario, and fault probabilities."""

    settings: Mapping[str, str] = attrs.field(factory=dict)
    faults: Mapping[str, float] = attrs.field(factory=dict)


VARIATIONS: dict[str, tuple[Variation, ...]] = {
    "readers-vs-rmdir": (Variation({"kpagecgroup": "yes"}), Variation({"cgroup": "v2"})),
    "bulk-allocation": (Variation(faults={"page": 0.2}),),
}
"""Additional runs of a scenario, for parts of the kernel that its defaults leave out."""

Machine = tuple[str, str]
"""A kernel and an allocator."""

MACHINES: tuple[Machine, ...] = tuple(itertools.product(PROFILES, ALLOCATORS))


# -- entered functions ------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Entries(Observer):
    """An observer that collects the kernel functions that are called in the race."""

    names: set[str] = attrs.field(factory=set)
    _is_racing: bool = False

    def watchers(
        self, functions: Iterable[KernelFn[..., object]]
    ) -> dict[KernelFn[..., object], Callable[[Context], None]]:
        """A callback for each entry into one of *functions*."""
        return {function: functools.partial(self.enter, function.name) for function in functions}

    def enter(self, name: str, _ctx: Context) -> None:
        """A flow calls the function."""
        if self._is_racing:
            self.names.add(name)

    def phase(self, name: str) -> None:
        """Remember whether the race is on: only its calls count."""
        self._is_racing = name == "race"


def functions_of(kernel: str, allocator: str) -> dict[str, KernelFn[..., object]]:
    """The kernel functions of such a machine, by name."""
    return {name: function for name, function in functions().items() if function.body(kernel, allocator) is not None}


def entered(
    scenario: str, kernel: str, allocator: str, schedules: Iterable[int], variation: Variation | None = None
) -> set[str]:
    """The functions that the races of these schedules of the scenario call."""
    variation = variation or Variation()
    options = RunOptions(
        scenario=scenario,
        kernel=kernel,
        strategy="random",
        driver="stepper",
        settings={**dict(SHORT.get(scenario, ())), **variation.settings, "allocator": allocator},
        faults=variation.faults,
    )
    experiment = Experiment.of(options)
    entries = Entries()
    watchers = entries.watchers(functions_of(kernel, allocator).values())
    for number in schedules:
        stage = experiment.set_stage(make_strategy("random", seed_of(0, number)))
        stage.machine.functions = stage.machine.functions.watched(watchers)
        stage.world.observers = (entries,)
        stage.start()
        experiment.drive(stage.world)
    return entries.names


def unreached(machine: Machine, expected: set[str], schedules: int = SCHEDULES) -> set[str]:
    """The functions of *machine* that no race of any scenario enters, within so many schedules of each.

    The search ends earlier once all functions but the *expected* ones have been entered.
    """
    kernel, allocator = machine
    missing = set(functions_of(kernel, allocator))
    for first in range(0, schedules, ROUND):
        if missing <= expected:
            break
        numbers = range(first, min(first + ROUND, schedules))
        for scenario in SCENARIOS:
            for variation in (None, *VARIATIONS.get(scenario.name, ())):
                missing -= entered(scenario.name, kernel, allocator, numbers, variation)
    return missing


# -- the page ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Excuse:
    """A row of the page: a function that no race enters on some machines, and why not."""

    function: str
    machines: frozenset[Machine]
    why: str


def read_excuses(page: str) -> list[Excuse]:
    """The hand-written rows."""
    return [excuse_of(match) for match in map(ROW.match, page.splitlines()) if match is not None]


def excuse_of(row: re.Match[str]) -> Excuse:
    """The meaning of a row; `all` kernels, or a range of them; `both` allocators, or one."""
    kernels = PROFILES if row["kernels"] == "all" else profile_range(row["kernels"])
    allocators = ALLOCATORS if row["allocators"] == "both" else (row["allocators"],)
    return Excuse(row["function"], frozenset(itertools.product(kernels, allocators)), row["why"])


def excused(excuses: Iterable[Excuse], machine: Machine) -> set[str]:
    """The functions that no race of that machine enters, according to the page."""
    return {excuse.function for excuse in excuses if machine in excuse.machines}


def table(excuses: Iterable[Excuse]) -> list[str]:
    """One row a machine: the number of its functions, and of those entered in a race."""
    rows = list(excuses)
    header = ["kernel", *(f"{allocator}: {what}" for allocator in ALLOCATORS for what in ("functions", "in a race"))]
    lines = []
    for kernel in PROFILES:
        figures = []
        for allocator in ALLOCATORS:
            there = functions_of(kernel, allocator)
            missing = excused(rows, (kernel, allocator))
            figures += [str(len(there)), str(len(there.keys() - missing))]
        lines.append([kernel, *figures])
    return markdown_table(header, lines)


def run(options: argparse.Namespace) -> int:
    """Update the table. Unless only that is wanted, measure and print the errors of the page."""
    page = Path(options.page)
    excuses = read_excuses(page.read_text(encoding="utf-8"))
    wrong = False
    for kernel, allocator in () if options.table else MACHINES:
        if (options.kernel and kernel not in options.kernel) or options.allocator not in {None, allocator}:
            continue
        began = time.monotonic()
        expected = excused(excuses, (kernel, allocator))
        missing = unreached((kernel, allocator), expected, options.schedules)
        print(
            f"{time.monotonic() - began:6.1f} s  {kernel} {allocator}: {len(missing)} functions in no race", flush=True
        )
        for text, names in (("no reason for", missing - expected), ("reached after all", expected - missing)):
            if names:
                wrong = True
                print(f"          {text}: {', '.join(sorted(names))}")
    put_between_markers(page, "coverage", table(excuses))
    return int(wrong)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m benchmarks coverage`."""
    parser.add_argument("--kernel", action="append", default=[], choices=tuple(PROFILES), help="only these kernels")
    parser.add_argument("--allocator", choices=tuple(ALLOCATORS), help="only this allocator")
    parser.add_argument("--schedules", type=int, default=SCHEDULES, metavar="N", help="schedules of each scenario")
    parser.add_argument("--table", action="store_true", help="run nothing; only bring the page's table up to date")
    parser.add_argument("--page", default=str(PAGE), metavar="FILE", help="the page")
