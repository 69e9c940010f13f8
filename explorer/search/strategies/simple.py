"""The plain strategies, without a paper: uniform choice (SEARCH.md 4.1), round robin, and virtual time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from actors.system.strategy import Strategy

if TYPE_CHECKING:
    from actors.system.cpu import Cpu
    from actors.system.lane import Lane
    from actors.system.world import World

PARALLEL_JITTER = 8

NEVER = 1 << 63
"""A time (ns) after the end of every run."""


class RandomWalk(Strategy):
    """Each step is uniform over the enabled lanes. No guarantee, but a baseline that is hard to beat."""

    name = "random"

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        return int(self._random() * len(lanes))

    def choose_value(self, count: int) -> int:
        return int(self._random() * count)

    def choose_fault(self, probability: float) -> bool:
        return self._random() < probability


class RoundRobin(Strategy):
    """The enabled lanes take turns in the order of their slots; `seed` selects the first. Fair."""

    name = "roundrobin"

    def __init__(self, seed: int) -> None:
        self._last = -1
        self._values = seed

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        if self._last < 0:
            index = self._values % len(lanes)
        else:
            index = next((i for i, lane in enumerate(lanes) if lane.slot > self._last), 0)
        self._last = lanes[index].slot
        return index

    def choose_value(self, count: int) -> int:
        self._values += 1
        return self._values % count

    def choose_fault(self, probability: float) -> bool:
        """Faults at regular intervals, with the given frequency."""
        self._values += 1
        return int(self._values * probability) > int((self._values - 1) * probability)


class Clock(Strategy):
    """By virtual time: CPUs run in parallel, each step takes its cost, and latencies take their time.

    The lane that can step earliest steps; `seed` draws the latencies and breaks ties. This is the most realistic
    schedule, and so the one in which races are rarest.
    """

    name = "clock"
    controls_clock = True

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._draw = self._random.random
        self._busy_until: dict[Cpu | None, int] = {}
        self._lanes: tuple[Lane, ...] = ()
        self._earliest = 0
        self._first: list[int] = []

    def advance(self, world: World) -> None:
        """Go to the earliest moment at which a lane can step, and fire each timer on the way.

        The lanes that can step then are stored for `choose`, which is called next.
        """
        while world.mask:
            self._lanes = lanes = world.enabled_lanes()
            self._look_at(lanes)
            earliest, now = self._earliest, world.now
            timer = world.next_timer()
            if timer is None or (timer > earliest and timer > now):
                if earliest > now:
                    world.now = earliest
                return
            if timer > now:
                world.now = timer
            world.fire_timers()
        self._lanes = ()

    def _look_at(self, lanes: tuple[Lane, ...]) -> None:
        """Find the places of the lanes that can step first: a lane can step when it is ready and its CPU is free."""
        busy_until = self._busy_until
        earliest = NEVER
        for place, lane in enumerate(lanes):
            time, request = lane.ready_at, lane.request
            if request is not None and (free := busy_until.get(request.flow.cpu, 0)) > time:
                time = free
            if time < earliest:
                earliest = time
                first = [place]
            elif time == earliest:
                first.append(place)
        self._earliest, self._first = earliest, first

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        if lanes is not self._lanes:  # another strategy calls, without advance()
            self._look_at(lanes)
            self._lanes = ()
        first, draw = self._first, self._draw
        place = first[int(draw() * len(first))]
        lane = lanes[place]
        request = lane.request
        if request is not None:
            cost, now = request.info.cost, lane.world.now
            now = max(now, self._earliest)
            lane.ready_at = done = now + cost + int(draw() * cost / PARALLEL_JITTER)
            flow = request.flow
            if flow.cpu is not None:
                self._busy_until[flow.cpu] = done
        return place

    def choose_value(self, count: int) -> int:
        return int(self._draw() * count)

    def choose_fault(self, probability: float) -> bool:
        return self._draw() < probability

    def draw_latency(self, low: int, high: int) -> int:
        return self._random.randint(low, high)
