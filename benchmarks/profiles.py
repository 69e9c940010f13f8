"""`profiles`: the cost of a step on the kernels of today, relative to a step of 5.3.

A schedule of another kernel has other steps, so schedules are compared by their steps: the same scenarios, from the
same seeds, on each kernel in turn. A step costs more where a section with IRQs off is longer, for that is one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from benchmarks.measure import how, race
from benchmarks.report import Ratio, Report, Row
from explorer.experiment import RunOptions
from explorer.session import run
from protocol.vocabulary import TODAY

SCENARIOS = ("rmdir-under-load", "shared-partials", "dentries-vs-rmdir", "charge-vs-charge", "mixed-operations")
BASELINE = "5.3"
SEEDS = 10
ROUNDS = 7


def profiles(*, scenarios: Sequence[str] = SCENARIOS, seeds: int = SEEDS, rounds: int = ROUNDS) -> Report:
    """Steps per second on 5.3 and on the kernels of today, by scenario; no step may cost 1.2 times one of 5.3."""
    kernels = (BASELINE, *TODAY)
    rows, ratios = [], []
    for scenario in scenarios:
        options = RunOptions(scenario=scenario, driver="stepper")
        found = race(
            {kernel: partial(steps_of, attrs.evolve(options, kernel=kernel), seeds) for kernel in kernels},
            rounds=rounds,
        )
        rows += [Row(f"{scenario} on {kernel}", found.rate(kernel), "steps/s") for kernel in kernels]
        ratios += [
            Ratio(f"{scenario}: {kernel} / {BASELINE}", found.ratio(kernel, BASELINE), goal=1 / 1.2) for kernel in TODAY
        ]
    notes = (f"strategy random, seeds 0 to {seeds - 1}, set-up included", how(rounds))
    return Report(name="profiles", rows=tuple(rows), ratios=tuple(ratios), notes=notes)


def steps_of(options: RunOptions, seeds: int) -> int:
    """Run once with each seed; return the steps of all."""
    return sum(run(attrs.evolve(options, seed=seed)).steps for seed in range(seeds))
