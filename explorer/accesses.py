"""The dependence relation: the accesses of each step of a run, and which steps depend on each other.

Two steps depend on each other if they belong to one lane, or if they access the same thing in ways that do not commute
(SEARCH.md 4.0). Messages give the accesses: the object that a request names, or the part of it that the operation is
about, and the access that the operation declares. An access to a part also reads the whole. Two more kinds:

- An access that no request names is reported to `World.on_touch`: the parts of an object that an operation changes, the
  flows that it wakes, the mailboxes that it posts to, and the data of its own CPU.
- A grace period begins with a look at which flows are in a read-side section; entering a section depends on that look.

A busy CPU or a held lock is not a dependence of its own: the steps done under it are.
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
"""The contexts of all flows as one thing. A grace period updates it; entries into atomic contexts commute on it."""

Accesses = dict[Hashable, Access]
"""Each thing that a step accesses, with the mode. Accesses of equal mode to one thing commute, except updates."""

RANKS = {Kind.KTHREAD: 0, Kind.TASK: 1, Kind.KWORKER: 1, Kind.SOFTIRQ: 2, Kind.HARDIRQ: 3}
"""Precedence of flows on a CPU: a flow that keeps one rank off its CPU also keeps off all lower ranks."""


def accesses_of(lane: Lane) -> Accesses:
    """The accesses of the pending step of *lane*, as far as they are known before it happens."""
    request = lane.request
    if request is None:
        return accesses_of_mail(lane, lane.mailbox[0])  # type: ignore[attr-defined]  # an actor with mail
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
    """Whether the pending step makes the flow a reader: only grace periods that begin after it wait for the flow."""
    return flow.is_entering and not flow.held


def has_become_reader(flow: Flow, *, was_reader: bool) -> bool:
    """Whether the finished step has made the flow a reader: a handler enters its section within its arrival step."""
    return bool(flow.held) and not was_reader


def accesses_of_mail(lane: Lane, mail: Message) -> Accesses:
    """The accesses of the delivery of *mail* to the actor *lane*."""
    return {lane: UPDATE, mail.target: mail.info.access}


def part_of(request: Request) -> int | str | None:
    """The part of its target that the request accesses: a field, or the flow's CPU's share; None if the whole."""
    info, target, flow = request.info, request.target, request.flow
    if info.part:
        return info.part
    if request.actor is not None or flow.cpu is None or target is None or target.actor is flow.cpu.actor:
        return None
    return flow.cpu.id


def add_access(accesses: Accesses, thing: Hashable, mode: Access) -> None:
    """Add one more access; two different modes on the same thing count as an update."""
    accesses[thing] = mode if accesses.get(thing, mode) is mode else UPDATE


def clash(one: Accesses, other: Accesses) -> bool:
    """Whether two steps with these accesses depend on each other."""
    if len(other) < len(one):
        one, other = other, one
    for name, mode in one.items():
        other_mode = other.get(name)
        if other_mode is not None and (mode != other_mode or mode == UPDATE):
            return True
    return False


def conflicts(one: Lane, other: Lane) -> bool:
    """Whether the pending steps of two lanes race: both access the same object, and they do not commute there (4.0)."""
    first, second = one.request, other.request
    return (
        first is not None
        and second is not None
        and first.target is not None
        and first.target is second.target
        and (first.info.access is UPDATE or first.info.access is not second.info.access)
    )


def name_of(thing: Hashable, *, in_full: bool = False) -> str:
    """A name for *thing* that is the same in every run; *in_full* adds its owner.

    Things with equal names count as one. That is safe, but costs precision: more steps seem to depend on each other.
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
    """The highest rank that *flow* keeps off its CPU now; 0 if it keeps off none."""
    return max(flow.held - 1, 0)


def cpu_of(lane: Lane) -> int | None:
    """The number of the CPU that a flow runs on; None for actors and for flows without a CPU."""
    return lane.cpu.id if isinstance(lane, Flow) and lane.cpu is not None else None


def rank_of(lane: Lane) -> int:
    """The rank of a lane on its CPU (`RANKS`); 0 for actors."""
    return RANKS[lane.kind] if isinstance(lane, Flow) else 0
