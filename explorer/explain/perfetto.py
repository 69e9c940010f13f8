"""An explanation as a Chrome trace, for ui.perfetto.dev and chrome://tracing.

One step is `STEP` microseconds, so that every step is visible; the virtual time is an argument of each slice. A track
for each CPU shows, nested, the flows on that CPU, their functions, and the step itself. Flows without a CPU of the
model, and mail, have tracks of their own. Arrows go from a step to the flows that it woke, started or mailed, and to
the next step of another lane that depends on it. Counters are the references and pages that requests of the race named.

The format: "Trace Event Format", Google, 2016:
docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from explorer.accesses import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.explain.details import Detail
    from explorer.explain.explanation import Explanation
    from explorer.trace import TracedStep

TraceEvent = dict[str, Any]

STEP = 10
"""Microseconds that a step lasts in the picture; arrows leave just before its end and arrive just after its start."""

CPUS, OTHERS, COUNTERS = 1, 2, 3
"""The groups of tracks, as process ids."""

GROUPS = {CPUS: "CPUs", OTHERS: "on no CPU", COUNTERS: "counters"}


@attrs.define
class Tracks:
    """The track of each step, as (process id, thread id), and their names."""

    names: dict[tuple[int, int], str] = attrs.field(factory=dict)
    _others: dict[str, int] = attrs.field(factory=dict)

    def of(self, step: TracedStep) -> tuple[int, int]:
        """The track of *step*."""
        if step.cpu is not None:
            track, name = (CPUS, step.cpu + 1), f"cpu{step.cpu}"
        else:
            track, name = (OTHERS, self._others.setdefault(step.lane, len(self._others) + 1)), step.lane
        self.names[track] = name
        return track


def to_perfetto(explanation: Explanation) -> dict[str, Any]:
    """The trace as the JSON object format."""
    tracks = Tracks()
    events = [*slices(explanation, tracks), *arrows(explanation, tracks), *counters(explanation)]
    events += instants(explanation, tracks)
    events.sort(key=lambda event: (event["ts"], -event.get("dur", 0), event.get("cat") == "step"))
    return {
        "traceEvents": [*metadata(tracks), *events],
        "displayTimeUnit": "ns",
        "otherData": {
            "scenario": explanation.header.scenario,
            "kernel": explanation.header.kernel,
            "signature": explanation.finding.signature,
            "slabrace": explanation.header.slabrace,
            "scale": f"one step is {STEP} us",
        },
    }


def metadata(tracks: Tracks) -> Iterator[TraceEvent]:
    """The names of groups and tracks, and their order."""
    for pid, name in GROUPS.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": pid}}
    for (pid, tid), name in sorted(tracks.names.items()):
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}


# -- slices -----------------------------------------------------------------------------------------------------------


@attrs.define
class Track:
    """The open slices of one track, outermost first: a flow, and the functions that it is in."""

    pid: int
    tid: int
    open: list[tuple[str, int]] = attrs.field(factory=list)
    end: int = 0

    def go_on(self, frames: list[str], start: int) -> Iterator[TraceEvent]:
        """Close the functions that were left, and open the entered ones, before a step that begins at *start*."""
        common = 0
        while common < min(len(frames), len(self.open)) and self.open[common][0] == frames[common]:
            common += 1
        yield from self.close(common)
        self.open += [(frame, start) for frame in frames[common:]]
        self.end = start + STEP

    def close(self, keep: int = 0) -> Iterator[TraceEvent]:
        """Close all but the outermost *keep* slices at the end of the last step."""
        for name, start in self.open[keep:]:
            yield self.slice(name, start, self.end - start, "function", {})
        del self.open[keep:]

    def slice(self, name: str, start: int, duration: int, category: str, args: TraceEvent) -> TraceEvent:
        """One complete event."""
        return {
            "ph": "X",
            "name": name,
            "cat": category,
            "pid": self.pid,
            "tid": self.tid,
            "ts": start,
            "dur": duration,
            "args": args,
        }


def slices(explanation: Explanation, tracks: Tracks) -> Iterator[TraceEvent]:
    """The slices of flows, functions and steps."""
    open_tracks: dict[tuple[int, int], Track] = {}
    for place, step in enumerate(explanation.trace.steps):
        key = tracks.of(step)
        track = open_tracks.setdefault(key, Track(*key))
        detail = explanation.details[place]
        yield from track.go_on([step.lane, *detail.stack], place * STEP)
        yield track.slice(title_of(step), place * STEP, STEP, "step", arguments(explanation, place))
    for track in open_tracks.values():
        yield from track.close()


def title_of(step: TracedStep) -> str:
    """The title of a step's slice."""
    return f"{step.operation} of {step.owner}" if step.owner else step.operation


def arguments(explanation: Explanation, place: int) -> TraceEvent:
    """The arguments that the viewer shows for a selected step."""
    step, detail = explanation.trace.steps[place], explanation.details[place]
    args: TraceEvent = {
        "step": step.number,
        "virtual_time_ns": step.time,
        "flow": step.lane,
        "function": step.function,
        "enabled": ", ".join(step.enabled),
    }
    if explanation.deviates[place]:
        args["ran_ahead_of"] = detail.plain
    if step.values:
        args["values"] = ", ".join(map(str, step.values))
    if place in explanation.notes:
        args["notes"] = "; ".join(explanation.notes[place])
    return args


# -- arrows -----------------------------------------------------------------------------------------------------------


def arrows(explanation: Explanation, tracks: Tracks) -> Iterator[TraceEvent]:
    """Arrows from each step to the steps of other lanes that it caused, or that depend on it."""
    steps = explanation.trace.steps
    for number, ((source, goal), name) in enumerate(sorted(links(explanation).items()), 1):
        common = {"id": number, "name": name, "cat": "dependence"}
        source_pid, source_tid = tracks.of(steps[source])
        pid, tid = tracks.of(steps[goal])
        yield {"ph": "s", "pid": source_pid, "tid": source_tid, "ts": source * STEP + STEP - 1, **common}
        yield {"ph": "f", "bp": "e", "pid": pid, "tid": tid, "ts": goal * STEP + 1, **common}


def links(explanation: Explanation) -> dict[tuple[int, int], str]:
    """Pairs of steps of different lanes, each with the link between them: a wake-up, mail, a start, or a thing."""
    trace = explanation.trace
    found: dict[tuple[int, int], str] = {}
    order = trace.order()
    for second, step in enumerate(trace.steps):
        for first in order.nearest(second):
            if trace.steps[first].lane != step.lane:
                found[first, second] = thing_between(trace.steps[first], step)
    for place, detail in enumerate(explanation.details):
        for lane, how in detail.woken.items():
            goal = next_step_of(trace.steps, lane, place)
            if goal is not None:
                found[place, goal] = how
    return found


def next_step_of(steps: list[TracedStep], lane: str, after: int) -> int | None:
    """The first step of *lane* after step *after*."""
    return next((place for place in range(after + 1, len(steps)) if steps[place].lane == lane), None)


def thing_between(one: TracedStep, other: TracedStep) -> str:
    """The name of a thing that both steps access; `time` if there is none."""
    shared = [name_of(thing) for thing in one.accesses if thing in other.accesses]
    return min(shared, key=lambda name: (name != other.owner, name), default="time")


# -- counters and findings --------------------------------------------------------------------------------------------


def counters(explanation: Explanation) -> Iterator[TraceEvent]:
    """The values of the counters of references and pages, where they change."""
    for name, count in explanation.before.items():
        yield counter(name, count, 0)
    for place, detail in enumerate(explanation.details):
        yield from counts_after(detail, place)


def counts_after(detail: Detail, place: int) -> Iterator[TraceEvent]:
    """The counters that the step at *place* has changed."""
    for name, count in detail.counts.items():
        yield counter(name, count, (place + 1) * STEP)


def counter(name: str, count: tuple[str, int], ts: int) -> TraceEvent:
    """One value of a counter track."""
    what, number = count
    return {"ph": "C", "name": name, "pid": COUNTERS, "tid": 0, "ts": ts, "args": {what: number}}


def instants(explanation: Explanation, tracks: Tracks) -> Iterator[TraceEvent]:
    """The notes at their steps, and the finding."""
    steps = explanation.trace.steps
    for place, notes in explanation.notes.items():
        for note in notes:
            yield instant(note, tracks.of(steps[place]), place * STEP + STEP // 2)
    finding = explanation.finding
    track = tracks.of(steps[-1]) if steps and not explanation.trace.ends_at_rest else (CPUS, 0)
    end = instant(finding.message, track, len(steps) * STEP)
    args = {"signature": finding.signature, "function": finding.function, "details": "; ".join(finding.details)}
    yield {**end, "s": "g", "args": args}


def instant(name: str, track: tuple[int, int], ts: int) -> TraceEvent:
    """One instant of one track."""
    pid, tid = track
    return {"ph": "i", "name": name, "cat": "finding", "s": "t", "pid": pid, "tid": tid, "ts": ts, "args": {}}
