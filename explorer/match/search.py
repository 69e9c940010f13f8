"""Run after run along the trace, each with a deviation more, until one matches it or the budget is spent.

The first runs of a scenario follow the trace as `follower` prefers, the second one lazily. A run that leads nowhere is
tried again with one other choice, the last ones first; of all runs so far, that which has matched the most is gone on
with. This is a search of limited discrepancy: it finds a schedule that needs a few deviations, and proves nothing if it
finds none, unless the trace shows what the kernel at hand does not have.

W. D. Harvey, M. L. Ginsberg, "Limited discrepancy search", IJCAI 1995. We depart from it by counting the matched lines
before the deviations.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs

from actors.system.world import running_stack
from explorer.jobs import check_patches
from explorer.match.cursor import Cursor, Entry, Event
from explorer.match.follower import Follower
from explorer.match.parting import Parting, describe_parting
from explorer.match.races import Choice, racing

if TYPE_CHECKING:
    from actors.machine.context import Context
    from explorer.experiment import Experiment, RunOptions
    from explorer.match.scope import Scope

DEVIATION_COST = 8
"""A run with one more deviation is put behind as many further tries of its parent."""


Progress = Callable[[int, "Attempt"], None]
"""Is told the number of each run, and the best so far."""


@attrs.frozen
class Subject:
    """What is searched for: the lines that must be matched, in a scenario on a kernel.

    `options` are what `experiment` was made of, for a run that is recorded; the runs of the search check nothing.
    """

    options: RunOptions
    experiment: Experiment
    scope: Scope
    events: tuple[Event, ...]
    open_end: bool


@attrs.frozen
class Plan:
    """How a run is made: the follower's preferences, and the `deviations` from them by the numbers of the choices."""

    is_lazy: bool = False
    deviations: Mapping[int, int] = attrs.field(factory=dict)

    def deviate(self, number: int, place: int) -> Plan:
        """The plan with one more deviation."""
        return attrs.evolve(self, deviations={**self.deviations, number: place})

    def further(self, choices: Sequence[Choice]) -> Iterator[Plan]:
        """The plans with one more deviation, behind those that there are: first where it may matter, then anywhere.

        *choices* are those of the run that was made by it; only what is needed of them is kept.
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
    """One run along the trace, and what is remembered of it: its world is gone.

    `matched` is how many lines; `parting` where it left the trace, None if it did not. `flows` and `cpus` say which of
    the model's were which of the trace's. `trail` and `values` are what was chosen; `further` plans deviate once more.
    """

    subject: Subject
    plan: Plan
    matched: int
    parting: Parting | None
    flows: dict[str, str]
    cpus: dict[int, int]
    after: tuple[str, ...]
    steps: int
    trail: list[tuple[int, int]]
    values: list[int]
    further: Iterator[Plan]
    tries: int = attrs.field(default=0, init=False)

    @property
    def is_hopeless(self) -> bool:
        """Whether no schedule of this kernel gets further: what is due is of a function that it does not have."""
        foreign = self.subject.scope.foreign
        return self.parting is not None and any(event.function in foreign for event in self.parting.due)


@attrs.frozen
class Found:
    """What a search came to: the best run, and how many there were. `is_proof`: no schedule can do better."""

    best: Attempt
    schedules: int
    is_interrupted: bool = False
    is_proof: bool = False

    @property
    def is_match(self) -> bool:
        """Whether the best run matches the whole trace."""
        return self.best.parting is None


def search(subjects: Sequence[Subject], *, budget: int, progress: Progress | None = None) -> Found:
    """Search for a run of one of *subjects* that matches, making at most *budget* runs (but one of each).

    Ctrl-C ends it with the best so far.
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
                return Found(best, number, is_proof=True)
            if attempt.parting is None or number >= max(budget, len(subjects)):
                return Found(best, number)
            heapq.heappush(heap, (*_key(attempt), next(tickets), attempt))
    except KeyboardInterrupt:
        if best is None:
            raise
        return Found(best, number, is_interrupted=True)
    assert best is not None, "there is at least one subject"
    return Found(best, number)


def _attempts(subjects: Sequence[Subject], heap: list[tuple[int, int, int, Attempt]]) -> Iterator[Attempt]:
    """One run of each subject, then deviations of what is best in *heap*, until there are none."""
    for is_lazy in (False, True):
        for subject in subjects:
            yield run_along(subject, Plan(is_lazy))
    while heap:
        _, _, ticket, parent = heapq.heappop(heap)
        plan = next(parent.further, None)
        if plan is None:
            continue
        parent.tries += 1
        heapq.heappush(heap, (*_key(parent), ticket, parent))
        yield run_along(parent.subject, plan)


def _matched(attempt: Attempt) -> tuple[bool, int]:
    return attempt.parting is None, attempt.matched


def _key(attempt: Attempt) -> tuple[int, int]:
    """What is popped first: the most matched, then the fewest deviations and tries."""
    return -attempt.matched, attempt.tries + DEVIATION_COST * len(attempt.plan.deviations)


def run_along(subject: Subject, plan: Plan) -> Attempt:
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
        parting=None if is_match else describe_parting(cursor, world, subject.scope, subject.options.kernel),
        flows={traced.name: flow.name for traced, flow in cursor.binding.flows.items()},
        cpus=cursor.binding.cpus,
        after=tuple(map(str, cursor.after)),
        steps=world.steps,
        trail=follower.trail,
        values=follower.values,
        further=plan.further(follower.choices),
    )


def _enter(follower: Follower, name: str, ctx: Context) -> None:
    """A watched function is being entered."""
    world = ctx.world
    if world.chooser is follower:
        callers = tuple(code.co_name for code in running_stack(ctx))
        follower.entered(Entry(ctx, name, callers, ctx.cpu.id if ctx.cpu else None, world.steps), world)
