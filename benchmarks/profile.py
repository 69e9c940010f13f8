"""The ten hottest functions of `explore`, in the baseline and in this tree; the tables of docs/performance.md.

cProfile counts calls and the time in a function itself. It makes calls dearer than they are, so the shares say where to
look, not what a change will gain.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import attrs

from benchmarks.pages import PERFORMANCE, markdown_table, put_between_markers
from benchmarks.trees import BASELINE, ProcessError, Tree, both_trees
from protocol.errors import UsageError

SCENARIO = "destroy-vs-offline"
SCHEDULES = 300
TOP = 10

PROFILED = """
import contextlib, cProfile, io, json, pstats, runpy, sys

tree, *arguments = sys.argv[1:]
sys.argv = ["slabrace", *arguments]
profile = cProfile.Profile()
with contextlib.redirect_stdout(io.StringIO()):
    try:
        profile.runcall(runpy.run_module, "slabrace", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code not in (0, 1):
            raise
rows = [
    {"file": file.removeprefix(tree + "/"), "line": line, "name": name, "calls": calls, "own": own}
    for (file, line, name), (_, calls, own, _, _) in pstats.Stats(profile).stats.items()
]
json.dump(rows, sys.stdout)
"""
"""Prints the profile of a command, as a list with an entry for each function. It runs in either tree."""


@attrs.frozen
class Function:
    """A function of a profile, and the share of all time that was spent in itself."""

    name: str
    place: str
    calls: int
    share: float

    @classmethod
    def of(cls, entry: dict[str, Any], whole: float) -> Function:
        """Read an entry; a built-in function has no place."""
        place = f"{entry['file']}:{entry['line']}" if entry["line"] else "built in"
        return cls(entry["name"], place, entry["calls"], entry["own"] / whole)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The scenario, and the number of schedules."""
    parser.add_argument("scenario", nargs="?", default=SCENARIO, metavar="SCENARIO", help=f"default: {SCENARIO}")
    parser.add_argument("--schedules", type=int, default=SCHEDULES, metavar="N", help=f"default: {SCHEDULES}")


def run(options: argparse.Namespace) -> int:
    """Print the tables; return the exit code."""
    print("\n".join(tables(options.scenario, options.schedules)))
    return 0


def write(scenario: str = SCENARIO, schedules: int = SCHEDULES) -> None:
    """Write the tables into docs/performance.md."""
    put_between_markers(PERFORMANCE, "profile", tables(scenario, schedules))


def tables(scenario: str, schedules: int) -> list[str]:
    """A table for each tree, as lines of markdown."""
    lines = []
    with both_trees() as trees:
        for tree, title in zip(trees, (f"The baseline ({BASELINE})", "Now"), strict=True):
            try:
                functions = hottest(tree, scenario, schedules)
            except ProcessError as error:
                msg = f"profile {scenario}: {error}"
                raise UsageError(msg) from None
            lines += [f"{title}, `explore {scenario} --budget {schedules}`:", "", *table(functions), ""]
    return lines[:-1]


def hottest(tree: Tree, scenario: str, schedules: int) -> list[Function]:
    """The functions with the most time of their own, the hottest first."""
    command = ("explore", "--budget", str(schedules), "--no-log", scenario)
    entries = json.loads(tree.run("-c", PROFILED, str(tree.path), *command).output)
    whole = sum(entry["own"] for entry in entries)
    entries.sort(key=lambda entry: entry["own"], reverse=True)
    return [Function.of(entry, whole) for entry in entries[:TOP]]


def table(functions: Sequence[Function]) -> list[str]:
    """The functions as a table of markdown."""
    rows = [
        (f"`{one.name}`", f"`{one.place}`" if ":" in one.place else one.place, f"{one.calls:,}", f"{one.share:.1%}")
        for one in functions
    ]
    return markdown_table(["function", "place", "calls", "share"], rows)
