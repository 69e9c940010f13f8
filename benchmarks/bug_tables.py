"""The tables of `bugs`: profiles by row, and strategies by row."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from benchmarks.pages import markdown_table
from benchmarks.report import Machine
from benchmarks.rows import Kernel, Row
from benchmarks.trials import Results, Task, Trial
from protocol.vocabulary import PROFILES

NEVER = float("inf")
MOST_SEEDS = 1_000


@attrs.define
class Made:
    """The trials of these rows, with these budgets and strategies, from `first_seed` on."""

    results: Results
    rows: Sequence[Row]
    budget: int
    cured_budget: int
    strategies: Sequence[str]
    first_seed: int = 0

    def trials(self, row: Row, kernel: Kernel, strategy: str = "portfolio") -> dict[int, Trial]:
        """The trials by seed."""
        found = {}
        budget = self.cured_budget if kernel in row.cured else self.budget
        for seed in range(self.first_seed, self.first_seed + MOST_SEEDS):
            trial = self.results.get(Task(row, kernel, strategy, seed, budget))
            if trial is None:
                break
            found[seed] = trial
        return found

    def compared(self, row: Row) -> dict[str, list[Trial]]:
        """The trials of each strategy on the youngest kernel, for the seeds common to all; empty if there are none."""
        by_strategy = {name: self.trials(row, row.having[-1], name) for name in self.strategies}
        seeds = set.intersection(*(set(trials) for trials in by_strategy.values()))
        return {name: [trials[s] for s in sorted(seeds)] for name, trials in by_strategy.items()} if seeds else {}

    @property
    def is_as_expected(self) -> bool:
        """Whether every expected flaw was found, and no other."""
        missed = any(
            trials and not any(trial.is_found for trial in trials.values())
            for row in self.rows
            for kernel in row.having
            for trials in [self.trials(row, kernel)]
        )
        return not missed and not any(self.wrong())

    def wrong(self) -> Iterator[str]:
        """The trials that found a flaw on a kernel without it."""
        for row in self.rows:
            for kernel in row.cured:
                for seed, trial in self.trials(row, kernel).items():
                    if trial.is_found:
                        yield f"{row.slug} on {kernel}, seed {seed}: {trial.signature}"


def median(trials: Iterable[Trial]) -> float:
    """The median number of schedules to the flaw; trials that did not find it count as infinity."""
    return statistics.median_high([NEVER if trial.first is None else trial.first for trial in trials])


def figure(trials: Sequence[Trial], budget: int) -> str:
    """The median, and the number of successful trials unless all were."""
    found = sum(trial.is_found for trial in trials)
    middle = median(trials)
    text = f"> {budget}" if middle == NEVER else f"{middle:.0f}"
    return text if found == len(trials) else f"{text} ({found}/{len(trials)})"


# -- profile by row ---------------------------------------------------------------------------------------------------


def findings_page(made: Made) -> list[str]:
    """The page: the kernels that show each row."""
    return [
        "# Which kernel shows which flaw",
        "",
        "This page is made by `python -m benchmarks bugs`. [findings.md](findings.md) judges the findings, and",
        "[strategies.md](strategies.md) compares the strategies.",
        "",
        *kernels_part(made),
    ]


def kernels_part(made: Made) -> list[str]:
    """The table of the plain profiles, the table of the patched ones, and the verdict."""
    seeds, cured = counted_seeds(made)
    wrong = list(made.wrong())
    return [
        "A figure is the number of schedules until `portfolio` finds the flaw: the median over the seeds (number of",
        f"seeds: {seeds}). A trial has at most {made.budget} schedules; (n/m): only n of m trials found the flaw.",
        "∅: the kernel should not have the flaw, and no trial found it, either in",
        f"{made.cured_budget} schedules or until all trace classes were explored (number of seeds: {cured}).",
        "A blank cell was not tried. A flaw that needs no race is found by the first schedule.",
        "",
        *markdown_table(["flaw", *PROFILES], (plain_cells(made, row) for row in made.rows)),
        "",
        "Kernels with patches: +FIX adds the fix to the profile, -FIX removes it.",
        "",
        *markdown_table(["flaw", "kernel", "has the flaw", "schedules"], patched_cells(made)),
        "",
        *(f"- {row.slug}: {row.note}." for row in made.rows if row.note),
        "",
        *(
            [f"**Found on kernels that should not have the flaw**: {'; '.join(wrong)}."]
            if wrong
            else ["No flaw was found on a kernel that should not have it."]
        ),
    ]


def counted_seeds(made: Made) -> tuple[str, str]:
    """The numbers of seeds tried on kernels with the flaw, and on kernels without it."""
    having = {len(made.trials(row, kernel)) for row in made.rows for kernel in row.having} - {0}
    cured = {len(made.trials(row, kernel)) for row in made.rows for kernel in row.cured} - {0}
    return span(having), span(cured)


def span(counts: set[int]) -> str:
    """A number, or the range of several."""
    return f"{min(counts, default=0)} to {max(counts)}" if len(counts) > 1 else str(min(counts, default=0))


def plain_cells(made: Made, row: Row) -> list[str]:
    """The row of the first table."""
    return [row.slug, *(cell(made, row, Kernel(profile)) for profile in PROFILES)]


def patched_cells(made: Made) -> Iterator[list[str]]:
    """The rows of the second table."""
    for row in made.rows:
        for kernel in (*row.having, *row.cured):
            if (kernel.patches or kernel.without) and (text := cell(made, row, kernel)):
                yield [row.slug, str(kernel), "yes" if kernel in row.having else "no", text]


def cell(made: Made, row: Row, kernel: Kernel) -> str:
    """The result of one row on one kernel."""
    trials = list(made.trials(row, kernel).values())
    if not trials or kernel not in (*row.having, *row.cured):
        return ""
    if kernel in row.having:
        return figure(trials, made.budget)
    found = sum(trial.is_found for trial in trials)
    return f"**{found}/{len(trials)}**" if found else "∅"


def today_part(made: Made) -> list[str]:
    """The table of the flaws of the kernels of today, each with its stage."""
    seeds, cured = counted_seeds(made)
    table = [
        [row.slug, row.stage, str(kernel), "yes" if kernel in row.having else "no", cell(made, row, kernel)]
        for row in made.rows
        for kernel in (*row.having, *row.cured)
    ]
    return [
        f"Schedules until `portfolio` finds the flaw: the median over {seeds} seeds; at most {made.budget} in a trial,",
        f"(n/m): only n of m found it. ∅: not found in {made.cured_budget} schedules (seeds: {cured}). -FIX removes a",
        "fix from the profile, +NAME adds a weaker form.",
        "",
        *markdown_table(["flaw", "stage", "kernel", "has it", "schedules"], table),
    ]


# -- strategy by row --------------------------------------------------------------------------------------------------


def strategies_part(made: Made) -> list[str]:
    """The table of the strategies, with their speed."""
    compared = {row.slug: (row, trials) for row in made.rows if (trials := made.compared(row))}
    counts = {len(trials["portfolio"]) for _, trials in compared.values()}
    table = [
        [f"{slug}, {row.having[-1]}", *(figure(trials[name], made.budget) for name in made.strategies)]
        for slug, (row, trials) in compared.items()
    ]
    by_strategy = {name: [t for _, trials in compared.values() for t in trials[name]] for name in made.strategies}
    return [
        "A figure is the number of schedules until the flaw is found, on the last kernel that has it: the median over",
        f"the seeds (number of seeds: {span(counts)}). A trial has at most {made.budget} schedules; (n/m): only n of m",
        "trials found the flaw.",
        machine_line(),
        "",
        *markdown_table(
            ["flaw, kernel", *made.strategies],
            [*table, *([] if not table else totals(by_strategy))],
        ),
    ]


def totals(by_strategy: dict[str, list[Trial]]) -> list[list[str]]:
    """The last lines of the table: flaws found in all, and schedules per second."""
    found = [f"{sum(t.is_found for t in trials)}/{len(trials)}" for trials in by_strategy.values()]
    rates = [
        f"{sum(t.schedules for t in trials) / max(sum(t.seconds for t in trials), 1e-9):.0f}"
        for trials in by_strategy.values()
    ]
    return [["**found in all**", *found], ["**schedules/s**", *rates]]


def machine_line() -> str:
    """The machine on which the rates were measured."""
    machine = Machine.here()
    return f"Rates are per second of one processor, with all oracles on: {machine.python} on {machine.system}."


# -- for programs -----------------------------------------------------------------------------------------------------


def as_json(made: Made) -> dict[str, Any]:
    """The tables as one JSON object."""
    return {
        "budget": made.budget,
        "cured_budget": made.cured_budget,
        "code": made.results.code,
        "as_expected": made.is_as_expected,
        "wrong": list(made.wrong()),
        "trials": [
            {
                "row": row.slug,
                "kernel": str(kernel),
                "strategy": strategy,
                "seed": seed,
                "expected": kernel in row.having,
                **attrs.asdict(trial, filter=attrs.filters.exclude("stage")),
            }
            for row in made.rows
            for kernel in (*row.having, *row.cured)
            for strategy in made.strategies
            for seed, trial in made.trials(row, kernel, strategy).items()
        ],
    }
