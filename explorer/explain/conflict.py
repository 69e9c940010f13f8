"""The conflict: two steps that race, and whose other order does not show the flaw.

The candidates are the races of the run, latest first. For each the run is made once more with the later step, and what
it needs, before the earlier one; everything else stays in its order. If the flaw is gone then, the order of these two
is what it hangs on (fr, SEARCH.md 8.5; Choi, Zeller, "Isolating Failure-Inducing Thread Schedules", ISSTA 2002, search
for a switch instead of a pair).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from actors.system.cpu import Cpu
from actors.system.lane import Lane
from explorer.schedule import Choice, Follow, Schedule
from explorer.strategies.dpor import clash, name_of
from explorer.trace import Trace, TracedStep, run_traced
from protocol.operations import COMMUTE, READ, UPDATE

if TYPE_CHECKING:
    from collections.abc import Hashable

    from explorer.causality import Group, Order
    from explorer.experiment import Experiment

DEFAULT_ATTEMPTS = 200
"""How many pairs are tried at most."""

IN_WORDS = {READ: "reads", UPDATE: "changes", COMMUTE: "adds to"}


@attrs.frozen
class Conflict:
    """Steps *first* and *second* of a trace race; in `swapped` they came the other way round, and the flaw did not.

    `thing` is what both access, `how` is how each of them does. `others` are the signatures of what `swapped` shows
    instead; best, nothing. `attempts` is how many pairs were tried.
    """

    first: int
    second: int
    thing: str
    how: tuple[str, str]
    swapped: Trace
    others: tuple[str, ...]
    attempts: int


def find_conflict(
    experiment: Experiment, trace: Trace, *, keeps_time: bool, attempts: int = DEFAULT_ATTEMPTS
) -> Conflict | None:
    """The latest race whose other order shows nothing at all, or else not this flaw; None if none is found."""
    assert trace.found is not None, "there is something to explain"
    order = trace.order()
    fallback: Conflict | None = None
    tried = 0
    for first, second in candidates(trace, order):
        if tried == attempts:
            break
        tried += 1
        follow = Follow(swap(trace, order, first, second), keeps_time=keeps_time)
        swapped = run_traced(experiment, follow, trace.found.signature)
        if swapped.found is not None or not is_swapped(trace, swapped, first, second):
            continue
        conflict = make_conflict(trace, swapped, first, second, tried)
        if not conflict.others:
            return conflict
        fallback = fallback or conflict
    return attrs.evolve(fallback, attempts=tried) if fallback is not None else None


def candidates(trace: Trace, order: Order) -> Iterator[tuple[int, int]]:
    """The races on the way to the flaw, latest first."""
    last = len(trace.steps) - 1
    past = ~0 if trace.ends_at_rest else order.past[last] | 1 << last
    for second in range(last, -1, -1):
        if past >> second & 1:
            firsts = order.races_of(second)
            if trace.steps[second].may_wait:
                firsts += [first for first in behind(order, second) if first not in firsts]
            yield from ((first, second) for first in firsts if trace.steps[first].lane != trace.steps[second].lane)


def behind(order: Order, second: int) -> list[int]:
    """What step *second* may have waited for: earlier steps on the same things, latest first.

    Before the unlocking that it waited for it could not come, but before the locking it could.
    """
    own = order.own[second]
    known = order.past[own] | 1 << own if own >= 0 else 0
    found = []
    for last in order.direct[second]:
        group: Group | None = last.before
        while group is not None:
            found += [first for first in group.steps if not known >> first & 1]
            group = group.before
    return sorted(found, reverse=True)


def swap(trace: Trace, order: Order, first: int, second: int) -> Schedule:
    """The schedule of *trace* with step *second*, and what it needs, before step *first*, and all else in its order."""
    between = range(first + 1, second)
    needed = [at for at in between if order.past[second] >> at & 1 and not order.past[at] >> first & 1]
    others = [at for at in between if at not in needed]
    choices: list[Choice] = []
    for number in (*range(first), *needed, second, first, *others, *range(second + 1, len(trace.steps))):
        choices += trace.steps[number].choices
    return tuple(choices)


def is_swapped(trace: Trace, swapped: Trace, first: int, second: int) -> bool:
    """Whether the later step came before the earlier one this time, if that came at all."""
    then, now = place(trace, swapped, first), place(trace, swapped, second)
    return now is not None and (then is None or now < then)


def place(trace: Trace, other: Trace, number: int) -> int | None:
    """Where step *number* of *trace* is in *other*: the same one of its lane, if it does the same there."""
    step = trace.steps[number]
    nth = sum(earlier.lane == step.lane for earlier in trace.steps[:number])
    of_lane = [at for at, candidate in enumerate(other.steps) if candidate.lane == step.lane]
    return of_lane[nth] if nth < len(of_lane) and does_the_same(step, other.steps[of_lane[nth]]) else None


def does_the_same(one: TracedStep, other: TracedStep) -> bool:
    """Whether two steps of different runs are the same by their names."""
    return (one.lane, one.function, one.operation, one.owner) == (
        other.lane,
        other.function,
        other.operation,
        other.owner,
    )


def make_conflict(trace: Trace, swapped: Trace, first: int, second: int, attempts: int) -> Conflict:
    """Put a pair that has been tried into words."""
    one, other = trace.steps[first], trace.steps[second]
    thing = shared_thing(one, other)
    how = (IN_WORDS[one.accesses.get(thing, UPDATE)], IN_WORDS[other.accesses.get(thing, UPDATE)])
    label = other.owner if thing is None else name_of(thing)
    return Conflict(first, second, label, how, swapped, tuple(swapped.stage.world.findings), attempts)


def whole(thing: Hashable) -> Hashable:
    """The object that *thing* is a part of, if it is one."""
    return thing[0] if isinstance(thing, tuple) else thing


def shared_thing(one: TracedStep, other: TracedStep) -> Hashable:
    """What two steps depend on each other by: an object rather than a CPU, and that rather than a lane."""
    shared = [
        thing
        for thing, mode in one.accesses.items()
        if thing in other.accesses and clash({thing: mode}, {thing: other.accesses[thing]})
    ]
    return min(
        shared,
        key=lambda thing: (isinstance(thing, Lane), isinstance(thing, Cpu), whole(thing) is not other.target),
        default=None,
    )
