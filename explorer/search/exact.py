"""Exact searches: one schedule of them, and a subtree of a search, which any process can explore."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import attrs

from actors.system.recorder import Recorder
from explorer.experiment import Experiment
from explorer.profile import Knowledge
from explorer.schedule import Follow
from explorer.search.jobs import CHECKED_EVERY, JobReport, run_once_more
from explorer.search.path_records import pack, unpack
from explorer.search.strategies.dpor import ASLEEP, Dpor, Want
from explorer.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.search.strategies.prefix import Following

    Run = Callable[[Following, bool], JobReport]


def run_exactly(experiment: Experiment, schedule: Following, *, twice: bool) -> JobReport:
    """Run a schedule, or run it *twice*; the report is empty if the search has cut the run off.

    The schedule has no number yet.
    """
    report = JobReport()
    stage = experiment.set_stage(schedule)
    watch = Watch(stage.world, wants_accesses=True)
    records: list[bytes] = []
    stage.world.observers = (Recorder(records.append), watch) if twice else (watch,)
    schedule.watched_by(watch)
    stage.start()
    experiment.drive(stage.world, experiment.header.driver)
    schedule.end(stage.world)
    report.divergence = schedule.divergence
    if report.divergence is not None or stage.world.stopped == ASLEEP:
        return report
    choices = schedule.choices
    if twice:
        report.divergence = run_once_more(experiment, Follow(choices, controls_clock=True), records)
    if report.divergence is None:
        report.add(0, stage, watch, choices)
    return report


# -- subtrees ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Ran:
    """One schedule of a subtree: its report, and the steps to be tried at states above the subtree.

    The report contains only the functions and the pairs of operations that no schedule before it had.
    """

    report: JobReport
    wants: list[Want]


@attrs.frozen
class Explored:
    """Some schedules of a subtree, and the path from the state above the subtree on, as it is after them."""

    schedules: list[Ran]
    path: bytes


def explore_subtree(path: bytes, floor: int, most: int, run: Run, *, twice: bool = False) -> Explored:
    """Run schedules of the subtree below the first *floor* states of a path: at most so many, one or more.

    Whether a schedule is run twice depends on its path alone, and so not on the way in which a search is divided.
    """
    search = Dpor(unpack(path), floor)
    schedules: list[Ran] = []
    known = JobReport()
    while len(schedules) < most and (branch := search.next_schedule()) is not None:
        steps = " ".join(node.event.lane for node in branch.path)
        report = run(branch, twice or zlib.crc32(steps.encode()) % CHECKED_EVERY == 0)
        keep_news(report, known)
        if report.divergence is not None:
            schedules.append(Ran(report, []))
            del search.path[floor:]  # it proves nothing
            break
        search.learn(branch, report)
        schedules.append(Ran(report, search.wants))
    return Explored(schedules, pack(search.path[max(floor - 1, 0) :]))


def keep_news(report: JobReport, known: JobReport) -> None:
    """Remove from *report* what is *known* from earlier schedules, and what only samplers need."""
    report.functions -= known.functions
    report.pairs -= known.pairs
    known.functions |= report.functions
    known.pairs |= report.pairs
    report.lengths = Knowledge()
