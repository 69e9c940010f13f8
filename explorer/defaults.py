"""Values that the help of a command names, and that the command uses: what is done if nothing else is said."""

from __future__ import annotations

from pathlib import Path
from typing import Final

KERNEL = "5.3"
CHECK = "step"

BUDGET = 2_000
"""Schedules of `explore`."""

SHRINK_RUNS = 2_000
SHRINK_SECONDS = 45
"""Together with what comes before and after, `shrink` is done with a run of 150,000 steps within a minute."""

MATCH_BUDGET = 500

TRACED = ("traced-create", "traced-rmdir-idle", "traced-rmdir-held")
"""The scenarios that `match` tries if none is asked for: what docs/match.md's program does."""

HOSTS, GROWTH_WORKERS = 4, 2

TWICE, PAIRS = 100, 300
"""Schedules that `selftest` runs twice, and pairs of steps that it exchanges."""

KEPT = Path("regressions")
NOTHING: Final = "nothing"
FINDING: Final = "finding"
"""What a regression file expects."""

EXPLAIN_FORMATS = ("text", "mermaid", "perfetto", "html")
CATALOGUES = ("scenarios", "kernels", "patches", "strategies", "oracles")
OPERATIONS = "operations"
"""The catalogue that is not among all: it has hundreds of lines."""
KERNEL_FILES = (
    "slabinfo",
    "slabinfo_full",
    "memcg_slabinfo",
    "memory.kmem.slabinfo",
    "memory.kmem.usage_in_bytes",
    "memory.stat",
    "cgroup.stat",
    "cgroups",
    "kpagecgroup",
    "slab",
)
"""The files that `slabinfo` can print."""
