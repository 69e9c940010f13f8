"""The search along a trace: run after run, each with one more deviation, until a run matches or the budget is spent.

The first runs of a scenario follow the trace with the preferences of `follower`, the second one lazily. A run that
leads nowhere is tried again with one other choice, the last choices first; the search continues from the run that has
matched the most lines. This is a limited discrepancy search: it finds schedules that need few deviations. A failed
search proves nothing, unless the trace shows a function that the kernel at hand does not have.

W. D. Harvey, M. L. Ginsberg, "Limited discrepancy search", IJCAI 1995. Departure: matched lines count before
deviations.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs

from actors.linux.init.machine import function_table
from actors.system.world import running_stack
from explorer.experiment import Experiment
from explorer.match.cursor import Cursor, Entry, TracedEvent, read_events
from explorer.match.divergence import TraceDivergence, describe_divergence
from explorer.match.follower import Follower
from explorer.match.races import ChoicePoint, racing
from explorer.match.scope import make_scope
from explorer.search.jobs import check_patches
from protocol.errors import UsageError

if TYPE_CHECKING:
    from actors.machine.context import Context
    from explorer.experiment import RunOptions
    from explorer.match.scope import Scope
    from protocol.formats.ftrace import FunctionTrace

DEVIATION_COST = 8
"""Each deviation of a run weighs as much as this many tries of its parent."""


Progress = Callable[[int, "Attempt"], None]
"""Called after each run with its number and the best attempt so far."""


@attrs.frozen
class Subject:
    """The subject of a search: the lines to be matched, in a scenario on a kernel.

    `options` are the options of `experiment` with checks on, for the recorded run; the runs of the search check
    nothing.
    """

    options: RunOptions
    experiment: Experiment
    scope: Scope
    events: tuple[TracedEvent, ...]
    open_end: bool


@attrs.frozen
class RunPlan:
    """The plan of a run: lazy or not, and its `deviations` from the follower's preferences, by number of the choice."""

    is_lazy: bool = False
    deviations: Mapping[int, int] = attrs.field(factory=dict)

    def deviate(self, number: int, place: int) -> RunPlan:
        """The same plan with one more deviation."""
        return attrs.evolve(self, deviations={**self.deviations, number: place})

    def further(self, choices: Sequence[ChoicePoint]) -> Iterator[RunPlan]:
        """The plans with one more deviation after the last: first at racing choices, then anywhere.

        *choices* are the choices of the run with this plan; only the needed parts of them are kept.
        """
        first = max(self.deviations, default=-1) + 1
        likely = racing(choices, first)
        others = [choice.others for choice in choices]
        anywhere = ((number, place) for number in range(len(others) - 1, first - 1, -1) for place in others[number])
        tried = set(likely)
        unlikely = (deviation for deviation in anywhere if deviation not in tried)
        return itertools.starmap(self.deviate, itertools.chain(likely, unlikely))


@attrs.define(eq=False)
class Attempt:
    """The result of one run along the trace; its world is gone.

    `matched` is the number of matched lines, and `divergence` the divergence from the trace, None if there is none.
    `flows` and `cpus` map the trace's flows and CPUs to the model's. `trail` and `values` are the choices. `further`
    generates plans with one more deviation.
    """

    subject: Subject
    plan: RunPlan
    matched: int
    divergence: TraceDivergence | None
    flows: dict[str, str]
    cpus: dict[int, int]
    after: tuple[str, ...]
    steps: int
    trail: list[tuple[int, int]]
    values: list[int]
    further: Iterator[RunPlan]
    tries: int = attrs.field(default=0, init=False)

    @property
    def is_hopeless(self) -> bool:
        """Whether no schedule of this kernel gets further, because a due line has a function that the kernel lacks."""
        foreign = self.subject.scope.foreign
        return self.divergence is not None and any(event.function in foreign for event in self.divergence.due)


@attrs.frozen
class SearchResult:
    """The result of a search: the best run, and the number of runs. `is_proof`: no schedule can do better."""

    best: Attempt
    schedules: int
    is_interrupted: bool = False
    is_proof: bool = False

    @property
    def is_match(self) -> bool:
        """Whether the best run matches the whole trace."""
        return self.best.divergence is None


def search(subjects: Sequence[Subject], *, budget: int, progress: Progress | None = None) -> SearchResult:
    """Search for a run of one of *subjects* that matches, within *budget* runs (at least one for each subject).

    Ctrl-C ends the search with the best run so far.
    """
    tickets, heap = itertools.count(), list[tuple[int, int, int, Attempt]]()
    best: Attempt | None = None
    for subject in subjects:
        check_patches(subject.experiment)
    try:
        for number, attempt in enumerate(_attempts(subjects, heap), start=1):
            if best is None or _matched(attempt) > _matched(best):
                best = attempt
            if progress is not None:
                progress(number, best)
            if attempt.is_hopeless:
                return SearchResult(best, number, is_proof=True)
            if attempt.divergence is None or number >= max(budget, len(subjects)):
                return SearchResult(best, number)
            heapq.heappush(heap, (*_key(attempt), next(tickets), attempt))
    except KeyboardInterrupt:
        if best is None:
            raise
        return SearchResult(best, number, is_interrupted=True)
    assert best is not None, "there is at least one subject"
    return SearchResult(best, number)


def _attempts(subjects: Sequence[Subject], heap: list[tuple[int, int, int, Attempt]]) -> Iterator[Attempt]:
    """Two runs of each subject, then deviations from the best run in *heap*, until there are none."""
    for is_lazy in (False, True):
        for subject in subjects:
            yield run_along(subject, RunPlan(is_lazy))
    while heap:
        _, _, ticket, parent = heapq.heappop(heap)
        plan = next(parent.further, None)
        if plan is None:
            continue
        parent.tries += 1
        heapq.heappush(heap, (*_key(parent), ticket, parent))
        yield run_along(parent.subject, plan)


def _matched(attempt: Attempt) -> tuple[bool, int]:
    return attempt.divergence is None, attempt.matched


def _key(attempt: Attempt) -> tuple[int, int]:
    """Sort key of the heap: most matched lines first, then fewest deviations and tries."""
    return -attempt.matched, attempt.tries + DEVIATION_COST * len(attempt.plan.deviations)


def run_along(subject: Subject, plan: RunPlan) -> Attempt:
    """Run the scenario once along the trace, with the deviations of *plan*."""
    cursor = Cursor(subject.events, open_end=subject.open_end)
    follower = Follower(cursor, plan.deviations, is_lazy=plan.is_lazy)
    stage = subject.experiment.set_stage(follower)
    world = stage.world
    stage.machine.functions = stage.machine.functions.watched(
        {function: partial(_enter, follower, name) for name, function in subject.scope.shown.items()}
    )
    stage.start()
    subject.experiment.drive(world)
    is_match = cursor.is_done and cursor.mismatch is None and world.stopped != "stuck"
    return Attempt(
        subject=subject,
        plan=plan,
        matched=len(cursor.matched),
        divergence=None if is_match else describe_divergence(cursor, world, subject.scope, subject.options.kernel),
        flows={traced.name: flow.name for traced, flow in cursor.binding.flows.items()},
        cpus=cursor.binding.cpus,
        after=tuple(map(str, cursor.after)),
        steps=world.steps,
        trail=follower.trail,
        values=follower.values,
        further=plan.further(follower.choices),
    )


def _enter(follower: Follower, name: str, ctx: Context) -> None:
    """Report the entry into a watched function to *follower*."""
    world = ctx.world
    if world.chooser is follower:
        callers = tuple(code.co_name for code in running_stack(ctx))
        follower.entered(Entry(ctx, name, callers, ctx.cpu.id if ctx.cpu else None, world.steps), world)


def make_subject(
    wanted: RunOptions,
    trace: FunctionTrace,
    *,
    traced: Iterable[str] | None = None,
    ignored: Iterable[str] = (),
    open_end: bool = False,
) -> Subject:
    """The subject of a search for a run as *wanted* that shows *trace*. UsageError if no line can be compared.

    *traced* is set_ftrace_filter, if known; *ignored* functions are not compared. With an *open_end* the model may go
    on after the last line; after lost events it always may.
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
