"""Which steps of a run happen before which others: the order that every schedule of the same trace class shares."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs

from explorer.watch import COMMUTES, CONTEXTS, UPDATES

if TYPE_CHECKING:
    from explorer.watch import Accesses


@attrs.define(eq=False)
class Event:
    """One step of the race: who steps, and what it accesses (the lane itself among it).

    `after_quiet`: nothing was enabled before it, and time had to pass. `may_wait`: it has to be possible first.
    """

    lane: str
    accesses: Accesses = attrs.field(factory=dict, repr=False)  # the repr of a thing goes on through the whole world
    after_quiet: bool = False
    may_wait: bool = False


@attrs.define(eq=False)
class Group:
    """Steps in a row that accessed one thing in a commuting way, and the group before them."""

    mode: int
    steps: list[int]
    before: Group | None


class Order:
    """The happens-before order of the events added so far; steps are numbered from 0.

    Sets of steps are the bits of an integer: `past[j]` are those that happen before step j, `own[j]` is the step of the
    same lane before it, or -1, and `direct[j]` the groups of steps that it depends on without others in between.

    That a flow enters or leaves an atomic context after a grace period has begun is not ordered behind that: had the
    grace period begun later, it would at most wait longer.
    """

    def __init__(self) -> None:
        self.past: list[int] = []
        self.own: list[int] = []
        self.direct: list[list[Group]] = []
        self._last_of_lane: dict[str, int] = {}
        self._groups: dict[Hashable, Group] = {}
        self._before_quiet = 0

    def add(self, event: Event) -> None:
        """Add the next event."""
        step = len(self.past)
        if event.after_quiet:
            self._before_quiet = (1 << step) - 1
        groups = []
        for thing, mode in event.accesses.items():
            last = self._groups.get(thing)
            if last is not None and last.mode == mode != UPDATES:
                last.steps.append(step)
                last = last.before
            else:
                self._groups[thing] = Group(mode, [step], last)
            if last is not None and not (thing is CONTEXTS and mode == COMMUTES):
                groups.append(last)
        self._append(event.lane, groups)
        self._last_of_lane[event.lane] = step

    def add_pending(self, event: Event) -> None:
        """Add a step that has not happened, as if it came next; `drop_pending` takes it out again."""
        self._append(event.lane, [group for thing in event.accesses if (group := self._groups.get(thing)) is not None])

    def drop_pending(self) -> None:
        """Take out what `add_pending` added."""
        self.past.pop()
        self.own.pop()
        self.direct.pop()

    def _append(self, lane: str, groups: list[Group]) -> None:
        past = self._before_quiet
        for group in groups:
            for other in group.steps:
                past |= self.past[other] | 1 << other
        self.past.append(past)
        self.own.append(self._last_of_lane.get(lane, -1))
        self.direct.append(groups)

    def nearest(self, second: int) -> list[int]:
        """The steps that step *second* depends on, with no other in between; latest first."""
        direct = {step for group in self.direct[second] for step in group.steps}
        return sorted(
            (first for first in direct if not any(self.past[other] >> first & 1 for other in direct)), reverse=True
        )

    def races_of(self, second: int) -> list[int]:
        """The steps that race with step *second*: it depends on them, nothing in between orders them; latest first."""
        own = self.own[second]
        known = self.past[own] | 1 << own if own >= 0 else 0
        return [first for first in self.nearest(second) if not known >> first & 1]
