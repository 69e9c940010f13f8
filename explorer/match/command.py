"""`slabrace match`: the way from a trace to an answer. Its options are in explorer/cli/match.py."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from actors.linux.init.machine import function_table
from actors.versions.kernel_fn import functions
from explorer.experiment import Experiment, RunOptions
from explorer.json_out import print_json
from explorer.match.answer import Answer
from explorer.match.cursor import read_events
from explorer.match.scope import make_scope
from explorer.match.search import Attempt, Found, Subject, search
from explorer.match.trail import Trail
from explorer.report import LiveProgress, make_console
from explorer.session import run
from protocol.atomic import CannotWriteError, check_free
from protocol.errors import InternalError, UsageError
from protocol.ftrace import Trace, parse_ftrace, read_function_list
from protocol.names import do_you_mean
from protocol.textfile import read_bounded
from scenarios import find_scenario

if TYPE_CHECKING:
    import argparse

    from explorer.session import Result

SCENARIOS = ("traced-create", "traced-rmdir-idle", "traced-rmdir-held")
"""The scenarios that are tried if none is asked for: what docs/match.md's program does."""

BUDGET = 500


def match(options: argparse.Namespace, settings: Mapping[str, str]) -> int:
    """Run the command; return its exit code. *settings* are what `--set` says."""
    trace = parse_ftrace(read_bounded(options.trace), source=str(options.trace))
    check_free(options.log, overwrite=options.force)
    _check_ignored(options.ignore, trace)
    subjects = [_subject(name, options, settings, trace) for name in options.scenario or SCENARIOS]
    started, progress = time.perf_counter(), LiveProgress()
    try:
        found = search(subjects, budget=options.budget, progress=lambda n, best: progress.show(_how_far(n, best)))
    finally:
        progress.close()
    seconds = time.perf_counter() - started
    unwritten: CannotWriteError | None = None
    try:
        result = _record(found, options.log, overwrite=options.force)
    except CannotWriteError as error:
        result, unwritten = _record(found, None), error  # what was found is told all the same
    answer = Answer(path=options.trace, trace=trace, found=found, result=result, seconds=seconds)
    if options.json:
        print_json(answer.to_json())
    else:
        answer.show(make_console())
    if unwritten is not None:
        raise unwritten
    return answer.exit_code


def _settings(name: str, settings: Mapping[str, str], trace: Trace) -> dict[str, str]:
    """The knobs of that scenario: the machine has as many CPUs as the traced one, if nothing else is said."""
    cpus = next((knob for knob in find_scenario(name).knobs if knob.name == "cpus"), None)
    if cpus is None or not trace.cpus or "cpus" in settings:
        return dict(settings)
    if trace.cpus > cpus.most:
        msg = f"{trace.source}: {trace.cpus} CPUs are more than the {cpus.most} of a model: give --set cpus=N"
        raise UsageError(msg)
    return {"cpus": str(trace.cpus), **settings}


def _check_ignored(ignored: Iterable[str], trace: Trace) -> None:
    """UsageError if a function that is not to be compared is nowhere."""
    in_trace = {line.function for line in trace.lines if line.function}
    known = in_trace.union(*({body.name for body in function.bodies} for function in functions().values()))
    for name in ignored:
        if name not in known:
            msg = f"--ignore {name}: there is no such function, in the trace or in the model{do_you_mean(name, known)}"
            raise UsageError(msg)


def _subject(name: str, options: argparse.Namespace, settings: Mapping[str, str], trace: Trace) -> Subject:
    """One scenario to try, as the options say."""
    wanted = RunOptions(
        scenario=name,
        kernel=options.kernel,
        strategy=Trail.name,
        driver="stepper",
        settings=_settings(name, settings, trace),
        patches=tuple(options.patch),
        without=tuple(options.without),
    )
    traced = (
        None if options.filter is None else read_function_list(read_bounded(options.filter), source=str(options.filter))
    )
    return make_subject(wanted, trace, traced=traced, ignored=options.ignore, open_end=options.open_end)


def make_subject(
    wanted: RunOptions,
    trace: Trace,
    *,
    traced: Iterable[str] | None = None,
    ignored: Iterable[str] = (),
    open_end: bool = False,
) -> Subject:
    """What to search for: a run as *wanted* that shows *trace*. UsageError if nothing of that can be compared.

    *traced* is set_ftrace_filter, if it is known; *ignored* functions are not compared; with an *open_end* the model
    may go on after the last line, as it may after lost events.
    """
    experiment = Experiment.of(attrs.evolve(wanted, check="off"))
    allocator = experiment.header.parameters.get("allocator", "slub")
    table = function_table(wanted.kernel, allocator, experiment.patches)
    scope = make_scope(table, trace, traced=traced, ignored=ignored)
    events = read_events(trace, scope)
    if not events:
        shown = ", ".join(skipped.function for skipped in scope.skipped[:3]) or "lost events"
        msg = f"{trace.source}: there is no line to compare, only {shown}; trace the functions of docs/match.md"
        raise UsageError(msg)
    return Subject(wanted, experiment, scope, events, open_end or bool(trace.lost))


def _how_far(number: int, best: Attempt) -> str:
    return f"schedule {number}: {best.matched} of {len(best.subject.events)} lines matched"


def _record(found: Found, log: Path | None, *, overwrite: bool = False) -> Result:
    """Make the choices of the best run once more, with all checks, and log them if that is wanted."""
    best = found.best
    trail = Trail(best.trail, best.values, is_whole=best.parting is None)
    result = run(best.subject.options, log=log, overwrite=overwrite, strategy=trail)
    if result.steps != best.steps and not result.findings:
        msg = f"match: the run took {best.steps} steps, and {result.steps} when it was made again"
        raise InternalError(msg)
    return result
