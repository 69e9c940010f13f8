"""The plain strategies, without a paper: uniform choice (SEARCH.md 4.1), round robin, and virtual time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from actors.system.flow import Flow
from actors.system.strategy import Strategy

if TYPE_CHECKING:
    from actors.system.cpu import Cpu
    from actors.system.lane import Lane
    from actors.system.world import World

PARALLEL_JITTER = 8


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
        self._last = 0
        self._values = seed

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        if not self._last:
            index = self._values % len(lanes)
        else:
            index = next((i for i, lane in enumerate(lanes) if lane.bit > self._last), 0)
        self._last = lanes[index].bit
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
        self._busy_until: dict[Cpu, int] = {}
        self._lanes: tuple[Lane, ...] = ()
        self._times: list[int] = []

    def advance(self, world: World) -> None:
        """Go to the earliest moment at which a lane can step, and fire each timer on the way.

        The lanes that can step then, with their times, are stored for `choose`, which is called next.
        """
        while world.mask:
            self._lanes = world.enabled_lanes()
            self._times = [self._time_of(lane) for lane in self._lanes]
            earliest = max(min(self._times), world.now)
            timer = world.next_timer()
            if timer is None or timer > earliest:
                world.now = earliest
                return
            world.now = max(timer, world.now)
            world.fire_timers()
        self._lanes = ()

    def _time_of(self, lane: Lane) -> int:
        cpu = lane.cpu if isinstance(lane, Flow) else None
        if cpu is None:
            return lane.ready_at
        ready, free = lane.ready_at, self._busy_until.get(cpu, 0)
        return free if free > ready else ready  # noqa: FURB136 -- called several times a step; max() takes twice as long

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        times = self._times if lanes is self._lanes else [self._time_of(lane) for lane in lanes]
        now = min(times)
        if len(times) == 1:
            self._random.random()
            index = 0
        else:
            first = [index for index, time in enumerate(times) if time == now]
            index = first[int(self._random.random() * len(first))]
        self._spend(lanes[index], now)
        return index

    def _spend(self, lane: Lane, now: int) -> None:
        if isinstance(lane, Flow):
            cost = lane.request.info.cost
            done = max(now, lane.world.now) + cost + int(self._random.random() * cost / PARALLEL_JITTER)
            lane.ready_at = done
            if lane.cpu is not None:
                self._busy_until[lane.cpu] = done

    def choose_value(self, count: int) -> int:
        return int(self._random.random() * count)

    def choose_fault(self, probability: float) -> bool:
        return self._random.random() < probability

    def draw_latency(self, low: int, high: int) -> int:
        return self._random.randint(low, high)
