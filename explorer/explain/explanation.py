"""All facts about one finding, for the text, the diagrams, the timeline and the page."""

from __future__ import annotations

import functools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from explorer.experiment import DRIVERS
from explorer.explain.cause import cause_lines
from explorer.explain.conflict import Conflict, Conflicts, find_conflicts
from explorer.explain.details import Detail, Details
from explorer.explain.difference import Difference, first_difference
from explorer.replay import Replay
from explorer.schedule import Follow
from explorer.trace import Trace, run_traced, trace_log
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.log import LogReader
from protocol.records import Header
from protocol.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.system.strategy import Strategy
    from explorer.experiment import Experiment

RUNS = 10
"""Number of runs that reproduce the flaw."""

RUNS_WITHOUT_RACE = 100
"""Most runs for conflicts if the non-preemptive order shows the flaw, too: then there are rarely any."""

_STEP_NUMBER = re.compile(r"\bstep (\d+)")


@attrs.frozen(kw_only=True)
class Explanation:
    """The facts about a finding.

    `trace` is the run up to the finding, with `details` of each step. `important` are the places of the steps that
    matter, with `notes` on some of them. `conflicts` are the racing pairs that the flaw depends on, the cause first;
    `conflict` is the first of them, None if none was found. `plain_shows_it`: the flaw needs no race, since the
    non-preemptive order shows it, too. `reproduced` counts by driver how many of `runs` runs showed the flaw.
    `needs_timing`: the flaw depends on the log's virtual time, so no other order could be tried. `cause` are sentences
    about the cause.
    """

    experiment: Experiment
    finding: Finding
    trace: Trace
    details: list[Detail]
    before: dict[str, tuple[str, int]]
    important: list[int]
    notes: dict[int, list[str]]
    conflicts: Conflicts
    difference: Difference | None
    plain_shows_it: bool
    reproduced: dict[str, int]
    runs: int = RUNS
    needs_timing: bool = False
    cause: tuple[str, ...] = ()
    log: Path | None = None

    @property
    def conflict(self) -> Conflict | None:
        """The racing pair that is the cause."""
        return next(iter(self.conflicts.found), None)

    @property
    def header(self) -> Header:
        """The header that describes the run."""
        return self.experiment.header

    @property
    def deviates(self) -> list[bool]:
        """For each step, whether it deviates from the non-preemptive order."""
        pairs = zip(self.details, self.trace.steps, strict=True)
        return [detail.plain != step.lane for detail, step in pairs]


def explain_log(
    experiment: Experiment, path: Path, wanted: str | None = None, *, budget: int | None = None
) -> Explanation:
    """Explain a finding of a log, with at most *budget* runs for the conflicts.

    UsageError if the log does not show it, or if its choices do not show it any more.
    """
    logged = trace_log(experiment, path, wanted)
    assert logged.found is not None, "trace_log() only returns runs that show the flaw"
    signature = logged.found.signature
    try:
        return explain_schedule(experiment, logged.schedule, signature, log=path, budget=budget)
    except NotReproducedError:
        return _explain_timed(experiment, path, signature)


def explain_schedule(
    experiment: Experiment,
    schedule: Schedule,
    signature: str,
    *,
    log: Path | None = None,
    budget: int | None = None,
) -> Explanation:
    """Explain the finding that *schedule* leads to; NotReproducedError if it leads to none with that signature."""
    for controls_clock in (False, True):
        details = Details()
        trace = run_traced(experiment, Follow(schedule, controls_clock=controls_clock), signature, details)
        if trace.found is not None:
            break
    else:
        raise NotReproducedError(signature)
    details.end_step()
    plain = run_traced(experiment, Follow((), controls_clock=controls_clock))
    needs_no_race = signature in plain.stage.world.findings
    if budget is None and needs_no_race:
        budget = RUNS_WITHOUT_RACE
    conflicts = find_conflicts(experiment, trace, controls_clock=controls_clock, budget=budget)
    conflict = next(iter(conflicts.found), None)
    reproduced = reproduce(experiment, lambda: Follow(trace.schedule, controls_clock=controls_clock), signature)
    return Explanation(
        experiment=experiment,
        finding=trace.found,
        trace=trace,
        details=details.steps,
        before=details.before,
        important=important_steps(trace, conflict),
        notes=notes_of(trace, conflict),
        conflicts=conflicts,
        difference=first_difference(trace, conflict, plain),
        plain_shows_it=needs_no_race,
        reproduced=reproduced,
        cause=tuple(cause_lines(trace, details.steps, details.before, conflict)),
        log=log,
    )


class NotReproducedError(UsageError):
    """The choices alone do not lead to the finding."""

    def __init__(self, signature: str) -> None:
        super().__init__(f"{signature}: the choices alone do not lead there")


def _explain_timed(experiment: Experiment, path: Path, signature: str) -> Explanation:
    """Explain a finding that depends on the log's timing, so that no steps can be swapped."""
    details = Details()
    trace = _replay_traced(experiment, path, signature, details)
    details.end_step()
    assert trace.found is not None, "it was found by trace_log() with the same choices"
    reproduced = dict.fromkeys(DRIVERS, 0)
    for driver in drivers_in_turn():
        reproduced[driver] += _replay_traced(experiment, path, signature, None, driver).found is not None
    return Explanation(
        experiment=experiment,
        finding=trace.found,
        trace=trace,
        details=details.steps,
        before=details.before,
        important=important_steps(trace, None),
        notes=notes_of(trace, None),
        conflicts=Conflicts((), 0),
        difference=None,
        plain_shows_it=False,
        reproduced=reproduced,
        needs_timing=True,
        cause=tuple(cause_lines(trace, details.steps, details.before, None)),
        log=path,
    )


def _replay_traced(
    experiment: Experiment, path: Path, signature: str, details: Details | None, driver: str = "stepper"
) -> Trace:
    log = LogReader(path)
    try:
        return outside_trio(lambda: run_traced(experiment, Replay(log), signature, details, driver))
    finally:
        log.close()


def reproduce(experiment: Experiment, remake: Callable[[], Strategy], signature: str) -> dict[str, int]:
    """Run the schedule ten times, on both drivers in turn; return how often each of them showed the flaw."""
    shown = dict.fromkeys(DRIVERS, 0)
    for driver in drivers_in_turn():
        trace = outside_trio(functools.partial(run_traced, experiment, remake(), signature, driver=driver))
        shown[driver] += trace.found is not None
    return shown


def drivers_in_turn() -> list[str]:
    """The driver of each of the runs."""
    names = list(DRIVERS)
    return [names[number % len(names)] for number in range(RUNS)]


def outside_trio(run: Callable[[], Trace]) -> Trace:
    """Call *run* outside of any Trio loop: in a thread, if the caller is within one."""
    if not trio.lowlevel.in_trio_run():
        return run()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


# -- which steps, and why ---------------------------------------------------------------------------------------------


def important_steps(trace: Trace, conflict: Conflict | None) -> list[int]:
    """The steps at which lanes interact, the steps of the conflict, and the steps that the finding names."""
    pair = {conflict.first, conflict.second} if conflict is not None else set()
    return sorted({*trace.steps_that_matter(), *pair, *named_steps(trace)})


def named_steps(trace: Trace) -> dict[int, str]:
    """The steps whose numbers occur in the finding, each with its line.

    A finding counts steps from 1, a trace from 0: `step 263` of a finding is step 262 of the log.
    """
    assert trace.found is not None, "there is something to explain"
    places = {step.number: place for place, step in enumerate(trace.steps)}
    found: dict[int, str] = {}
    for line in (trace.found.message, *trace.found.details):
        for number in _STEP_NUMBER.findall(line):
            place = places.get(int(number))
            if place is not None:
                found.setdefault(place, line)
    return found


def notes_of(trace: Trace, conflict: Conflict | None) -> dict[int, list[str]]:
    """Notes on single steps."""
    notes: dict[int, list[str]] = {}
    if conflict is not None:
        notes.setdefault(conflict.first, []).append("conflict: first")
        notes.setdefault(conflict.second, []).append("conflict: second")
    for place, line in named_steps(trace).items():
        notes.setdefault(place, []).append(_STEP_NUMBER.sub("here", line, count=1))
    if trace.steps and not trace.ends_at_rest:
        assert trace.found is not None, "there is something to explain"
        notes.setdefault(len(trace.steps) - 1, []).append(f"finding: {trace.found.kind}")
    return notes
