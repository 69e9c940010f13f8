"""The command `compare`, for `make demo`: the remains of one scenario on two kernels, from two logs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from explorer.cli.options import given
from explorer.experiment import Given
from explorer.report import make_console
from explorer.session import Result, replay
from protocol.errors import UsageError


def main(options: argparse.Namespace) -> int:
    """Compare the samples of two logs; return the exit code."""
    make_console().print(compare(*replay_both((options.first, options.second), given(options))))
    return 0


def compare(first: Result, second: Result) -> Table:
    """Dying cgroups, deactivated child caches and slab pages of both runs, side by side."""
    kernels = (first.header.kernel, second.header.kernel)
    table = Table("point", title=f"{first.header.scenario}: what stays behind", title_justify="left", pad_edge=False)
    for column in ("dying cgroups", "caches of removed cgroups", "slab pages"):
        for kernel in kernels:
            table.add_column(Text(f"{column}\non {kernel}"), justify="right")
    for left, right in zip(first.samples, second.samples, strict=True):
        pairs = (
            (left.dying_cgroups, right.dying_cgroups),
            (left.deactivated, right.deactivated),
            (left.slab_pages, right.slab_pages),
        )
        table.add_row(left.point, *(str(value) for pair in pairs for value in pair))
    return table


def replay_both(logs: Sequence[Path], code: Given) -> tuple[Result, Result]:
    """Replay two logs; UsageError unless both are complete, of one scenario, and sampled at the same points."""
    first, second = (replay(log, driver="stepper", given=code) for log in logs)
    for result in (first, second):
        if result.divergence is not None or result.damage is not None:
            why = result.damage or f"{result.log}: the replay diverges from the log at step {result.steps}"
            msg = f"{why}; nothing is compared"
            raise UsageError(msg)
    points = [[sample.point for sample in result.samples] for result in (first, second)]
    if first.header.scenario != second.header.scenario or points[0] != points[1]:
        msg = f"{first.log} and {second.log} are not of one scenario, or were not sampled at the same points"
        raise UsageError(msg)
    return first, second
