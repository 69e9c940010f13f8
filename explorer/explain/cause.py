"""The cause of a finding in sentences: a missing wait, a reference that was not dropped, or a cycle.

These sentences follow from the happens-before order of the run alone. The conflicts, which take further runs, are
another part of an explanation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from actors.system.lane import Lane
from explorer.accesses import CONTEXTS
from explorer.causality import Order
from explorer.explain.pairs import LOCKS, FindingSubject, Nearness, is_wait, mentions, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from explorer.explain.conflict import Conflict
    from explorer.explain.details import Detail
    from explorer.trace import Trace, TracedStep

MOST_REFERENCES = 5
"""Most references of a leak that are listed one by one."""

CALLS = {
    "insert": "queue_work",
    "insert_if_executing": "queue_work",
    "entrain": "rcu_barrier",
    "last_ticket": "flush_workqueue",
}
"""Well-known names of kernel functions for steps whose operation has another name."""

_REFERENCES = re.compile(r"^(percpu_ref|css|kobject|kref|refcount)_|_(get|put)(_many)?$")
"""Functions that only take or drop references."""

_FREED = re.compile(r"^freed by (?P<function>\w+)\(\) in (?P<lane>.+), step (?P<step>\d+)$")


def cause_lines(
    trace: Trace, details: list[Detail], before: Mapping[str, tuple[str, int]], conflict: Conflict | None
) -> list[str]:
    """Sentences about the cause; empty if nothing is known beyond the finding itself.

    *before* are the counters at the begin of the race.
    """
    finding = trace.found
    assert finding is not None, "there is something to explain"
    if not trace.steps:
        return []
    if finding.kind == "deadlock":
        return [f"the cycle: {finding.name}"]
    if finding.kind in {"leak", "property", "accounting"}:
        return list(reference_lines(trace, details, before))
    if (lines := use_after_free_lines(trace, details)) or conflict is None or conflict.nearness is not Nearness.WAIT:
        return lines
    wait = looked(trace.steps[conflict.first])
    return [f"nothing waits for {started(trace, details, conflict.second)}; {wait}, before that"]


# -- a missing wait ---------------------------------------------------------------------------------------------------


def use_after_free_lines(trace: Trace, details: list[Detail]) -> list[str]:
    """The missing wait between the last use of an object and its free; empty if the finding is not about one."""
    found = trace.found
    assert found is not None, "there is something to explain"
    match = next((match for line in found.details if (match := _FREED.match(line))), None)
    if match is None or trace.ends_at_rest:
        return []
    use = trace.steps[-1]
    where = f"use at step {use.number} ({use.lane} in {found.function}())"
    free = place_of(trace, int(match["step"]))
    freed = f"free at step {match['step']} ({match['lane']} in {match['function']}())"
    if free is None:
        return [f"{freed} comes before the race, and {where} in it: the use is wrong in every order"]
    if is_ordered(trace, free):
        return [f"{freed} happens before {where}: whatever else is waited for, the use comes too late"]
    return [f"{freed} is not ordered with {where}: {missing_wait(trace, details, free)}"]


def is_ordered(trace: Trace, free: int) -> bool:
    """Whether step *free* happens before the last step, without the order of their accesses to the freed object.

    A lock does not order the flows that take it: either could have been first. A grace period does not order the flows
    that happened to be in a read-side section when it began.
    """
    *steps, use = trace.steps
    there = {thing for thing in trace.steps[free].accesses if not isinstance(thing, Lane)}
    order = Order()
    for step in steps:
        order.add(without(step, is_no_order))
    order.add(without(use, lambda thing: thing in there or is_no_order(thing)))
    return bool(order.past[-1] >> free & 1)


def is_no_order(thing: Hashable) -> bool:
    """Whether the order of two accesses to *thing* is accidental."""
    return thing == CONTEXTS or isinstance(whole(thing), LOCKS)


def without(step: TracedStep, is_left_out: Callable[[Hashable], bool]) -> TracedStep:
    """The step without its accesses to some things."""
    return attrs.evolve(step, accesses={thing: mode for thing, mode in step.accesses.items() if not is_left_out(thing)})


def missing_wait(trace: Trace, details: list[Detail], free: int) -> str:
    """The event that led to the use, for which the free does not wait; with the wait that came too early, if any."""
    chain = list(origins(trace, details))
    for start in chain:
        wait = too_early(trace, start, free)
        if wait is not None:
            return f"nothing waits for {started(trace, details, start)}; {looked(trace.steps[wait])}, before that"
    if chain:
        return f"nothing waits for {started(trace, details, chain[0])}"
    lane, call = trace.steps[-1].lane, details[-1].call
    begin = len(trace.steps) - 1
    for place in range(begin, -1, -1):
        if trace.steps[place].lane == lane:
            if details[place].call != call:
                break
            begin = place
    return f"nothing waits for {lane}, which is in {call}() since step {trace.steps[begin].number}"


def origins(trace: Trace, details: list[Detail]) -> Iterator[int]:
    """The steps that led to the last one: the step that queued its callback or work, and so on backwards."""
    origin, before = details[-1].origin, len(trace.steps)
    while origin is not None:
        place = place_of(trace, origin[1])
        if place is None or place >= before:
            return
        yield place
        origin, before = details[place].origin, place


def too_early(trace: Trace, start: int, free: int) -> int | None:
    """The last wait that the free depends on and that collected its work before step *start* added to it."""
    past, step = trace.order().past[free], trace.steps[start]
    for place in range(start - 1, -1, -1):
        wait = trace.steps[place]
        if past >> place & 1 and any(is_wait(thing, wait, step) for thing in step.accesses if thing in wait.accesses):
            return place
    return None


def looked(wait: TracedStep) -> str:
    """A wait in words, with the step at which it collected its work."""
    return f"{CALLS[wait.operation]}() of {wait.lane} looked at step {wait.number}"


def started(trace: Trace, details: list[Detail], place: int) -> str:
    """The callback or work that a step started, in words."""
    step, call = trace.steps[place], CALLS.get(trace.steps[place].operation, trace.steps[place].operation)
    callers = [name for name in details[place].stack if name not in {"__queue_work", "queue_work_on", call}]
    return f"{call} at step {step.number} ({step.lane}" + (f" in {callers[-1]}())" if callers else ")")


def place_of(trace: Trace, number: int) -> int | None:
    """The place in the race of the step with that number."""
    first = trace.steps[0].number
    place = number - first
    if 0 <= place < len(trace.steps) and trace.steps[place].number == number:
        return place
    return next((at for at, step in enumerate(trace.steps) if step.number == number), None)


# -- references that remain -------------------------------------------------------------------------------------------


@attrs.define
class Account:
    """The references to one object in the race: the steps at which they were taken and dropped.

    `before` is the count at the begin of the race, `count` the count at the end. `open` are the steps of references
    that were probably never dropped.
    """

    before: int
    count: int
    taken: list[int] = attrs.field(factory=list)
    dropped: list[int] = attrs.field(factory=list)
    open: list[int] = attrs.field(factory=list)


def reference_lines(trace: Trace, details: list[Detail], before: Mapping[str, tuple[str, int]]) -> Iterator[str]:
    """The references to leaked objects that were taken and not dropped in the race, and the injected faults."""
    names = FindingSubject.of(trace).names

    def steps(places: list[int]) -> str:
        told = ", ".join(step_of(trace, details, place) for place in places[:MOST_REFERENCES])
        return told + (f" and {len(places) - MOST_REFERENCES} more" if len(places) > MOST_REFERENCES else "")

    for label, account in sorted(accounts(details, before).items()):
        if account.count > 0 and mentions(label, names):
            yield f"{label}: references that are left: {account.count}; held before the race: {account.before}"
            yield f"  taken: {steps(account.taken) or 'none'}"
            yield f"  dropped: {steps(account.dropped) or 'none'}"
            if account.open:
                yield f"  taken and never dropped, it seems: {steps(account.open)}"
    for place, detail in enumerate(details):
        for fault in detail.faults:
            yield f"injected: the fault {fault!r} at {step_of(trace, details, place)}"


def accounts(details: list[Detail], before: Mapping[str, tuple[str, int]]) -> dict[str, Account]:
    """The account of every reference counter that changed in the race."""
    found: dict[str, Account] = {}
    for place, detail in enumerate(details):
        for label, (what, count) in detail.counts.items():
            if what != "references":
                continue
            account = found.get(label)
            if account is None:
                held = max(before[label][1], 0)
                account = found[label] = Account(held, held)
            for _ in range(count - account.count):
                account.taken.append(place)
                account.open.append(place)
            for _ in range(account.count - count):
                close(account, details, place)
            account.count = count
    for account in found.values():
        del account.open[: max(len(account.open) - account.count, 0)]
    return found


def close(account: Account, details: list[Detail], put: int) -> None:
    """Match a reference that is dropped at step *put* with one that was taken.

    Candidates in this order: taken by the same function of the same flow; taken by the flow that queued the callback or
    work that drops it; taken before the race; the oldest.
    """
    account.dropped.append(put)
    here, origin = details[put], details[put].origin
    same = [at for at in account.open if details[at].lane == here.lane and caller(details[at]) == caller(here)]
    queued = [at for at in account.open if origin is not None and details[at].lane == origin[0]]
    if same or queued:
        account.open.remove((same or queued)[-1])
    elif len(account.dropped) > account.before and account.open:
        account.open.pop(0)


def step_of(trace: Trace, details: list[Detail], place: int) -> str:
    """A step that takes or drops a reference, in words."""
    step = trace.steps[place]
    return f"step {step.number} ({step.lane} in {caller(details[place])}())"


def caller(detail: Detail) -> str:
    """The function that takes or drops a reference: the innermost one that does more than that."""
    names = [name for name in detail.stack if not _REFERENCES.search(name)]
    return names[-1] if names else detail.lane
