"""The command `shrink`, and what the commands about a failing run have in common."""

from __future__ import annotations

import argparse
import math
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from explorer import signals
from explorer.campaign_report import line_marks
from explorer.cli.options import add_force, add_json, add_patch, add_trust, is_piped, log_file, positive
from explorer.experiment import Experiment
from explorer.json_out import print_json
from explorer.report import LiveProgress, as_arguments, make_console
from explorer.schedule import Follow
from explorer.session import record
from explorer.shrink import DEFAULT_RUNS, DEFAULT_SECONDS, Shrinker, reproduce, size_of
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import tell
from explorer.trace import Trace, trace_log
from protocol.atomic import check_free
from protocol.errors import UsageError
from protocol.log import LogReader

if TYPE_CHECKING:
    from rich.console import Console

FIRST_LINE = 100
"""How many runs go without a word, where no terminal is."""


def open_log(options: argparse.Namespace) -> Experiment:
    """What the log of `add_log_options` is a run of; UsageError if it is damaged."""
    with closing(LogReader(options.log)) as log:
        experiment = Experiment.of_log(log, options.patch, trust=options.trust)
        log.check_undamaged()
        return experiment


def add_log_options(parser: argparse.ArgumentParser, *, is_needed: bool = True) -> None:
    """Which finding of which log."""
    parser.add_argument("log", type=log_file, nargs=None if is_needed else "?", metavar="LOG")
    parser.add_argument("--signature", metavar="S", help="which finding of the log (default: the last)")
    add_patch(parser)
    add_trust(parser)


def add_shrink(parser: argparse.ArgumentParser) -> None:
    """`shrink`."""
    add_log_options(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to log the short run (default: LOG.short.log)")
    add_force(parser)
    parser.add_argument("--budget", type=positive, metavar="RUNS", help="how many runs at most")
    parser.add_argument("--seconds", type=positive, metavar="S", help="how long at most")
    parser.epilog = (
        f"Without --budget and --seconds it ends after {DEFAULT_RUNS} runs or {DEFAULT_SECONDS} seconds; "
        "if one of them is given, there is no other end."
    )
    add_json(parser)
    parser.set_defaults(command=_shrink)


def _shrink(options: argparse.Namespace) -> int:
    budget, end = limits(options.budget, options.seconds)
    experiment = open_log(options)
    if options.out is None and is_piped(options.log):
        msg = "the log comes through a pipe: give --out FILE for the short one"
        raise UsageError(msg)
    out = options.out or options.log.with_suffix(".short.log")
    check_free(out, overwrite=options.force)
    logged = trace_log(experiment, options.log, options.signature)
    start, keeps_time = reproduce(experiment, logged.schedule, logged.signature)
    progress = ShrinkProgress()
    shrinker = Shrinker(experiment, start, keeps_time=keeps_time, budget=budget, end=end, progress=progress)
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
    """Log the best, and print what it is; a shrinker that is interrupted has one, too."""
    best = shrinker.best
    assert best.found is not None, "a shrinker keeps only what shows the flaw"
    follow = Follow(best.schedule, keeps_time=shrinker.keeps_time)
    record(shrinker.experiment, "shrunk", follow, best.found, out, overwrite=options.force)
    if options.json:
        told = shrunk_json(options.log, out, shrinker, logged)
        told["outcome"] = "interrupted" if is_interrupted else "finding"
        print_json(told)
    else:
        show_shrunk(make_console(), out, shrinker, logged, how="; interrupted" if is_interrupted else "")


def limits(budget: int | None, seconds: int | None) -> tuple[float, float]:
    """How many runs there may be, and until when: what is said, both defaults if nothing is."""
    if budget is None and seconds is None:
        budget, seconds = DEFAULT_RUNS, DEFAULT_SECONDS
    end = math.inf if seconds is None else time.monotonic() + seconds
    return math.inf if budget is None else budget, end


class ShrinkProgress:
    """A live line on a terminal; elsewhere a line at 100, 200, 500 ... runs. On standard error."""

    def __init__(self) -> None:
        self._live = LiveProgress()
        self._marks = (mark for mark in line_marks() if mark >= FIRST_LINE)
        self._next = next(self._marks)

    def __call__(self, shrinker: Shrinker) -> None:
        """Show how far *shrinker* is, if it is time to."""
        preemptions, switches, steps, *_ = size_of(shrinker.best)
        text = f"{shrinker.runs} runs: {preemptions} preemptions, {switches} switches, {steps} steps"
        self._live.show(text)
        if shrinker.runs >= self._next:
            self._next = next(self._marks)
            if not sys.stderr.isatty():
                tell(text)

    def close(self) -> None:
        """Take the line away."""
        self._live.close()


def shrunk_json(log: Path, out: Path, shrinker: Shrinker, before: Trace) -> dict[str, object]:
    """The one JSON object of `shrink --json`."""
    return {
        "outcome": "finding",
        "signature": shrinker.signature,
        "before": {"log": str(log), **figures(before)},
        "after": {"log": str(out), **figures(shrinker.best)},
        "parameters": {
            name: value
            for name, value in shrinker.experiment.header.parameters.items()
            if not isinstance(value, str) or len(value) < 40  # not the text of whole files
        },
        "runs": shrinker.runs,
    }


def figures(trace: Trace) -> dict[str, int]:
    """What is compared before and after."""
    return {
        "preemptions": trace.preemptions,
        "switches": trace.switches,
        "steps": len(trace.steps),
        "steps_that_matter": len(trace.steps_that_matter()),
        "lanes": len({step.lane for step in trace.steps}),
    }


def show_shrunk(console: Console, out: Path, shrinker: Shrinker, before: Trace, *, how: str = "") -> None:
    """Before and after, and how to go on."""
    console.print(shrinker.signature)
    after = figures(shrinker.best)
    for name, value in figures(before).items():
        console.print(f"  {name.replace('_', ' '):18} {value:6} -> {after[name]}")
    log = as_arguments(out, shrinker.experiment.header)
    console.print(f"{shrinker.runs} runs{how}", f"log: {out}", f"explain: slabrace explain {log}")
