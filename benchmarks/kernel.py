"""`kernel`: the cost of a step of kernel code on either driver, and the resulting number of short runs per second.

The scenario is `rmdir-under-load`, once with so many objects that its set-up does not matter, and once with its
defaults, where the set-up matters. The long run shows the cost of a step, the short runs the speed of a search. Both
drivers make the same choices on the same coroutines, so the difference between them is the cost of a Trio task switch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

from benchmarks.measure import Contestant, Race, how, race
from benchmarks.report import Ratio, Report, Row
from explorer.experiment import RunOptions
from explorer.session import run

SCENARIO = "rmdir-under-load"
OBJECTS = 3_000
SHORT_RUNS = 20
ROUNDS = 9  # many rounds, because the measured ratio is close to the goal
DRIVERS = {"stepper": "stepper", "trio": "Trio driver"}


def kernel(*, objects: int = OBJECTS, short_runs: int = SHORT_RUNS, rounds: int = ROUNDS) -> Report:
    """Steps per second of `rmdir-under-load`, and short runs per second, on the stepper and on Trio."""
    long = RunOptions(scenario=SCENARIO, settings={"objects": str(objects)})
    steps = _common_steps(long)
    checked = race(_on_both_drivers(steps_of, long), rounds=rounds)
    unchecked = race(_on_both_drivers(steps_of, attrs.evolve(long, check="off")), rounds=rounds)
    short = race(_on_both_drivers(runs_of, RunOptions(scenario=SCENARIO), short_runs), rounds=rounds)
    return Report(
        name="kernel",
        rows=(
            *_rows(checked, "long run", "steps/s"),
            *_rows(unchecked, "long run, --check off", "steps/s"),
            *_rows(short, "short runs", "runs/s"),
        ),
        ratios=(
            Ratio("long run: stepper / Trio driver", checked.ratio("stepper", "trio"), goal=4.0),
            Ratio("long run, --check off: stepper / Trio driver", unchecked.ratio("stepper", "trio"), goal=4.0),
            Ratio("short runs: stepper / Trio driver", short.ratio("stepper", "trio")),
        ),
        notes=(
            f"{SCENARIO} on 5.3, strategy random, as by `slabrace run`, set-up and result included, but without a log",
            f"long: {steps} steps (objects={objects}, seed 0); short: default knobs, seeds 0 to {short_runs - 1}",
            how(rounds),
        ),
    )


def steps_of(options: RunOptions) -> int:
    """Run once; return the steps."""
    return run(options).steps


def runs_of(options: RunOptions, count: int) -> int:
    """Run *count* times, with one seed after the other; return *count*."""
    for seed in range(count):
        run(attrs.evolve(options, seed=seed))
    return count


def _common_steps(options: RunOptions) -> int:
    """The steps of the run; both drivers must make the same ones for a comparison to mean anything."""
    first, second = (run(attrs.evolve(options, driver=driver)) for driver in DRIVERS)
    assert first.digest == second.digest, "the drivers did different work"
    return first.steps


def _on_both_drivers(work: Callable[..., int], options: RunOptions, *more: int) -> dict[str, Contestant]:
    return {driver: partial(work, attrs.evolve(options, driver=driver), *more) for driver in DRIVERS}


def _rows(found: Race, what: str, unit: str) -> list[Row]:
    return [Row(f"{what}: {name}", found.rate(driver), unit) for driver, name in DRIVERS.items()]
