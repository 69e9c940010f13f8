"""The dependence relation: what the steps of a run access, and which of them depend on each other.

Two steps depend on each other if they are of one lane, or access the same thing in ways that do not commute (SEARCH.md
4.0). Messages say what is accessed: the object that a request names, or the part of it that the operation is about, and
how the operation is declared. An access to a part reads the whole. Beside that:

- an access that no request names is told to `World.on_touch`: the parts of an object that an operation changes, the
  flows that it wakes, the mailboxes that it posts to, and the data of its own CPU;
- a grace period begins by looking at which flows are in a read-side section; entering one depends on that.

That a CPU, or a lock, is busy is no dependence of its own: the steps done under it are.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from actors.system.actor import Shared
from actors.system.flow import Flow, Kind
from actors.system.lane import Lane
from protocol.operations import COMMUTE, READ, UPDATE, Access

if TYPE_CHECKING:
    from protocol.messages import Message, Request

CONTEXTS = "contexts"
"""What who looks at the contexts of all flows updates; those that enter an atomic context commute."""

Accesses = dict[Hashable, Access]
"""How a step accesses which things. Two steps that access one in the same way commute there, unless they update it."""

RANKS = {Kind.KTHREAD: 0, Kind.TASK: 1, Kind.KWORKER: 1, Kind.SOFTIRQ: 2, Kind.HARDIRQ: 3}
"""Who keeps whom off a CPU: whoever keeps one rank off keeps off all below it."""


def accesses_of(lane: Lane) -> Accesses:
    """What the pending step of *lane* is known to access before it happens, and how."""
    request = lane.request
    if request is None:
        return accesses_of_mail(lane, lane.mailbox[0])  # type: ignore[attr-defined]  # it is an actor with mail
    target, info, flow = request.target, request.info, request.flow
    accesses: Accesses = dict.fromkeys(flow.in_use, UPDATE)
    if target is not None:
        mode, part = info.access, part_of(request)
        if part is None:
            add_access(accesses, target, mode)
        else:
            add_access(accesses, target, READ)
            accesses[target, part] = mode
    if info.looks_at_contexts:
        accesses[CONTEXTS] = UPDATE
    elif becomes_reader(flow):
        accesses[CONTEXTS] = COMMUTE
    return accesses


def becomes_reader(flow: Flow) -> bool:
    """Whether grace periods that begin after the flow's pending step wait for it, but not those that begin before."""
    return flow.is_entering and not flow.held


def has_become_reader(flow: Flow, *, was_reader: bool) -> bool:
    """The same of the step that is over now: a handler enters its section within the step that is its arrival."""
    return bool(flow.held) and not was_reader


def accesses_of_mail(lane: Lane, mail: Message) -> Accesses:
    """What the delivery of *mail* to the actor *lane* accesses."""
    return {lane: UPDATE, mail.target: mail.info.access}


def part_of(request: Request) -> int | str | None:
    """Which part of its target the request accesses: what is its CPU's, or a field; None if the whole."""
    info, target, flow = request.info, request.target, request.flow
    if info.part:
        return info.part
    if request.actor is not None or flow.cpu is None or target is None or target.actor is flow.cpu.actor:
        return None
    return flow.cpu.id


def add_access(accesses: Accesses, thing: Hashable, mode: Access) -> None:
    """Add one more access; two different ones to the same thing are taken for an update."""
    accesses[thing] = mode if accesses.get(thing, mode) is mode else UPDATE


def clash(one: Accesses, other: Accesses) -> bool:
    """Whether two steps that access these depend on each other."""
    if len(other) < len(one):
        one, other = other, one
    for name, mode in one.items():
        other_mode = other.get(name)
        if other_mode is not None and (mode != other_mode or mode == UPDATE):
            return True
    return False


def conflicts(one: Lane, other: Lane) -> bool:
    """Whether the pending steps of two lanes race: they want the same object, and one of them changes it (4.0)."""
    first, second = one.request, other.request
    return (
        first is not None
        and second is not None
        and first.target is not None
        and first.target is second.target
        and (first.info.access is UPDATE or first.info.access is not second.info.access)
    )


def name_of(thing: Hashable, *, in_full: bool = False) -> str:
    """What *thing* is called in every run; *in_full* also whose it is.

    Things that share a name are taken for one, which is safe, but not for nothing: more steps seem to depend on others.
    """
    if isinstance(thing, Shared):
        return f"{thing.label} of {thing.actor.name}" if in_full else thing.label
    if isinstance(thing, Lane):
        return f"lane {thing.name}"
    if isinstance(thing, tuple):
        of, part = thing
        name = name_of(of, in_full=in_full)
        return f"{part} of {name}" if isinstance(part, str) else f"{name} on CPU {part}"
    return str(thing)


def keeps_off(flow: Flow) -> int:
    """The highest rank that *flow* keeps off its CPU now; 0 if it lets everybody on."""
    return max(flow.held - 1, 0)


def cpu_of(lane: Lane) -> int | None:
    """The number of the CPU that a flow is on."""
    return lane.cpu.id if isinstance(lane, Flow) and lane.cpu is not None else None


def rank_of(lane: Lane) -> int:
    """Who keeps it off its CPU."""
    return RANKS[lane.kind] if isinstance(lane, Flow) else 0
