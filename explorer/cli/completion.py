"""The command `completion`: a script with which a shell completes slabrace's commands, options and names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import scenarios
from actors.fixes import ALL_FIXES
from explorer.cli.usage import make_parser
from explorer.cli.values import log_file
from explorer.defaults import KERNEL_FILES
from explorer.experiment import DRIVERS
from explorer.search.registry import SEARCHES
from protocol.vocabulary import CHECKS, KERNELS

NAMES: Mapping[str, Callable[[], Iterable[str]]] = {
    "scenario": lambda: [scenario.name for scenario in (*scenarios.SCENARIOS, *scenarios.OF_TODAY)],
    "kernel": lambda: KERNELS,
    "strategy": lambda: SEARCHES,
    "driver": lambda: DRIVERS,
    "check": lambda: CHECKS,
    "without": lambda: [fix.slug for fix in ALL_FIXES],
    "patch": lambda: [fix.slug for fix in ALL_FIXES],
    "file": lambda: KERNEL_FILES,
}
"""The values of arguments that the parser does not check itself, by the argument's `dest`."""


def main(options: argparse.Namespace) -> int:
    """Print the script for a shell."""
    import shtab  # noqa: PLC0415 -- other commands do not need it

    whole = make_parser()
    for parser in whole.commands.values():
        for action in parser._actions:
            if action.type in {Path, log_file}:
                action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]  # shtab's way
            elif action.choices is None and action.dest in NAMES:
                action.choices = list(NAMES[action.dest]())
    print(shtab.complete(whole, options.shell))  # noqa: T201 -- the command's output
    return 0
