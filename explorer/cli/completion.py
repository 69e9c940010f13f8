"""The command `completion`: what a shell has to know to complete slabrace's commands, options and names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from actors.files.kernel_files import FILES
from actors.fixes import ALL_FIXES
from actors.versions.profiles import PROFILES
from explorer.cli.options import log_file
from explorer.experiment import CHECKS, DRIVERS
from explorer.strategies import STRATEGIES
from explorer.strategies.exact import EXACT
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from explorer.cli.parser import Parser

SHELLS = ("bash", "zsh", "fish")

NAMES: Mapping[str, Callable[[], Iterable[str]]] = {
    "scenario": lambda: [scenario.name for scenario in SCENARIOS],
    "kernel": lambda: PROFILES,
    "strategy": lambda: ["portfolio", *STRATEGIES, *EXACT],
    "driver": lambda: DRIVERS,
    "check": lambda: CHECKS,
    "without": lambda: [fix.slug for fix in ALL_FIXES],
    "patch": lambda: [fix.slug for fix in ALL_FIXES],
    "file": lambda: [file.name for file in FILES],
}
"""What there is for the arguments that are checked later than by the parser, by what they set."""


def add_completion(parser: argparse.ArgumentParser, whole: Parser) -> None:
    """`completion`."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")
    parser.description = "Print a script; docs: README.md, Commands."
    parser.set_defaults(command=lambda options: _completion(options.shell, whole))


def _completion(shell: str, whole: Parser) -> int:
    import shtab  # noqa: PLC0415 -- no other command needs it

    for parser in whole.commands.values():
        for action in parser._actions:
            if action.type in {Path, log_file}:
                action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]  # shtab's way
            elif action.choices is None and action.dest in NAMES:
                action.choices = list(NAMES[action.dest]())
    print(shtab.complete(whole, shell))  # noqa: T201 -- the command's output
    return 0
