"""The command `match`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from actors.versions.kernel_fn import functions
from explorer import defaults
from explorer.cli.options import check_once, settings
from explorer.cli.parser import needs
from explorer.experiment import RunOptions
from explorer.json_out import print_json
from explorer.kinds import SCENARIO
from explorer.match.answer import Answer
from explorer.match.search import Attempt, SearchResult, Subject, make_subject, search
from explorer.match.trail import Trail
from explorer.references import find
from explorer.report import LiveProgress, make_console
from explorer.session import run
from protocol.atomic import CannotWriteError, check_free
from protocol.errors import InternalError, UsageError
from protocol.formats.ftrace import FunctionTrace, parse_ftrace, read_function_list
from protocol.formats.textfile import read_bounded
from protocol.names import do_you_mean

if TYPE_CHECKING:
    from explorer.session import Result


def main(options: argparse.Namespace) -> int:
    """Search for the schedule that a trace shows; return the exit code."""
    needs(options, "--force", "--log")
    for option, names in (("--scenario", options.scenario), ("--ignore", options.ignore)):
        check_once(option, names)
    given = settings(options.set)
    trace = parse_ftrace(read_bounded(options.trace), source=str(options.trace))
    check_free(options.log, overwrite=options.force)
    _check_ignored(options.ignore, trace)
    subjects = [_subject(name, options, given, trace) for name in options.scenario or defaults.TRACED]
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
        result, unwritten = _record(found, None), error  # the answer is printed all the same
    answer = Answer(path=options.trace, trace=trace, found=found, result=result, seconds=seconds)
    if options.json:
        print_json(answer.to_json())
    else:
        answer.show(make_console())
    if unwritten is not None:
        raise unwritten
    return answer.exit_code


def _settings(name: str, given: Mapping[str, str], trace: FunctionTrace) -> dict[str, str]:
    """The knobs of that scenario; by default the machine has as many CPUs as the traced one."""
    cpus = next((knob for knob in find(SCENARIO, name).things[0].knobs if knob.name == "cpus"), None)
    if cpus is None or not trace.cpus or "cpus" in given:
        return dict(given)
    if trace.cpus > cpus.most:
        msg = f"{trace.source}: {trace.cpus} CPUs are more than the {cpus.most} of the model: give --set cpus=N"
        raise UsageError(msg)
    return {"cpus": str(trace.cpus), **given}


def _check_ignored(ignored: Iterable[str], trace: FunctionTrace) -> None:
    """UsageError if an ignored function is neither in the trace nor in the model."""
    in_trace = {line.function for line in trace.lines if line.function}
    known = in_trace.union(*({body.name for body in function.bodies} for function in functions().values()))
    for name in ignored:
        if name not in known:
            msg = f"--ignore {name}: there is no such function, in the trace or in the model{do_you_mean(name, known)}"
            raise UsageError(msg)


def _subject(name: str, options: argparse.Namespace, given: Mapping[str, str], trace: FunctionTrace) -> Subject:
    """The subject for one scenario, by the options."""
    wanted = RunOptions(
        scenario=name,
        kernel=options.kernel,
        strategy=Trail.name,
        driver="stepper",
        settings=_settings(name, given, trace),
        patches=tuple(options.patch),
        without=tuple(options.without),
    )
    traced = (
        None if options.filter is None else read_function_list(read_bounded(options.filter), source=str(options.filter))
    )
    return make_subject(wanted, trace, traced=traced, ignored=options.ignore, open_end=options.open_end)


def _how_far(number: int, best: Attempt) -> str:
    return f"schedule {number}: {best.matched} of {len(best.subject.events)} lines matched"


def _record(found: SearchResult, log: Path | None, *, overwrite: bool = False) -> Result:
    """Repeat the choices of the best run, with all checks on, and log them if a log is wanted."""
    best = found.best
    trail = Trail(best.trail, best.values, is_whole=best.divergence is None)
    result = run(best.subject.options, log=log, overwrite=overwrite, strategy=trail)
    if result.steps != best.steps and not result.findings:
        msg = f"match: the run took {best.steps} steps, and {result.steps} steps when it was repeated"
        raise InternalError(msg)
    return result
