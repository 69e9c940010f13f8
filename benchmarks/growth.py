"""The scaling of a host of `slabrace growth`: a month at ten times the restart rate, against a week.

The cost of a cgroup must not depend on the number of cgroups before it. On `original` most of them still exist.
"""

from __future__ import annotations

import json
import subprocess
import sys

import attrs

from benchmarks.report import Ratio, Report, Row

KERNELS = ("original", "5.3")
UNIT = 40
WEEK, MONTH = (7, 369), (30, 3690)
"""Days, and restarts a day."""

FLAT = 1.3
"""The highest allowed ratio of a cgroup's cost in the month to its cost in the week."""


@attrs.frozen
class Cost:
    """The cost of one cgroup, from day 0 on (without the boot): CPU time, steps, and added peak memory."""

    cgroups: int
    ms: float
    steps: float
    kib: float


def growth() -> Report:
    """Time and memory per simulated cgroup of a host: flat from a week to a month with ten times the restarts."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for kernel in KERNELS:
        week, month = (measure(kernel, *span) for span in (WEEK, MONTH))
        for name, cost in (("a week", week), ("a month, 10 times the restarts", month)):
            what = f"{kernel}, {name} ({cost.cgroups} cgroups)"
            rows += [
                Row(f"{what}: time", cost.ms, "ms/cgroup"),
                Row(f"{what}: steps", cost.steps, "steps/cgroup"),
                Row(f"{what}: memory", cost.kib, "KiB/cgroup"),
            ]
        ratios += [
            Ratio(f"{kernel}: time", month.ms / week.ms, "at most", FLAT),
            Ratio(f"{kernel}: memory", month.kib / week.kib, "at most", FLAT),
        ]
    return Report(
        name="growth",
        rows=tuple(rows),
        ratios=tuple(ratios),
        notes=(
            f"host 0, one cgroup of the model for {UNIT}, on the stepper, strategy clock, without recording or checks",
            "from day 0 to the last day; time is CPU time; memory is the growth of peak resident memory",
            "each kswapd of the simulated host visits every dying memcg, as the kernel's does: those steps count, too",
        ),
    )


def measure(kernel: str, days: int, restarts: int) -> Cost:
    """Run in a process of its own; return the cost of a cgroup."""
    command = [sys.executable, "-m", "benchmarks.hosts", kernel, str(days), str(restarts), str(UNIT)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- this repository's own module
    first, *_, last = json.loads(done.stdout)
    made = last["cgroups"] - first["cgroups"]
    spent = {name: (last[name] - first[name]) / made for name in ("seconds", "steps", "peak")}
    return Cost(made, spent["seconds"] * 1e3, spent["steps"], spent["peak"])
