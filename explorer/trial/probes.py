"""Probes: the flaw of a log is looked for on one kernel, by the names of its schedule and then by search."""

from __future__ import annotations

import functools
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from explorer.experiment import Experiment, Given, RunOptions
from explorer.schedule import Follow
from explorer.search.registry import PORTFOLIO
from explorer.trial.causes import Cause, cause_of, is_one_sort, shows
from explorer.trial.kernels import Kernel, fix_functions
from explorer.trial.reach import entered
from explorer.trial.sides import Limits, Side, search
from protocol.errors import UsageError
from protocol.log import LogReader

if TYPE_CHECKING:
    from explorer.search.campaign import Campaign
    from explorer.watch import RacingPair
    from explorer.workers import Tell
    from protocol.findings import Finding
    from protocol.schedule import Schedule

UNDISTURBED = 20
"""Fewer schedules than this, not ended before by another finding, say nothing about a flaw."""


@attrs.frozen
class Question:
    """The flaw of a log, and how to look for it: the log with its code, the schedule, the limits of the search."""

    log: Path
    given: Given
    cause: Cause
    schedule: Schedule
    budget: int
    seed: int


@attrs.frozen(kw_only=True)
class Probe:
    """The answer of one kernel. `sign` is the signature that shows the flaw, `why` the reason to call it that flaw.

    `schedules` are those up to the first that shows it, or all; 0 if the log's own schedule shows it. `is_all`: there
    are no others. `ended` counts the schedules that other findings ended, the most frequent of which is `ended_by`.
    `races`: the two steps of the flaw raced. `functions` are the kernel functions that ran. `refused` is why the
    kernel cannot run the stage.
    """

    kernel: Kernel
    sign: str = ""
    why: str = ""
    schedules: int = 0
    is_all: bool = False
    ended: int = 0
    ended_by: str = ""
    races: bool = True
    functions: frozenset[str] = frozenset()
    refused: str = ""

    @property
    def is_disturbed(self) -> bool:
        """Whether other findings end most of the schedules."""
        return 2 * self.ended > self.schedules

    @property
    def is_masked(self) -> bool:
        """Whether other findings end so many schedules that the flaw may be there unseen.

        Few schedules alone are no mask: they are weak evidence.
        """
        return not self.sign and self.is_disturbed and self.schedules - self.ended < UNDISTURBED


def experiment_of(question: Question) -> Experiment:
    """The experiment of the log, which is read once, as long as the file stays the same."""
    log = question.log.absolute()  # the process may be in another folder at the next question
    stat = log.stat()
    return _experiment(log, question.given, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=1)
def _experiment(log: Path, given: Given, _version: tuple[int, int, int]) -> Experiment:
    with closing(LogReader(log)) as reader:
        return Experiment.of_log(reader, given)


def probe(question: Question, kernel: Kernel, _tell: Tell) -> Probe:
    """Look for the flaw on one kernel."""
    try:
        experiment = experiment_of(question).on_kernel(kernel.profile, kernel.patches, kernel.without)
        functions = frozenset(entered(experiment, Follow(question.schedule), fix_functions()))
        for found in shows(experiment, question.schedule):
            for finding in found:
                if why := sign(question, experiment, question.schedule, finding):
                    return Probe(kernel=kernel, sign=finding.signature, why=why, functions=functions)
        return _searched(question, kernel, experiment, functions)
    except UsageError as error:
        return Probe(kernel=kernel, refused=str(error))


def search_again(question: Question, kernel: Kernel, _tell: Tell) -> Probe:
    """Look for the flaw by search alone: on the log's own kernel, this shows how many schedules it takes there."""
    experiment = experiment_of(question).on_kernel(kernel.profile, kernel.patches, kernel.without)
    return _searched(question, kernel, experiment, frozenset())


def sign(question: Question, experiment: Experiment, schedule: Schedule, finding: Finding) -> str:
    """Why *finding* is the flaw; empty if it is not. Racing pairs are looked for only if they may matter."""
    cause = Cause(finding, (), needs_no_race=False)
    if why := cause.is_sign_of(question.cause):
        return why
    if not is_one_sort(finding, question.cause.finding):
        return ""
    return cause_of(experiment, schedule, finding).is_sign_of(question.cause)


def _searched(question: Question, kernel: Kernel, experiment: Experiment, functions: frozenset[str]) -> Probe:
    """Search on one kernel until a finding is the flaw."""
    look = Look(question, experiment)
    header = experiment.header
    options = RunOptions(scenario=header.scenario, kernel=header.kernel, strategy=PORTFOLIO, seed=question.seed)
    side = search(experiment, options, Limits(question.budget, None), groups=False, progress=look)
    found = side.seen.get(look.sign)
    fatal = {name: one.numbers for name, one in side.seen.items() if one.finding.is_fatal and name != look.sign}
    return Probe(
        kernel=kernel,
        sign=look.sign,
        why=look.why,
        schedules=side.schedules if found is None else min(found.numbers) + 1,
        is_all=side.is_all,
        ended=len(frozenset[int]().union(*fatal.values())),
        ended_by=max(fatal, key=lambda name: len(fatal[name]), default=""),
        races=_races(question.cause.pairs[:1], side),
        functions=functions | side.functions,
    )


def _races(pairs: tuple[RacingPair, ...], side: Side) -> bool:
    return any({pair, pair[::-1]} & side.pairs for pair in pairs) or not pairs


@attrs.define
class Look:
    """Looks at the new findings of a search after each job, and ends the search with the flaw."""

    question: Question
    experiment: Experiment
    sign: str = ""
    why: str = ""
    _seen: set[str] = attrs.field(factory=set, init=False)

    def __call__(self, campaign: Campaign) -> None:
        """Judge the findings that are new."""
        for signature, found in campaign.found.items():
            if self.sign or signature in self._seen:
                continue
            self._seen.add(signature)
            self.why = sign(self.question, self.experiment, found.schedule, found.finding)
            if self.why:
                self.sign = signature
                campaign.stopped = campaign.stopped or "first"
