"""The comparison that `make demo` prints: one scenario's sampled points on two kernels, from their logs."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from explorer.report import make_console
from explorer.session import Result, replay


def compare(first: Result, second: Result) -> Table:
    """Dying cgroups and deactivated child caches of both runs, side by side."""
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


def main() -> None:
    """Compare the two logs named on the command line."""
    first, second = (replay(Path(argument), driver="stepper") for argument in sys.argv[1:3])
    make_console().print(compare(first, second))


if __name__ == "__main__":
    main()
