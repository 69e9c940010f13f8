"""The racing pairs that a flaw may depend on, nearest to the finding first.

A pair is two steps of different lanes, on the way to the finding, that access one thing in ways that do not commute. It
may also be a pair that other steps order, since with other choices before them they may have the other order. The thing
determines how near a pair is to the finding. From near to far: a wait that came too early for the event that it should
have waited for; the object that the finding is about; things that belong to this object; other data; locks; and last
the machine's bookkeeping, which every step uses: worker pools, grace periods, softirqs.
"""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.locking.locks import Completion, Lock, RwSem
from actors.linux.kernel.rcu.tree import Rcu, RcuData
from actors.linux.kernel.smp import CallQueue
from actors.linux.kernel.softirq import Softirq
from actors.linux.kernel.time.timer import TimerBase
from actors.linux.kernel.workqueue import PoolWorkqueue, WorkerPool
from actors.system.actor import Actor, Shared
from actors.system.cpu import Cpu
from actors.system.lane import Lane
from explorer.accesses import CONTEXTS, clash, name_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from explorer.trace import Trace, TracedStep
    from protocol.findings import Finding

MEMORY = frozenset({"use-after-free", "double-free", "refcount", "warn", "bug", "null-deref"})
"""Kinds of findings with one sort of flaw: the use of an object that is not in the expected state any more."""

WAITS = {"new": ("entrain", ("call_rcu",)), "tickets": ("last_ticket", ("insert", "insert_if_executing"))}
"""By the part of a list: the step in which a wait collects its work, and the steps that add work to the list.

Work that is added later is not waited for: rcu_barrier() and callbacks, flush_workqueue() and work items.
"""

BOOKKEEPING = (WorkerPool, PoolWorkqueue, Rcu, RcuData, Softirq, TimerBase, CallQueue, Completion, Cpu, Lane)
LOCKS = (Lock, RwSem)

MOST_ACCESSES = 200
"""The last so many accesses to one thing are paired with each other; more would make many useless pairs."""


class Nearness(enum.IntEnum):
    """How near a pair is to the finding."""

    WAIT = 0
    OBJECT = 1
    PART = 2
    DATA = 3
    LOCK = 4
    MACHINE = 5

    @property
    def in_words(self) -> str:
        """The nearness in words, for reports."""
        return WORDS[self]


WORDS = {
    Nearness.WAIT: "a wait that began before what it should wait for",
    Nearness.OBJECT: "the object that the finding is about",
    Nearness.PART: "what belongs to the object that the finding is about",
    Nearness.DATA: "other data",
    Nearness.LOCK: "a lock",
    Nearness.MACHINE: "bookkeeping of the machine",
}


@attrs.frozen
class Pair:
    """Steps *first* and *second* of a trace, which access *thing*."""

    first: int
    second: int
    thing: Hashable
    nearness: Nearness

    @property
    def rank(self) -> tuple[int, int, int]:
        """Sort key for trials: the nearest thing first, then the latest steps.

        Of several events that a wait misses, the earliest comes first: it would have had to wait least for it.
        """
        second = self.second if self.nearness is Nearness.WAIT else -self.second
        return self.nearness, second, -self.first


def pairs_of(trace: Trace) -> list[Pair]:
    """All pairs on the way to the finding, nearest first; of pairs with equal descriptions only the latest."""
    about = FindingSubject.of(trace)
    found: dict[tuple[object, ...], Pair] = {}
    for thing, first, second in meetings(trace):
        one, other = trace.steps[first], trace.steps[second]
        pair = Pair(first, second, thing, about.nearness(thing, one, other))
        key: tuple[object, ...] = (one.words, other.words)
        if pair.nearness is Nearness.WAIT:  # each call of call_rcu() has another caller
            key = (first, second)
        known = found.get(key)
        if known is None or pair.rank < known.rank:
            found[key] = pair
    return sorted(found.values(), key=lambda pair: pair.rank)


def meetings(trace: Trace) -> Iterator[tuple[Hashable, int, int]]:
    """Each thing with each two racing steps of different lanes there, if the finding depends on the second."""
    steps, last = trace.steps, len(trace.steps) - 1
    if last < 0:
        return
    past = ~0 if trace.ends_at_rest else trace.order().past[last] | 1 << last
    accessed: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number, step in enumerate(steps):
        if past >> number & 1:
            for thing in step.accesses:
                accessed[thing].append(number)
    for thing, numbers in accessed.items():
        recent = numbers[-MOST_ACCESSES:]
        for at, second in enumerate(recent):
            other = steps[second]
            for first in recent[:at]:
                one = steps[first]
                if one.lane != other.lane and clash({thing: one.accesses[thing]}, {thing: other.accesses[thing]}):
                    yield thing, first, second


@attrs.frozen
class FindingSubject:
    """The subject of a finding: the objects that it names, or else the target of its last step, with their `names`."""

    objects: frozenset[Shared]
    actors: frozenset[Actor]
    names: frozenset[str]
    misses_waits: bool

    @classmethod
    def of(cls, trace: Trace) -> FindingSubject:
        """The subject of the finding of *trace*."""
        finding = trace.found
        assert finding is not None, "there is something to explain"
        things = dict.fromkeys(whole(thing) for step in trace.steps for thing in step.accesses)
        named = [thing for thing in things if isinstance(thing, Shared) and is_named(thing, finding)]
        if not named and not trace.ends_at_rest:
            target = trace.steps[-1].target
            named = [target] if isinstance(target, Shared) else []
        objects = [thing for thing in named if not isinstance(thing, BOOKKEEPING)]
        owners = [thing.actor for thing in objects if not isinstance(thing, LOCKS)]
        return cls(
            frozenset(objects),
            frozenset(owners),
            frozenset(name for thing in objects if (name := name_alone(thing))),
            finding.kind in MEMORY or finding.kind == "invariant",
        )

    def nearness(self, thing: Hashable, one: TracedStep, other: TracedStep) -> Nearness:
        """How near a pair of steps, which race at *thing* in this order, is to the finding."""
        if self.misses_waits and is_wait(thing, one, other):
            return Nearness.WAIT
        of = whole(thing)
        if of == CONTEXTS or isinstance(of, BOOKKEEPING) or not isinstance(of, Shared):
            return Nearness.MACHINE
        if of in self.objects:
            return Nearness.OBJECT
        if isinstance(of, LOCKS):
            return Nearness.LOCK if all(is_taken(of, step) for step in (one, other)) else Nearness.MACHINE
        return Nearness.PART if self.has(of) else Nearness.DATA

    def has(self, thing: Shared) -> bool:
        """Whether *thing* belongs to one of the objects."""
        return thing.actor in self.actors or mentions(name_of(thing), self.names)


def is_wait(thing: Hashable, one: TracedStep, other: TracedStep) -> bool:
    """Whether *one* collects the work of a wait at *thing*, and *other* adds work there."""
    part = thing[1] if isinstance(thing, tuple) else None
    wait, starts = WAITS.get(str(part), ("", ()))
    return one.operation == wait and other.operation in starts


def is_taken(lock: Hashable, step: TracedStep) -> bool:
    """Whether a lock is taken in *step*."""
    return step.target is lock and step.may_wait


def whole(thing: Hashable) -> Hashable:
    """The object that contains *thing*, or *thing* itself."""
    return thing[0] if isinstance(thing, tuple) else thing


def name_alone(thing: Shared) -> str:
    """The object's own name, without its type; empty if it has none that is long enough to search for."""
    name = getattr(thing, "name", "")
    return name if isinstance(name, str) and len(name) > 1 else ""


def is_named(thing: Shared, finding: Finding) -> bool:
    """Whether a finding names *thing*: by its label, or, at quiescence, where messages are shorter, by its name."""
    names = [thing.label] if finding.flow else [thing.label, name_alone(thing)]
    lines = (finding.message, *finding.details)
    return any(mentions(line, filter(None, names)) for line in lines)


def mentions(text: str, names: Iterable[str]) -> bool:
    """Whether one of *names* occurs in *text*, and not as a part of a longer name."""
    return any(re.search(rf"(?<![\w(]){re.escape(name)}(?![\w(])", text) for name in names)
