"""Default values, for the commands and their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

KERNEL = "5.3"
CHECK = "step"

BUDGET = 2_000
"""Schedules of an `explore` search."""

TRY_BUDGET = 100
"""Schedules of each stage and side of `try`."""

BISECT_BUDGET = 500
"""Schedules of each kernel of `bisect`."""

SHRINK_RUNS = 2_000
SHRINK_SECONDS = 45
"""With these limits, `shrink` finishes a run of 150,000 steps within a minute, reading and writing included."""

STRESS_STRATEGY = "guided"
MOST_PER_CPU = 16
"""Most worker processes for each CPU: more would only take memory, and could end other programs."""

STRESS_MEMORY, STRESS_JOB_SECONDS = 2048, 600
"""Limits of a worker of `stress`: MiB of memory, and seconds for one job."""

STRESS_REPORT = Path("report.html")
STRESS_REPORT_SECONDS = 60

QUESTIONS = (
    "summary",
    "cells",
    "causes",
    "first",
    "gaps",
    "unreached",
    "lost",
    "jobs",
    "curve",
    "events",
    "schema",
)
"""The questions that `query` answers."""

MATCH_BUDGET = 500

TRACED = ("traced-create", "traced-rmdir-idle", "traced-rmdir-held")
"""The scenarios that `match` tries by default: they correspond to the program in docs/match.md."""

HOSTS, GROWTH_WORKERS = 4, 2

TWICE, PAIRS = 100, 300
"""Schedules that `selftest` runs twice, and pairs of steps that it swaps."""

KEPT = Path("regressions")
NOTHING: Final = "nothing"
FINDING: Final = "finding"
"""The two expectations of a regression file."""

EXPLAIN_FORMATS = ("text", "mermaid", "perfetto", "html")
CATALOGUES = ("scenarios", "kernels", "patches", "strategies", "oracles")
OPERATIONS = "operations"
"""A catalogue apart, not printed with the others: it has hundreds of lines."""
KERNEL_FILES = (
    "slabinfo",
    "slabinfo_full",
    "memcg_slabinfo",
    "memory.kmem.slabinfo",
    "memory.kmem.usage_in_bytes",
    "memory.stat",
    "memory.current",
    "cgroup.stat",
    "cgroups",
    "kpagecgroup",
    "slab",
)
"""The files that `slabinfo` can print."""
