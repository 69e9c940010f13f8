"""The divergence of a run from the trace: the trace's events, the model's entries, and the obstacle between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.system.flow import Flow, Kind
from explorer.match.cursor import KINDS, Cursor, Entry, TracedEvent
from explorer.match.follower import whom_it_waits_for

if TYPE_CHECKING:
    from actors.system.world import World
    from explorer.match.scope import Scope


@attrs.frozen
class TraceDivergence:
    """The divergence of trace and model, in words.

    `last` is the last matched line, and `due` are the lines that could have been next. `trace` are the trace's events
    at this point, and `model` the entries or possible steps of the model. `obstacle` is why the model could not follow.
    """

    last: TracedEvent | None
    due: tuple[TracedEvent, ...]
    trace: tuple[TracedEvent, ...]
    model: tuple[str, ...]
    obstacle: str


def describe_divergence(cursor: Cursor, world: World, scope: Scope, kernel: str) -> TraceDivergence:
    """The divergence of the run of *world*, which has just ended, from the trace of *cursor*."""
    due, mismatch = cursor.due(), cursor.mismatch
    events = mismatch.expected if mismatch is not None and mismatch.expected else due
    model = [str(mismatch.entry)] if mismatch is not None else []
    model += [f"{entry}, before its line is due" for entry in cursor.pending()]
    if mismatch is None:
        model += [f"{lane.name} may step: {position(lane)}" for lane in world.enabled_lanes() if isinstance(lane, Flow)]
    return TraceDivergence(
        last=cursor.matched[-1][0] if cursor.matched else None,
        due=due,
        trace=tuple(events),
        model=tuple(model),
        obstacle=_obstacle(cursor, world, scope, kernel, events),
    )


def position(flow: Flow) -> str:
    """The position of a flow in words: its pending access, and the function."""
    request = flow.request
    of = f" of {request.target.label}{request.target.held_by}" if request.target is not None else ""
    return f"{request.info.name}{of}, in {request.code.co_name}()"


def _obstacle(cursor: Cursor, world: World, scope: Scope, kernel: str, events: tuple[TracedEvent, ...]) -> str:
    fatal = next((finding for finding in world.findings.values() if finding.is_fatal), None)
    if fatal is not None:
        return f"the model has stopped: {fatal.message}"
    foreign = next((event for event in events if event.function in scope.foreign), None)
    if foreign is not None:
        others = ", ".join(scope.foreign[foreign.function])
        return f"{kernel} has no {foreign.function}(); there is one in {others}"
    if cursor.mismatch is not None:
        return _why_another(cursor.mismatch.entry, events, cursor) + _hint(cursor)
    flow = cursor.binding.flows.get(events[0].flow)
    return _why_nobody(cursor, world, events[0]) if flow is None else _why_not_now(flow)


def _hint(cursor: Cursor) -> str:
    """Advice if the trace does not have the function that the model enters."""
    assert cursor.mismatch is not None, "there is a function that the model enters"
    function = cursor.mismatch.entry.function
    if any(event.function == function for event in cursor.events):
        return ""
    return f"; the trace has no {function}() at all: if it was inlined, or not traced, --ignore it or give --filter"


def _why_another(entry: Entry, events: tuple[TracedEvent, ...], cursor: Cursor) -> str:
    """Why an entry does not fit: the function, its caller or the CPU differs from the trace."""
    if not events:
        return f"the trace has no further line, and the model enters {entry.function}() yet; --open-end if it was cut"
    same = next((event for event in events if event.function == entry.function), None)
    if same is None:
        wanted = " or ".join(sorted({f"{event.function}()" for event in events}))
        return f"{entry.flow.name} enters {entry.function}() where the trace has {wanted}"
    if same.caller and same.caller not in entry.callers:
        return f"the model calls {entry.function}() from {' < '.join(entry.callers)}, not from within {same.caller}()"
    known = cursor.binding.cpus.get(same.cpu)
    if known is not None and known != entry.cpu:
        return f"CPU {same.cpu} of the trace is cpu{known} of the model, and {entry.flow.name} is on cpu{entry.cpu}"
    return f"{entry.flow.name} is not {same.flow.name}"


def _why_nobody(cursor: Cursor, world: World, event: TracedEvent) -> str:
    """Why no flow of the model is bound to the flow of the due line."""
    alike = [flow for flow in world.flows if flow.kind is event.flow.kind and flow not in cursor.binding.traced]
    if not alike:
        return f"the model has no further {KINDS[event.flow.kind]} that could be {event.flow.name}"
    return f"no flow of the model is {event.flow.name} yet: " + "; ".join(map(_why_not_now, alike))


def _why_not_now(flow: Flow) -> str:
    """The obstacle that keeps a flow from stepping."""
    if flow.finished:
        return f"{flow.name} has ended"
    other = whom_it_waits_for(flow)
    if flow.ready and other is not None:
        return f"{flow.name} cannot run: {other.name} has its CPU"
    if flow.ready:
        return f"{flow.name} stands at {position(flow)}"
    if flow.request.info.idle:
        return f"{flow.name} has nothing to do: {_what_is_missing(flow)}"
    return f"{flow.name} waits for {position(flow)}" + (f"; {other.name} has it" if other else "")


def _what_is_missing(flow: Flow) -> str:
    match flow.kind:
        case Kind.KWORKER:
            return "no work that may run is queued on its CPU"
        case Kind.SOFTIRQ:
            readers = ", ".join(other.name for other in flow.world.flows if other.blocks is not None)
            waits = f"; one waits for {readers} to leave a read-side section" if readers else ""
            return f"no grace period has ended that callbacks on its CPU wait for{waits}"
        case Kind.HARDIRQ:
            return "no interrupt was sent to its CPU"
        case _:
            return f"it waits for {position(flow)}"
