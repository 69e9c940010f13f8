"""The trace as flows with an order between them, and how far a run of the model has followed it.

Each flow of the trace (a task, a kworker, the softirqs or the hard IRQs of a CPU) has a cursor of its own. The lines of
all flows are ordered as in the file, except that lines with the same timestamp on different CPUs are not ordered.

A function of the model is entered between two accesses of its flow: the step that began the slice with the call, and
the flow's next step. The exact moment is open. So an entry is *pending* until its line is the trace's next one, and its
flow may not step again before that. Within a flow the entries and the lines must be equal, one by one.

The correspondence between flows and CPUs of the model and of the trace is found on the way. A flow of the trace becomes
the first flow of the model that has its kind, is on its CPU and enters its first function. Until then all CPUs are
alike.
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
from protocol.formats.ftrace import FunctionTrace, Interrupted, TraceLine

BOUND_KWORKER = re.compile(r"kworker/(\d+):\d+H?")
KINDS = {Kind.TASK: "task", Kind.KWORKER: "kworker", Kind.SOFTIRQ: "softirq", Kind.HARDIRQ: "hard IRQ"}


@attrs.frozen
class TracedFlow:
    """One flow of the trace. `cpu` is the CPU that it is bound to, or None if it can migrate."""

    kind: Kind
    name: str
    cpu: int | None


@attrs.frozen(eq=False)
class TracedEvent:
    """A line to be matched: the entry into `function`. `caller` is empty if the model does not have that function."""

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
    """An event of the model: `flow` entered `function` on `cpu` in step `step`; `callers` are innermost first."""

    flow: Flow
    function: str
    callers: tuple[str, ...]
    cpu: int | None
    step: int

    def __str__(self) -> str:
        caller = f", called by {self.callers[0]}()" if self.callers else ""
        return f"step {self.step}: {self.flow.name} enters {self.function}(){caller}"

    def fits(self, event: TracedEvent) -> bool:
        """Whether it is an entry into the event's function, from within the event's caller."""
        return self.function == event.function and (not event.caller or event.caller in self.callers)


@attrs.frozen
class Mismatch:
    """An entry of the model where the trace has other events (`expected`), or none any more."""

    entry: Entry
    expected: tuple[TracedEvent, ...]


def read_events(trace: FunctionTrace, scope: Scope) -> tuple[TracedEvent, ...]:
    """The lines of *trace* to be matched: the lines in *scope*, up to the first lost event."""
    end = trace.lost[0].line if trace.lost else None
    return tuple(
        TracedEvent(
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
    """The flow that the line belongs to; an interrupt is a flow of its own, not the task that it interrupts."""
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
    """The one-to-one correspondence of flows, and of CPUs, between the model and the trace."""

    def __init__(self) -> None:
        self.traced: dict[Flow, TracedFlow] = {}
        self.flows: dict[TracedFlow, Flow] = {}
        self.cpus: dict[int, int] = {}

    def allows(self, flow: Flow, traced: TracedFlow, cpu: int) -> bool:
        """Whether *flow*, on its present CPU, can be *traced* on the trace's CPU *cpu*."""
        if flow.kind is not traced.kind or self.flows.get(traced, flow) is not flow:
            return False
        return self.traced.get(flow, traced) is traced and self.allows_cpu(flow, cpu)

    def allows_cpu(self, flow: Flow, cpu: int) -> bool:
        """Whether the CPU of *flow* can be the trace's CPU *cpu*."""
        if flow.cpu is None:
            return False
        known = self.cpus.get(cpu)
        return known == flow.cpu.id if known is not None else flow.cpu.id not in self.cpus.values()

    def bind(self, flow: Flow, traced: TracedFlow, cpu: int) -> None:
        """Bind *flow* to *traced*, and its CPU to the trace's *cpu*."""
        assert flow.cpu is not None, f"{flow.name} is on no CPU"
        self.traced[flow], self.flows[traced] = traced, flow
        self.cpus[cpu] = flow.cpu.id


class Cursor:
    """The progress in the trace: a cursor for each of its flows, and the pending entries of the model's flows.

    `matched` pairs lines with their entries, in the order in which they were due. `after` are entries of the model
    after the last line. They are a mismatch unless the trace has an *open end* (the tracer was stopped while the model
    ran).
    """

    def __init__(self, events: Iterable[TracedEvent], *, open_end: bool) -> None:
        self.events = tuple(events)
        self.open_end = open_end
        self.binding = Binding()
        self.matched: list[tuple[TracedEvent, Entry]] = []
        self.after: list[Entry] = []
        self.mismatch: Mismatch | None = None
        self._first = 0
        self._done: set[TracedEvent] = set()
        self._last: dict[TracedFlow, int] = {}
        self._pending: dict[Flow, deque[Entry]] = {}
        self._ahead: dict[TracedFlow, deque[TracedEvent]] = {}
        for event in self.events:
            self._ahead.setdefault(event.flow, deque()).append(event)

    @property
    def is_done(self) -> bool:
        """Whether every line is matched."""
        return len(self.matched) == len(self.events)

    def has_pending(self, flow: Flow) -> bool:
        """Whether *flow* has an entry whose line is not due yet; it must not step before."""
        return bool(self._pending.get(flow))

    def pending(self) -> list[Entry]:
        """The entries whose lines are not due yet, the oldest first."""
        return sorted((entry for entries in self._pending.values() for entry in entries), key=lambda entry: entry.step)

    def due(self) -> tuple[TracedEvent, ...]:
        """The lines that may be next: the first line, and lines with its timestamp that are the first on their CPUs."""
        while self._first < len(self.events) and self.events[self._first] in self._done:
            self._first += 1
        found: dict[int, TracedEvent] = {}
        for event in itertools.islice(self.events, self._first, None):
            if event.time > self.events[self._first].time:
                break
            if event not in self._done:
                found.setdefault(event.cpu, event)
        return tuple(found.values())

    def next_of(self, flow: Flow) -> TracedEvent | None:
        """The next line of *flow* without an entry; if it is not bound yet, the first line that it could have."""
        traced = self.binding.traced.get(flow)
        if traced is None:
            return min(self._possible(flow), key=lambda event: event.line, default=None)
        ahead, entered = self._ahead[traced], len(self._pending.get(flow, ()))
        return ahead[entered] if entered < len(ahead) else None

    def last_of(self, flow: Flow) -> int:
        """The last line that *flow* is bound to, as a rank; a flow without one comes after all others."""
        traced = self.binding.traced.get(flow)
        return self._last.get(traced, sys.maxsize) if traced is not None else sys.maxsize

    def enter(self, entry: Entry) -> bool:
        """Add an entry into a compared function. False, and a `mismatch`, if the trace has no such line."""
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
        """Match pending entries whose lines are due; after the last line, the other entries go to `after`."""
        while (event := next(filter(self._has_entered, self.due()), None)) is not None:
            self._ahead[event.flow].popleft()
            self._done.add(event)
            self.matched.append((event, self._pending[self.binding.flows[event.flow]].popleft()))
        if self.is_done:
            self.after += self.pending()
            self._pending.clear()

    def _has_entered(self, event: TracedEvent) -> bool:
        flow = self.binding.flows.get(event.flow)
        return flow is not None and self.has_pending(flow)

    def _fits(self, entry: Entry, event: TracedEvent) -> bool:
        return entry.fits(event) and self.binding.allows_cpu(entry.flow, event.cpu)

    def _possible(self, flow: Flow) -> list[TracedEvent]:
        """The first lines of the trace's unbound flows that could be *flow*."""
        return [
            ahead[0]
            for traced, ahead in self._ahead.items()
            if ahead and traced not in self.binding.flows and self.binding.allows(flow, traced, ahead[0].cpu)
        ]
