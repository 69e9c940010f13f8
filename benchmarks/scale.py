"""`scale`: whether a generation of `shared-dentry` costs the same after a thousand generations as after ten thousand.

Time is the time of a whole run (generations, release, the checks at the end) divided by its generations. The expected
memory depends on the objects that are kept. With one file of each generation held, its objects are kept by design, and
on `original` the whole cgroup with them. Flat is then the addition of each further generation: the growth of peak
resident memory from half-way to the last generation, divided by that half. With nothing held nothing may grow, and the
peak itself is compared, including the interpreter; its growth per generation is reported as well.

A small run precedes and follows each large one, and their mean is compared with it: the large one takes a minute, and
the machine's speed may change in that time. Every run is a process of its own (see `generations`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import attrs

from benchmarks.generations import Reading
from benchmarks.report import Ratio, Report, Row

KERNELS = ("original", "5.3")
HELD = (1, 0)
SMALL, LARGE = 1_000, 10_000
FLAT = 1.3


@attrs.frozen
class Cost:
    """The cost of a run: ms per generation, peak memory, and its growth in the second half."""

    ms_per_generation: float
    late_ms_per_generation: float
    peak_kib: float
    growth_kib_per_generation: float

    @classmethod
    def of(cls, generations: int, readings: dict[str, Reading]) -> Cost:
        """Compute the cost from the readings at half-way, at the last generation, and at the end."""
        half, full, end = readings[f"g{generations // 2}"], readings[f"g{generations}"], readings["end"]
        late = generations - generations // 2
        return cls(
            end.seconds * 1e3 / generations,
            (full.seconds - half.seconds) * 1e3 / late,
            end.peak,
            (full.peak - half.peak) / late,
        )

    @classmethod
    def mean(cls, first: Cost, second: Cost) -> Cost:
        """The mean of two runs, figure by figure."""
        return cls(*((one + two) / 2 for one, two in zip(attrs.astuple(first), attrs.astuple(second), strict=True)))


def scale(*, small: int = SMALL, large: int = LARGE) -> Report:
    """Time and memory per generation of `shared-dentry`: flat from a thousand generations to ten thousand."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for kernel in KERNELS:
        for held in HELD:
            few, many = compare(kernel, held, small, large)
            what = f"{kernel}, held {held}"
            rows += [*_rows(f"{what}, {small} generations", few), *_rows(f"{what}, {large} generations", many)]
            ratios += _ratios(what, held, few, many)
    return Report(
        name="scale",
        rows=tuple(rows),
        ratios=tuple(ratios),
        notes=(
            "shared-dentry, 5 files a generation, on the stepper, strategy random, recorded and watched, but no file",
            "time: a whole run over its generations, the garbage collector on; late: the second half alone",
            "memory: peak resident (VmHWM) of a process of its own; growth: from half-way to the last generation",
            f"ratios: {large} generations over the mean of two runs of {small}, one before and one after",
        ),
    )


def compare(kernel: str, held: int, small: int, large: int) -> tuple[Cost, Cost]:
    """The costs of *small* and *large* runs; for the small one, the mean of a run before and a run after."""
    before = measure(kernel, small, held)
    many = measure(kernel, large, held)
    return Cost.mean(before, measure(kernel, small, held)), many


def measure(kernel: str, generations: int, held: int) -> Cost:
    """Run in a process of its own; return its cost."""
    command = [sys.executable, "-m", "benchmarks.generations", kernel, str(generations), str(held)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- this repository's own module
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return Cost.of(generations, {entry["point"]: Reading(**entry) for entry in found})


def _rows(what: str, cost: Cost) -> Iterator[Row]:
    yield Row(f"{what}: time", cost.ms_per_generation, "ms/generation")
    yield Row(f"{what}: late time", cost.late_ms_per_generation, "ms/generation")
    yield Row(f"{what}: peak memory", cost.peak_kib / 1024, "MiB")
    yield Row(f"{what}: growth", cost.growth_kib_per_generation, "KiB/generation")


def _ratios(what: str, held: int, few: Cost, many: Cost) -> Iterator[Ratio]:
    yield Ratio(f"{what}: time", many.ms_per_generation / few.ms_per_generation, "at most", FLAT)
    if held:
        growth = many.growth_kib_per_generation / few.growth_kib_per_generation
        yield Ratio(f"{what}: memory growth", growth, "at most", FLAT)
    else:
        yield Ratio(f"{what}: peak memory", many.peak_kib / few.peak_kib, "at most", FLAT)
