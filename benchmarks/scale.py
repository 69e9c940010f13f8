"""`scale`: whether a generation of `shared-dentry` costs the same at the end of a long run as at its beginning.

Time is the CPU time of the first and of the last thousand generations of one run. The expected memory depends on the
objects that are kept. With one file of each generation held, its objects are kept by design, and on `original` the
whole cgroup with them: the measure is the growth of peak resident memory for each generation after the first thousand.
With nothing held nothing may grow, and the peak itself is compared, including the interpreter.

Every run is a process of its own (see `generations`). The default is ten thousand generations;
`python -m benchmarks.generations original 100000 1` makes a run of a hundred thousand, and prints its readings.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import attrs

from benchmarks.generations import SLICE, Reading
from benchmarks.report import Ratio, Report, Row

KERNELS = ("original", "5.3")
HELD = (1, 0)
GENERATIONS = 10_000
FLAT = 1.3

DYING_KIB = 15
"""The most memory that a dying cgroup may take."""


@attrs.frozen
class Cost:
    """The cost of a run: ms per generation in its first and last slice, its peak memory after each of them.

    The growth is that of each generation between the two.
    """

    first_ms: float
    last_ms: float
    first_peak_kib: float
    last_peak_kib: float
    growth_kib: float

    @classmethod
    def of(cls, generations: int, readings: dict[str, Reading]) -> Cost:
        """Compute the cost from the readings before and after the two slices."""
        before, base, after, end = (
            readings[point] for point in ("base", f"g{SLICE}", f"g{generations - SLICE}", f"g{generations}")
        )
        return cls(
            (base.seconds - before.seconds) * 1e3 / SLICE,
            (end.seconds - after.seconds) * 1e3 / SLICE,
            base.peak,
            end.peak,
            (end.peak - base.peak) / (generations - SLICE),
        )


def scale(*, generations: int = GENERATIONS) -> Report:
    """Time and memory per generation of `shared-dentry`: flat from the first thousand generations to the last."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for kernel in KERNELS:
        for held in HELD:
            cost, what = measure(kernel, generations, held), f"{kernel}, held {held}"
            rows += _rows(what, cost)
            ratios += _ratios(what, cost, keeps_cgroups=held > 0 and kernel == "original", holds=held > 0)
    return Report(
        name="scale",
        rows=tuple(rows),
        ratios=tuple(ratios),
        notes=(
            "shared-dentry, 5 files a generation, on the stepper, strategy random, recorded and watched, but no file",
            f"time: CPU time of the first and the last {SLICE} of {generations} generations, the garbage collector on",
            "memory: peak resident (VmHWM) of a process of its own",
        ),
    )


def measure(kernel: str, generations: int, held: int) -> Cost:
    """Run in a process of its own; return its cost."""
    command = [sys.executable, "-m", "benchmarks.generations", kernel, str(generations), str(held)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- this repository's own module
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return Cost.of(generations, {entry["point"]: Reading(**entry) for entry in found})


def _rows(what: str, cost: Cost) -> Iterator[Row]:
    yield Row(f"{what}: first {SLICE}", cost.first_ms, "ms/generation")
    yield Row(f"{what}: last {SLICE}", cost.last_ms, "ms/generation")
    yield Row(f"{what}: peak memory", cost.last_peak_kib / 1024, "MiB")
    yield Row(f"{what}: growth", cost.growth_kib, "KiB/generation")


def _ratios(what: str, cost: Cost, *, keeps_cgroups: bool, holds: bool) -> Iterator[Ratio]:
    yield Ratio(f"{what}: time of the last {SLICE} to the first", cost.last_ms / cost.first_ms, "at most", FLAT)
    if keeps_cgroups:
        yield Ratio(f"{what}: KiB for each dying cgroup", cost.growth_kib, "at most", DYING_KIB)
    if not holds:
        yield Ratio(f"{what}: peak memory", cost.last_peak_kib / cost.first_peak_kib, "at most", FLAT)
