"""Racing choices of a run: alternatives that may lead elsewhere, as they change the order of two dependent accesses.

A run that leads nowhere is tried again with another choice. Most of its many alternatives change nothing that matters:
they let a flow step earlier, before steps that are independent of its own. An alternative may matter if a step could
have come earlier than one of another flow that accessed the same state. It may also matter if it could have come before
a callback was queued (for the grace period that took it), or before other flows ran on the CPU that a handler took.

The idea is from C. Flanagan, P. Godefroid, "Dynamic partial-order reduction", POPL 2005; here it only orders the
choices.
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
class ChoicePoint:
    """One choice of a run: the lanes that could have stepped, the best first, and the place of the one that did.

    `touched` are the accessed things, each with whether the step may have changed it. A choice of a value has no lanes;
    it is one of `values`.
    """

    lanes: tuple[Lane, ...] = ()
    taken: int = 0
    touched: tuple[tuple[object, bool], ...] = ()
    values: int = 0

    @property
    def others(self) -> tuple[int, ...]:
        """The places of the alternatives."""
        return tuple(place for place in range(self.values or len(self.lanes)) if place != self.taken)


def touched_by(lane: Lane) -> tuple[tuple[object, bool], ...]:
    """The things that the next step of *lane* accesses, each with whether the step may change it."""
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


def racing(choices: Sequence[ChoicePoint], first: int) -> list[tuple[int, int]]:
    """The racing choices from number *first* on, each with the place of the lane to take, the last first."""
    return sorted(set(_races(choices, first)), reverse=True)


def _races(choices: Sequence[ChoicePoint], first: int) -> Iterator[tuple[int, int]]:
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
