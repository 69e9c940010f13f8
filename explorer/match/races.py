"""Which other choices may lead elsewhere: those that change the order of two accesses to the same thing.

A run that leads nowhere is to be tried again with another choice. Of the many that there were, most change nothing that
matters: they let a flow step earlier, over steps that have nothing to do with its own. What may matter is a step that
could have come before another one of another flow which touched the same state, or before the moment in which a
callback was queued (for the grace period that took it), or before other flows ran on the CPU that a handler took.

C. Flanagan, P. Godefroid, "Dynamic partial-order reduction", POPL 2005, has the idea; we only order the choices by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.rcu.tree import RcuData
from actors.machine.context import Context
from actors.system.flow import Flow
from protocol.operations import READ

if TYPE_CHECKING:
    from actors.system.lane import Lane


@attrs.frozen(eq=False)
class Choice:
    """One choice of a run: the lanes that might have stepped, the best first; the place of the one that did.

    `touched` is what it touched, each thing with whether it may have been changed. A choice of a value has no lanes; it
    is one of `values`.
    """

    lanes: tuple[Lane, ...] = ()
    taken: int = 0
    touched: tuple[tuple[object, bool], ...] = ()
    values: int = 0

    @property
    def others(self) -> tuple[int, ...]:
        """The places of what was not taken."""
        return tuple(place for place in range(self.values or len(self.lanes)) if place != self.taken)


def touched_by(lane: Lane) -> tuple[tuple[object, bool], ...]:
    """What the next step of *lane* touches, and whether it may change it."""
    if not isinstance(lane, Flow):
        return ((lane, True),)
    request = lane.request
    begins_handler = request.info.idle and not lane.in_handler
    found: list[tuple[object, bool]] = [(lane.cpu, begins_handler)] if lane.cpu is not None else []
    if request.target is not None:
        found.append((request.target, request.info.access is not READ))
    if isinstance(request.target, RcuData) and isinstance(lane, Context):
        found.append((lane.machine.rcu, True))
    return tuple(found)


def racing(choices: Sequence[Choice], first: int) -> list[tuple[int, int]]:
    """The choices from number *first* on that may matter, each with the place of the lane to take, the last first."""
    return sorted(set(_races(choices, first)), reverse=True)


def _races(choices: Sequence[Choice], first: int) -> Iterator[tuple[int, int]]:
    accesses: dict[object, list[tuple[int, bool]]] = {}
    last_step: dict[Lane, int] = {}
    for number, choice in enumerate(choices):
        if not choice.lanes:
            continue
        lane = choice.lanes[choice.taken]
        for thing, changes in choice.touched:
            known = accesses.setdefault(thing, [])
            for before, changed in reversed(known):
                if before <= max(last_step.get(lane, -1), first - 1):
                    break
                if (changes or changed) and lane in choices[before].lanes:
                    yield before, choices[before].lanes.index(lane)
            known.append((number, changes))
        last_step[lane] = number
