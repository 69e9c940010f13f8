"""The trace as flows with an order between them, and how far a run of the model has followed it.

Each flow of the trace (a task, a kworker, the softirq or the hard IRQ of a CPU) has a cursor of its own, and the lines
of all flows have an order: that of the file, but that lines with the same timestamp on different CPUs have none.

A function of the model is entered between two accesses of its flow: the step that began the slice in which it is
called, and the flow's next step. When exactly is not said; so an entry is *pending* until its line is the trace's next,
and its flow may not step again before that. Within a flow entries and lines must be the same, one by one.

Which flow of the model is which of the trace, and which CPU, is found out on the way: a flow of the trace is the first
flow of the model of its kind, on its CPU, that enters its first function; CPUs are alike until then.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import deque
from collections.abc import Iterable
from typing import NoReturn

import attrs

from actors.system.flow import Flow, Kind
from explorer.match.scope import Scope
from protocol.errors import UsageError
from protocol.formats.ftrace import Interrupted, Trace, TraceLine

BOUND_KWORKER = re.compile(r"kworker/(\d+):\d+H?")
KINDS = {Kind.TASK: "task", Kind.KWORKER: "kworker", Kind.SOFTIRQ: "softirq", Kind.HARDIRQ: "hard IRQ"}


@attrs.frozen
class TracedFlow:
    """One flow of the trace. `cpu` is the CPU that it is bound to; None: it goes where it likes."""

    kind: Kind
    name: str
    cpu: int | None


@attrs.frozen(eq=False)
class Event:
    """A line that must be matched: the entry into `function`. `caller` is empty if the model does not have that."""

    line: int
    flow: TracedFlow
    cpu: int
    time: int
    function: str
    caller: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.flow.name} enters {self.function}()" + (
            f", called by {self.caller}()" if self.caller else ""
        )


@attrs.frozen(eq=False)
class Entry:
    """What the model did: `flow` entered `function` on `cpu` in step `step`, called by `callers`, innermost first."""

    flow: Flow
    function: str
    callers: tuple[str, ...]
    cpu: int | None
    step: int

    def __str__(self) -> str:
        caller = f", called by {self.callers[0]}()" if self.callers else ""
        return f"step {self.step}: {self.flow.name} enters {self.function}(){caller}"

    def fits(self, event: Event) -> bool:
        """Whether it is the same function, called from within the same one."""
        return self.function == event.function and (not event.caller or event.caller in self.callers)


@attrs.frozen
class Mismatch:
    """The model did something at which the trace does something else (`expected`), or nothing any more."""

    entry: Entry
    expected: tuple[Event, ...]


def read_events(trace: Trace, scope: Scope) -> tuple[Event, ...]:
    """The lines of *trace* that must be matched: those in *scope*, up to the first hole."""
    end = trace.lost[0].line if trace.lost else None
    return tuple(
        Event(
            line.line,
            flow_of(line, trace.source),
            line.cpu,
            line.time,
            line.function,
            line.caller if line.caller in scope.names else "",
        )
        for line in trace.lines
        if scope.compares(line) and (end is None or line.line < end)
    )


def flow_of(line: TraceLine, source: str) -> TracedFlow:
    """The flow that the line belongs to: what interrupts a task is not the task."""
    match line.context:
        case Interrupted.SOFTIRQ:
            return TracedFlow(Kind.SOFTIRQ, f"softirq on CPU {line.cpu}", line.cpu)
        case Interrupted.HARDIRQ:
            return TracedFlow(Kind.HARDIRQ, f"hard IRQ on CPU {line.cpu}", line.cpu)
        case Interrupted.NMI:
            _fail(source, line.line, f"{line.function}() in an NMI, which the model does not have; --ignore it")
    kworker = BOUND_KWORKER.fullmatch(line.comm)
    if kworker is not None:
        return TracedFlow(Kind.KWORKER, line.task, int(kworker[1]))
    if line.comm.startswith("kworker/"):
        _fail(
            source, line.line, f"{line.comm} is bound to no CPU, and the model has no such kworker; --ignore its lines"
        )
    return TracedFlow(Kind.TASK, line.task, None)


def _fail(source: str, line: int, text: str) -> NoReturn:
    msg = f"{source}:{line}: {text}"
    raise UsageError(msg)


class Binding:
    """Which flow of the model is which of the trace, and which CPU: both one to one."""

    def __init__(self) -> None:
        self.traced: dict[Flow, TracedFlow] = {}
        self.flows: dict[TracedFlow, Flow] = {}
        self.cpus: dict[int, int] = {}

    def allows(self, flow: Flow, traced: TracedFlow, cpu: int) -> bool:
        """Whether *flow*, where it is now, can be *traced* on the trace's CPU *cpu*."""
        if flow.kind is not traced.kind or self.flows.get(traced, flow) is not flow:
            return False
        return self.traced.get(flow, traced) is traced and self.allows_cpu(flow, cpu)

    def allows_cpu(self, flow: Flow, cpu: int) -> bool:
        """Whether the CPU that *flow* is on can be the trace's CPU *cpu*."""
        if flow.cpu is None:
            return False
        known = self.cpus.get(cpu)
        return known == flow.cpu.id if known is not None else flow.cpu.id not in self.cpus.values()

    def bind(self, flow: Flow, traced: TracedFlow, cpu: int) -> None:
        """From now on *flow* is *traced*, and its CPU is the trace's *cpu*."""
        assert flow.cpu is not None, f"{flow.name} is on no CPU"
        self.traced[flow], self.flows[traced] = traced, flow
        self.cpus[cpu] = flow.cpu.id


class Cursor:
    """How far the trace is matched: a cursor for each of its flows, and what the model's flows have pending.

    `matched` are lines with their entries, in the order in which they were due. `after` is what the model enters when
    all lines are matched; that is a mismatch unless the trace has an *open end* (the tracer was stopped meanwhile).
    """

    def __init__(self, events: Iterable[Event], *, open_end: bool) -> None:
        self.events = tuple(events)
        self.open_end = open_end
        self.binding = Binding()
        self.matched: list[tuple[Event, Entry]] = []
        self.after: list[Entry] = []
        self.mismatch: Mismatch | None = None
        self._first = 0
        self._done: set[Event] = set()
        self._last: dict[TracedFlow, int] = {}
        self._pending: dict[Flow, deque[Entry]] = {}
        self._ahead: dict[TracedFlow, deque[Event]] = {}
        for event in self.events:
            self._ahead.setdefault(event.flow, deque()).append(event)

    @property
    def is_done(self) -> bool:
        """Whether every line is matched."""
        return len(self.matched) == len(self.events)

    def has_pending(self, flow: Flow) -> bool:
        """Whether *flow* has entered something whose line is not due yet: it must not step before."""
        return bool(self._pending.get(flow))

    def pending(self) -> list[Entry]:
        """What has been entered before its line was due, the oldest first."""
        return sorted((entry for entries in self._pending.values() for entry in entries), key=lambda entry: entry.step)

    def due(self) -> tuple[Event, ...]:
        """The lines that may be next: the first one, and those with its timestamp that are first on their CPUs."""
        while self._first < len(self.events) and self.events[self._first] in self._done:
            self._first += 1
        found: dict[int, Event] = {}
        for event in itertools.islice(self.events, self._first, None):
            if event.time > self.events[self._first].time:
                break
            if event not in self._done:
                found.setdefault(event.cpu, event)
        return tuple(found.values())

    def next_of(self, flow: Flow) -> Event | None:
        """The next line of *flow* that it has not entered yet; if it is nobody yet, the first line it could have."""
        traced = self.binding.traced.get(flow)
        if traced is None:
            return min(self._possible(flow), key=lambda event: event.line, default=None)
        ahead, entered = self._ahead[traced], len(self._pending.get(flow, ()))
        return ahead[entered] if entered < len(ahead) else None

    def last_of(self, flow: Flow) -> int:
        """The line that *flow* has been matched with last, or will be; one that has none yet comes after all others."""
        traced = self.binding.traced.get(flow)
        return self._last.get(traced, sys.maxsize) if traced is not None else sys.maxsize

    def enter(self, entry: Entry) -> bool:
        """The model has entered a function that is compared. False, and `mismatch`, if the trace does not say so."""
        traced = self.binding.traced.get(entry.flow)
        following = None if traced is None else self.next_of(entry.flow)
        expected = self._possible(entry.flow) if traced is None else [following] if following is not None else []
        fitting = [event for event in expected if self._fits(entry, event)]
        if fitting:
            event = min(fitting, key=lambda event: event.line)
            self.binding.bind(entry.flow, event.flow, event.cpu)
            self._last[event.flow] = event.line
        elif expected or not self.open_end:
            self.mismatch = Mismatch(entry, tuple(expected))
            return False
        self._pending.setdefault(entry.flow, deque()).append(entry)
        self._settle()
        return True

    def _settle(self) -> None:
        """Match what is pending as far as it is due; at an open end, the rest is what comes after it."""
        while (event := next(filter(self._has_entered, self.due()), None)) is not None:
            self._ahead[event.flow].popleft()
            self._done.add(event)
            self.matched.append((event, self._pending[self.binding.flows[event.flow]].popleft()))
        if self.is_done:
            self.after += self.pending()
            self._pending.clear()

    def _has_entered(self, event: Event) -> bool:
        flow = self.binding.flows.get(event.flow)
        return flow is not None and self.has_pending(flow)

    def _fits(self, entry: Entry, event: Event) -> bool:
        return entry.fits(event) and self.binding.allows_cpu(entry.flow, event.cpu)

    def _possible(self, flow: Flow) -> list[Event]:
        """The first lines of those flows of the trace that could be *flow*, and are no other."""
        return [
            ahead[0]
            for traced, ahead in self._ahead.items()
            if ahead and traced not in self.binding.flows and self.binding.allows(flow, traced, ahead[0].cpu)
        ]
