"""The happens-before order of the steps of a run, which every schedule of the same trace class shares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import attrs

from actors.system.bits import bits
from protocol.operations import UPDATE

if TYPE_CHECKING:
    from explorer.accesses import Accesses


@attrs.define(eq=False)
class Event:
    """One step of the race: its lane, and its accesses (an update of the lane itself among them).

    `after_quiet`: nothing was enabled before it, and time had to pass. `may_wait`: the operation has a condition, and
    can have to wait. `cpu` is the CPU of the step, if any. `rank` is the rank of its flow, and `keeps_off` the highest
    rank that the flow keeps off that CPU after the step.
    """

    lane: str
    accesses: Accesses = attrs.field(factory=dict)
    after_quiet: bool = False
    may_wait: bool = False
    cpu: int | None = None
    rank: int = 0
    keeps_off: int = 0


@attrs.define(eq=False)
class Group:
    """Successive steps that accessed one thing in a commuting way, and the group before them."""

    mode: int
    steps: list[int]
    before: Group | None


class Order:
    """The happens-before order of the events added so far; steps are numbered from 0.

    A set of steps is an integer with a bit for each step. `past[j]` is the set of steps that happen before step j.
    `own[j]` is the previous step of the same lane, or -1. `direct[j]` lists the groups of steps that step j depends on
    directly; steps of these groups that are later than j do not count. `direct_steps[j]` lists those that count.

    A flow that keeps others off its CPU makes a *block* of steps there, and no step of the others can come between
    them. `begin[j]` has an entry for each rank: the first step of the block that keeps this rank off and contains step
    j, or j itself if there is no such block. `inside[j]` lists the blocks that step j is in but does not begin, each as
    its first step and the steps before it that the block keeps off. `keepers[j]` lists, for the flows that keep others
    off some CPU just before step j, the latest step of each.
    """

    def __init__(self) -> None:
        self.past: list[int] = []
        self.own: list[int] = []
        self.direct: list[list[Group]] = []
        self.direct_steps: list[set[int]] = []
        self.begin: list[tuple[int, ...]] = []
        self.inside: list[list[tuple[int, int]]] = []
        self.keepers: list[tuple[int, ...]] = []
        self.events: list[Event] = []
        self._last_of_lane: dict[str, int] = {}
        self._next: dict[int, int] = {}
        self._keeping: dict[str, int] = {}
        self._groups: dict[Hashable, Group] = {}
        self._before_quiet = 0
        self._quiet: list[int] = []
        self._past_of_blocks: list[int] = []
        self._steps_on: defaultdict[tuple[int | None, int], int] = defaultdict(int)
        self._steps_of: defaultdict[str, int] = defaultdict(int)

    def add(self, event: Event) -> None:
        """Add the next event."""
        step = len(self.past)
        if event.after_quiet:
            self._before_quiet = (1 << step) - 1
        groups = []
        for thing, mode in event.accesses.items():
            last = self._groups.get(thing)
            if last is not None and last.mode == mode != UPDATE:
                last.steps.append(step)
                last = last.before
            else:
                self._groups[thing] = Group(mode, [step], last)
            if last is not None:
                groups.append(last)
        self._append(event, groups)
        if self.own[step] >= 0:
            self._next[self.own[step]] = step
        self._last_of_lane[event.lane] = step
        if event.keeps_off:
            self._keeping[event.lane] = step
        else:
            self._keeping.pop(event.lane, None)

    def keep(self, count: int) -> None:
        """Remove all events after the first *count*."""
        if count < len(self.past):
            self._keeping = {self.events[latest].lane: latest for latest in self.keepers[count]}
        while len(self.past) > count:
            event, own = self.events[-1], self.own[-1]
            for thing in event.accesses:
                self._take_out(thing)
            if own >= 0:
                del self._next[own]
                self._last_of_lane[event.lane] = own
            else:
                del self._last_of_lane[event.lane]
            self.drop_pending()
        self._before_quiet = self._quiet[-1] if self._quiet else 0
        del self._past_of_blocks[count:]

    def _take_out(self, thing: Hashable) -> None:
        """Remove the latest step that accessed *thing* from its group."""
        group = self._groups[thing]
        group.steps.pop()
        if not group.steps:
            if group.before is None:
                del self._groups[thing]
            else:
                self._groups[thing] = group.before

    def add_pending(self, event: Event) -> None:
        """Add a step that has not happened, as if it came next; `drop_pending` removes it again."""
        self._append(event, [group for thing in event.accesses if (group := self._groups.get(thing)) is not None])

    def drop_pending(self) -> None:
        """Remove the step of the last `add_pending`."""
        event, bit = self.events[-1], 1 << len(self.events) - 1
        self._steps_on[event.cpu, event.rank] &= ~bit
        self._steps_of[event.lane] &= ~bit
        for column in (
            self.past,
            self.own,
            self.direct,
            self.direct_steps,
            self.begin,
            self.inside,
            self.keepers,
            self.events,
            self._quiet,
        ):
            column.pop()

    def _append(self, event: Event, groups: list[Group]) -> None:
        step, own = len(self.past), self.latest(event.lane)
        past = self._before_quiet
        direct = {other for group in groups for other in group.steps}
        for other in direct:
            past |= self.past[other] | 1 << other
        kept_off = self.events[own].keeps_off if own >= 0 else 0
        begin = tuple(self.begin[own][rank] if 0 < rank <= kept_off else step for rank in range(4))
        self.past.append(past)
        self.own.append(own)
        self.direct.append(groups)
        self.direct_steps.append(direct)
        self.begin.append(begin)
        self.inside.append([(begin[rank], self._kept_off_by(begin[rank], rank)) for rank in range(1, kept_off + 1)])
        self.keepers.append(tuple(self._keeping.values()))
        self.events.append(event)
        self._steps_on[event.cpu, event.rank] |= 1 << step
        self._steps_of[event.lane] |= 1 << step
        self._quiet.append(self._before_quiet)

    def nearest(self, second: int) -> list[int]:
        """The steps that step *second* depends on, with no other step in between; latest first."""
        direct = self.direct_steps[second]
        return sorted(
            (first for first in direct if not any(self.past[other] >> first & 1 for other in direct)), reverse=True
        )

    def is_after(self, step: int, first: int) -> bool:
        """Whether *step* is *first* or happens after it."""
        return step == first or bool(self.past[step] >> first & 1)

    def ends_without(self, first: int, latest: int, rank: int) -> bool:
        """Whether the block that contains step *latest* and keeps *rank* off can end without step *first*."""
        while (following := self._next.get(latest)) is not None:
            if self.is_after(following, first):
                return False
            if self.events[following].keeps_off < rank:
                return True
            latest = following
        return False

    def latest(self, lane: str) -> int:
        """The latest step of *lane*; -1 if there is none."""
        return self._last_of_lane.get(lane, -1)

    def begins_of_block(self, lane: str) -> set[int]:
        """The first steps of the blocks that contain the latest step of *lane*, one for each rank that is kept off."""
        latest = self.latest(lane)
        if latest < 0:
            return set()
        return {self.begin[latest][rank] for rank in range(1, self.events[latest].keeps_off + 1)}

    def past_of_blocks(self) -> list[int]:
        """The past of each step if no step can come between the steps of a block.

        If a step of another flow on that CPU happens before some step of a block that keeps the flow off, then it
        happened before the whole block. The result is kept, up to the first block that new steps belong to.
        """
        start = self._first_open(len(self._past_of_blocks))
        past = self._past_of_blocks
        has_more = past[:start] != self.past[:start]
        past[start:] = self._close({}, start) if has_more else self.past[start:]
        inner = [(step, begin, off) for step in range(start, len(self.past)) for begin, off in self.inside[step]]
        more = dict.fromkeys((begin for _, begin, _ in inner), 0)
        while True:
            before = dict(more)
            for step, begin, kept_off in inner:
                more[begin] |= past[step] & kept_off
            if more == before:
                return past
            past[start:] = self._close(more, start)

    def _first_open(self, step: int) -> int:
        """The latest step, up to *step*, before which every block has ended; the number of all steps is allowed."""
        while step < len(self.past) and self.keepers[step]:
            step = min(self.begin[latest][1] for latest in self.keepers[step])
        return step

    def past_between(self, first: int, second: int) -> Mapping[int, int] | list[int]:
        """The past of the steps after *first* up to *second*, from *first* on, with blocks kept whole.

        If a step of another flow on that CPU happens before some step of a block that keeps the flow off, then it
        happened before the whole block. Steps after *second* do not count. For *second* itself, steps that happen after
        *first* do not count either: *second* is to be moved before them. Earlier steps than *first* have no meaning in
        the result.
        """
        blocks = self._blocks_between(first, second)
        if not blocks:
            return self.past
        recent = -1 << first
        past = {step: self.past[step] & recent for step in range(first + 1, second + 1)}
        for step in (first, *(step for step in past if past[step] >> first & 1)):
            past[second] &= ~(1 << step)
        while True:
            before = dict(past)
            for begin, inner in blocks.items():
                more = 0
                for step, kept_off in inner:
                    more |= past[step] & kept_off
                if more & ~past[begin]:
                    for step in bits(more):
                        more |= past.get(step, 0)
                    for other in (begin, *(step for step in past if past[step] >> begin & 1)):
                        past[other] |= more
            if past == before:
                return past

    def _blocks_between(self, first: int, second: int) -> dict[int, list[tuple[int, int]]]:
        """The blocks that begin after step *first*, with their steps up to *second*, by their beginnings.

        Each step comes with the steps, from *first* on, that its block keeps off.
        """
        recent = -1 << first
        blocks: dict[int, list[tuple[int, int]]] = {}
        for step in range(first + 1, second + 1):
            for begin, off in self.inside[step]:
                if begin > first and (kept_off := off & recent):
                    blocks.setdefault(begin, []).append((step, kept_off))
        return blocks

    def _kept_off_by(self, begin: int, rank: int) -> int:
        """The steps of other flows of this rank on this CPU, before the block that begins at step *begin*."""
        block = self.events[begin]
        before = (1 << begin) - 1
        return self._steps_on[block.cpu, rank] & ~self._steps_of[block.lane] & before

    def _close(self, more: Mapping[int, int], start: int) -> list[int]:
        """The past of each step from *start* on, if the steps *more[j]* are added before step j."""
        past = self._past_of_blocks[:start]
        for step in range(start, len(self.past)):
            mask = self._quiet[step]
            for other in self.direct_steps[step]:
                mask |= past[other] | 1 << other
            for other in bits(more.get(step, 0)):
                mask |= past[other] | 1 << other
            past.append(mask)
        return past[start:]
