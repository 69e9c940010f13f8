"""Strategies of the guided search: schedules aimed at orders of racing operations, and mutations of earlier schedules.

A *site* is the pair of a function and an operation that it asks for; an *aim* is an ordered pair of sites: the first is
to happen before the second. A mutation has a *base*, the schedule of an earlier run. All choices are by name, so a base
also serves where a run has taken another course.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.system.strategy import Strategy
from explorer.profile import Knowledge, is_of_interest
from explorer.search.strategies.pct import PriorityWalk
from explorer.watch import RacingPair
from protocol.schedule import Choice, Schedule

if TYPE_CHECKING:
    from actors.system.lane import Lane

AIMS, DEPTHS, DELAYS = (2, 6), (1, 3), (1, 9)
"""The least and the most: of aims, of the depth of PCT, and of the binary logarithm of a delay in steps."""

AT_LIFECYCLE = 0.75
"""The share of turns that are made at a lifecycle step; the others are made at any step."""

Site = tuple[str, str]
"""The names of a function and of an operation that it asks for."""


def site_of(lane: Lane) -> Site | None:
    """The site of the pending step of *lane*; None for a delivery of mail."""
    request = lane.request
    return None if request is None else (request.code.co_name, request.info.name)


class AimedWalk(PriorityWalk):
    """PCT with aims: a lane that is about to make the second step of an open aim is held.

    An aim is closed by a step at either of its sites. If all lanes that can step are held, one of them steps; so an aim
    delays some lanes, and never stops a run. No guarantee: an aim that is impossible in this run has no effect, or
    delays a lane for nothing.
    """

    name = "aim"

    def __init__(self, seed: int, aims: Iterable[RacingPair], depth: int, known: Knowledge) -> None:
        super().__init__(seed, depth, known)
        self._open = list(aims)
        self._held: set[Site | None] = {second for _, second in self._open}

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Choose as PCT does among the lanes that are not held; close the aims that this step reaches or misses."""
        free = tuple(lane for lane in lanes if site_of(lane) not in self._held) if self._held else lanes
        free = free or lanes
        lane = free[super().choose(free)]
        if self._open and (site := site_of(lane)) is not None:
            self._open = [aim for aim in self._open if site not in aim]
            self._held = {second for _, second in self._open}
        return lanes.index(lane)


@attrs.frozen
class Turn:
    """Where a schedule leaves its base, and how.

    The place is the *n*-th step of the base, or its *n*-th lifecycle step. The lane of this step is held for *delay*
    steps of the base; without a delay the *rest* takes the place of what is left of the base.
    """

    n: int
    is_lifecycle: bool = False
    delay: int = 0
    rest: Schedule = ()


@attrs.frozen
class Hold:
    """The *lane* stays where it is from place *begin* of the base up to *end*, or until no other lane can step."""

    lane: str = ""
    begin: int = 0
    end: int = 0


NO_TURN, NO_HOLD = Turn(0), Hold()


class Followed(Strategy):
    """Follows a base, with a hold and a turn on the way, and then hands over.

    Choices of the base that do not fit any more are skipped. *then* makes all choices after the base. A turn with a
    delay takes the place of the hold.
    """

    name = "mutation"

    def __init__(self, base: Schedule, then: Strategy, turn: Turn = NO_TURN, hold: Hold = NO_HOLD) -> None:
        self._base = base
        self._then = then
        self._turn = turn
        self._hold = hold
        self._before_turn = turn.n
        self._next = 0

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """The lane that the base names next, if it can step and is not held; otherwise the one after it."""
        places = {lane.name: index for index, lane in enumerate(lanes)}
        while self._next < len(self._base):
            choice = self._base[self._next]
            place = places.get(choice) if isinstance(choice, str) else None
            if place is not None and self._has_turned(lanes[place]):
                continue
            hold = self._hold
            is_held = choice == hold.lane and hold.begin <= self._next < hold.end
            self._next += 1
            if place is not None and not (is_held and len(lanes) > 1):
                return place
        return self._then.choose(lanes)

    def _has_turned(self, lane: Lane) -> bool:
        """Turn, if the next step of *lane* is the one for it; whether it is."""
        turn = self._turn
        if not self._before_turn or (turn.is_lifecycle and not is_of_interest(lane, "")):
            return False
        self._before_turn -= 1
        if self._before_turn:
            return False
        if turn.delay:
            self._hold = Hold(lane.name, self._next, self._next + turn.delay)
        else:
            self._base = spliced(self._base, self._next, turn.rest)
        return True

    def choose_value(self, count: int) -> int:
        """The number that the base has next, if it has one; otherwise drawn."""
        value = self._next_value()
        return self._then.choose_value(count) if value is None else min(value, count - 1)

    def choose_fault(self, probability: float) -> bool:
        """As the base says, if it does; otherwise drawn."""
        value = self._next_value()
        return self._then.choose_fault(probability) if value is None else value == 1

    def _next_value(self) -> int | None:
        choice = self._base[self._next] if self._next < len(self._base) else None
        if not isinstance(choice, int):
            return None
        self._next += 1
        return choice


def spliced(first: Schedule, cut: int, second: Schedule) -> Schedule:
    """The first *cut* choices of one schedule, and then the steps of another that its lanes have not made by then."""
    made = Counter(first[:cut])
    rest: list[Choice] = []
    for choice in second:
        if isinstance(choice, str) and made[choice]:
            made[choice] -= 1
        else:
            rest.append(choice)
    return (*first[:cut], *rest)


def orders_missing(seen: Iterable[RacingPair]) -> list[RacingPair]:
    """The gaps: orders of racing operations of which only the opposite was *seen*."""
    seen = set(seen)
    return sorted({(second, first) for first, second in seen} - seen)


@attrs.frozen
class Mutation:
    """How the schedules of a job are made, as plain data; the seed of each draws the rest.

    By its *way*: `aim` has a few aims among the orders seen, and `gap` one among the missing ones, too. The other ways
    follow a *base*. `prefix` leaves it at some step, `splice` goes on with an *other* schedule there, and `delay` holds
    the lane of this step for a while. `swap` holds the lane of the first step of two that raced, until the second step
    is over; `places` has these. After the base the walk is an aimed one.
    """

    way: str
    base: Schedule = ()
    other: Schedule = ()
    places: tuple[tuple[int, int], ...] = ()

    def make(self, seed: int, seen: Sequence[RacingPair], known: Knowledge) -> Strategy:
        """The strategy of the schedule with this *seed*, equal each time; *seen* are the pairs to take aims from."""
        draws = random.Random(seed)
        aims = [draws.choice(seen) for _ in range(draws.randint(*AIMS) if seen else 0)]
        if self.way == "gap" and (gaps := orders_missing(seen)):
            aims[0] = draws.choice(gaps)
        walk = AimedWalk(draws.getrandbits(64), aims, draws.randint(*DEPTHS), known)
        if not self.base:
            return walk
        if self.way == "swap":
            first, second = draws.choice(self.places)
            return Followed(self.base, walk, hold=Hold(str(self.base[first]), first, second + 1))
        marked = round(sum(known.expected_marked().values()))
        is_lifecycle = marked > 0 and draws.random() < AT_LIFECYCLE
        n = draws.randint(1, marked if is_lifecycle else sum(isinstance(choice, str) for choice in self.base))
        delay = 2 ** draws.randint(*DELAYS) if self.way == "delay" else 0
        return Followed(self.base, walk, Turn(n, is_lifecycle, delay, self.other))
