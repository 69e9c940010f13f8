"""The races of one run of an exact search, and the states at which their reversals are tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from actors.system.flow import Kind
from explorer.accesses import RANKS, clash
from explorer.causality import Event, Group, Order

if TYPE_CHECKING:
    from explorer.search.strategies.dpor import Node


class Races:
    """Schedules the reversals of the races of one run, at the states before their first steps."""

    def __init__(self, path: list[Node], order: Order, want: Callable[[int, AbstractSet[str], str], None]) -> None:
        """*want* schedules a lane at a state, unless one of some lanes is covered there."""
        self._path = path
        self._order = order
        self._want = want
        self._past_of_blocks: list[int] = []

    def put_down(self, common: int) -> None:
        """Schedule the reversal of every race, except races among the *common* steps that cannot have changed."""
        self._order.keep(common)
        for node in self._path[len(self._order.past) :]:
            self._order.add(node.event)
        self._past_of_blocks = self._order.past_of_blocks()
        for step in range(self._first_changed(common), len(self._path)):
            self._reverse_races(step)

    def _first_changed(self, common: int) -> int:
        """The first step whose races may differ from those of the previous run, which shares the first *common* steps.

        New steps of a block may add predecessors to the whole block, so the block is computed anew.
        """
        keepers = self._order.keepers[common] if common < len(self._path) else ()
        return min((self._order.begin[latest][RANKS[Kind.TASK]] for latest in keepers), default=common)

    def put_down_pending(self, event: Event) -> None:
        """Schedule the reversals for a step that is still pending: the step that delays it may come later instead."""
        self._order.add_pending(event)
        self._past_of_blocks.append(self._order.past[-1])
        self._reverse_races(len(self._path))
        self._past_of_blocks.pop()
        self._order.drop_pending()

    def _reverse_races(self, second: int) -> None:
        past, own = self._order.past, self._order.own[second]
        known = past[own] | 1 << own if own >= 0 else 0
        ordered = 0
        for other in self._order.direct_steps[second]:
            ordered |= past[other]
        for last in self._order.direct[second]:
            group: Group | None = last
            while group is not None:
                done = True
                for first in group.steps:
                    is_ordered = group is last and ordered >> first & 1
                    if first < second and not (known >> first & 1 or is_ordered):
                        done &= self._reverse(first, second)
                group = None if done else group.before

    def _reverse(self, first: int, second: int) -> bool:
        """Schedule step *second* before step *first*; False if *second* may not have been enabled there.

        A step that may have to wait, and that became pending only after *first*, might have to wait there. There are
        two ways to keep blocks whole: with everything that led to their steps, or only with what did so before
        *second*. If the reversal begins differently with them, it is tried in both ways.
        """
        order, end = self._order, second
        if self._is_enabled_by(first, second):
            return False
        second = self._whole_block(first, second)
        while (begin := self._held_up(first, second)) is not None:
            if order.own[second] >= 0 and order.is_after(order.own[second], begin):
                return False
            first = begin
            second = self._whole_block(first, second)
        is_sure = order.own[second] < first or not order.events[second].may_wait
        pasts = (self._past_of_blocks, order.past_between(first, end))
        sure = [self._begin_with(self._initials(first, second, past), first, is_sure=is_sure) for past in pasts]
        return all(sure)

    def _is_enabled_by(self, first: int, second: int) -> bool:
        """Whether step *second*, which is pending before step *first*, is possible only because of *first*.

        This is so if no step between them that is independent of *first* has changed the condition of *second*.
        """
        order = self._order
        event = order.events[second]
        if not event.may_wait or order.own[second] >= first or event.lane not in self._path[first].waiting:
            return False
        return not any(
            clash(event.accesses, order.events[step].accesses)
            for step in range(first + 1, second)
            if not order.past[step] >> first & 1
        )

    def _begin_with(self, initials: dict[str, int], first: int, *, is_sure: bool) -> bool:
        """Schedule one of these lanes before step *first*, or where it could last step; False if that is uncertain."""
        node = self._path[first]
        for lane in initials:
            if lane in node.enabled:
                self._want(first, initials.keys(), lane)
                return is_sure
        if not node.sleeping.keys().isdisjoint(initials):
            return is_sure
        for lane, step in initials.items():
            for earlier in range(first - 1, self._order.own[step], -1):
                if lane in self._path[earlier].enabled:
                    self._want(earlier, {lane}, lane)
                    return True
        return False

    def _whole_block(self, first: int, second: int) -> int:
        """The begin of the block of step *second*, if that keeps off the flow of step *first*; otherwise *second*."""
        events = self._order.events
        begin = self._order.begin[second][events[first].rank]
        return begin if begin > first and events[begin].cpu == events[first].cpu else second

    def _held_up(self, first: int, second: int) -> int | None:
        """The begin of a block, in progress at step *first*, that keeps *second* from coming before *first*, or None.

        Such a block keeps off a step that *second* needs, and does not end before *first*.
        """
        keepers = self._order.keepers[first]
        for step in self._needed(first, second) if keepers else ():
            for latest in keepers:
                if self._keeps_off(latest, step, first):
                    return self._order.begin[latest][self._order.events[step].rank]
        return None

    def _needed(self, first: int, second: int) -> list[int]:
        """The steps that are needed for step *second* to come before step *first*."""
        past = self._order.past
        return [
            step
            for step in range(first + 1, second + 1)
            if step == second or past[second] >> step & 1 > past[step] >> first & 1
        ]

    def _initials(self, first: int, second: int, past: Mapping[int, int] | list[int]) -> dict[str, int]:
        """The lanes with which the reversal may begin, with their steps; if possible, the lane of *second* first."""
        events = self._order.events
        reversal = self._reversal(first, second, past)
        mask = sum(1 << step for step in reversal)
        initials: dict[str, int] = {}
        for step in (second, *reversal):
            if not (past[step] & mask or self._holds_up(step, reversal, first)):
                initials.setdefault(events[step].lane, step)
        return initials

    def _reversal(self, first: int, second: int, past: Mapping[int, int] | list[int]) -> list[int]:
        """The steps between the two that do not happen after *first*, and then *second*.

        Steps that are kept off by a block that does not end without *first* are left out, unless *second* needs them.
        """
        between = [step for step in range(first + 1, second) if not past[step] >> first & 1]
        keepers = [step for step in between if self._order.events[step].keeps_off]
        needed = self._needed(first, second) if keepers else []
        kept_off = {
            step
            for step in between
            if step not in needed and any(begin < step and self._keeps_off(begin, step, first) for begin in keepers)
        }
        return [*(step for step in between if step not in kept_off), second]

    def _holds_up(self, begin: int, others: list[int], first: int) -> bool:
        """Whether step *begin* begins a block that keeps off one of the *others* and does not end without *first*."""
        if not self._order.events[begin].keeps_off:
            return False
        return any(self._keeps_off(begin, step, first) for step in others)

    def _keeps_off(self, latest: int, step: int, first: int) -> bool:
        """Whether the block that contains step *latest* keeps *step* off until *first* has happened."""
        keeper, event = self._order.events[latest], self._order.events[step]
        if keeper.cpu != event.cpu or keeper.lane == event.lane or not 0 < event.rank <= keeper.keeps_off:
            return False
        return not self._order.ends_without(first, latest, event.rank)
