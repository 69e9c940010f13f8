"""The command `shrink`."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from explorer import defaults, signals
from explorer.cli.options import open_log
from explorer.cli.values import is_piped
from explorer.explain.as_json import short_parameters
from explorer.json_out import print_json
from explorer.report import LiveProgress, as_arguments, make_console, program_lines
from explorer.schedule import Follow
from explorer.search.report import line_marks
from explorer.session import record
from explorer.shrink import Shrinker, reproduce, size_of
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import tell
from explorer.trace import Trace, trace_log
from protocol.atomic import check_free
from protocol.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

FIRST_LINE = 100
"""Runs before the first progress line, if standard error is not a terminal."""


def main(options: argparse.Namespace) -> int:
    """Shrink a failing run; return the exit code."""
    budget, end = limits(options.budget, options.seconds)
    experiment = open_log(options)
    if options.out is None and is_piped(options.log):
        msg = "the log comes through a pipe: give --out FILE for the short one"
        raise UsageError(msg)
    out = options.out or options.log.with_suffix(".short.log")
    check_free(out, overwrite=options.force)
    logged = trace_log(experiment, options.log, options.signature)
    start, controls_clock = reproduce(experiment, logged.schedule, logged.signature)
    progress = ShrinkProgress()
    shrinker = Shrinker(experiment, start, controls_clock=controls_clock, budget=budget, end=end, progress=progress)
    is_interrupted = False
    try:
        shrinker.shrink()
    except KeyboardInterrupt:
        is_interrupted = True
    finally:
        progress.close()
    _give(options, out, shrinker, logged, is_interrupted=is_interrupted)
    return EXIT_INTERRUPTED if is_interrupted else 1


@signals.answering()
def _give(options: argparse.Namespace, out: Path, shrinker: Shrinker, logged: Trace, *, is_interrupted: bool) -> None:
    """Log the best run, and print it; an interrupted shrinker has a best run, too."""
    best = shrinker.best
    assert best.found is not None, "a shrinker keeps only runs that show the flaw"
    follow = Follow(best.schedule, controls_clock=shrinker.controls_clock)
    record(shrinker.experiment, "shrunk", follow, best.found, out, overwrite=options.force)
    if options.json:
        told = shrunk_json(options.log, out, shrinker, logged)
        told["outcome"] = "interrupted" if is_interrupted else "finding"
        print_json(told)
    else:
        show_shrunk(make_console(), out, shrinker, logged, how="; interrupted" if is_interrupted else "")


def limits(budget: int | None, seconds: int | None) -> tuple[float, float]:
    """The limits of runs and of time; both defaults apply if neither is given."""
    if budget is None and seconds is None:
        budget, seconds = defaults.SHRINK_RUNS, defaults.SHRINK_SECONDS
    end = math.inf if seconds is None else time.monotonic() + seconds
    return math.inf if budget is None else budget, end


class ShrinkProgress:
    """Progress on standard error: a live line on a terminal, otherwise a line at 100, 200, 500 ... runs."""

    def __init__(self) -> None:
        self._live = LiveProgress()
        self._marks = (mark for mark in line_marks() if mark >= FIRST_LINE)
        self._next = next(self._marks)

    def __call__(self, shrinker: Shrinker) -> None:
        """Show the progress of *shrinker*, if a line is due."""
        operations, preemptions, switches, steps, *_ = size_of(shrinker.best)
        program = f"{operations} operations, " if operations else ""
        text = f"{shrinker.runs} runs: {program}{preemptions} preemptions, {switches} switches, {steps} steps"
        self._live.show(text)
        if shrinker.runs >= self._next:
            self._next = next(self._marks)
            if not sys.stderr.isatty():
                tell(text)

    def close(self) -> None:
        """Remove the line."""
        self._live.close()


def shrunk_json(log: Path, out: Path, shrinker: Shrinker, before: Trace) -> dict[str, object]:
    """The JSON object of `shrink --json`."""
    return {
        "outcome": "finding",
        "signature": shrinker.signature,
        "before": {"log": str(log), **figures(before)},
        "after": {"log": str(out), **figures(shrinker.best)},
        "parameters": short_parameters(shrinker.experiment.header.parameters),
        "runs": shrinker.runs,
    }


def figures(trace: Trace) -> dict[str, int]:
    """The figures that are compared before and after."""
    return {
        "preemptions": trace.preemptions,
        "switches": trace.switches,
        "steps": len(trace.steps),
        "steps_that_matter": len(trace.steps_that_matter()),
        "lanes": len({step.lane for step in trace.steps}),
        "operations": len(trace.stage.present_operations()),
    }


def show_shrunk(console: Console, out: Path, shrinker: Shrinker, before: Trace, *, how: str = "") -> None:
    """Print the figures before and after, and the next command."""
    console.print(shrinker.signature)
    after = figures(shrinker.best)
    program = shrinker.best.stage.present_operations()
    for name, value in figures(before).items():
        if name != "operations" or program:
            console.print(f"  {name.replace('_', ' '):18} {value:6} -> {after[name]}")
    if program:
        console.print(*program_lines(program))
    log = as_arguments(out, shrinker.experiment.header)
    console.print(f"{shrinker.runs} runs{how}", f"log: {out}", f"explain: slabrace explain {log}")
