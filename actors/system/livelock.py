"""Livelock: a call of a kernel function that takes step after step and does not end, though nothing blocks it.

No flow spins here on a lock that another flow holds: a flow that must wait is not enabled. So a loop that runs for very
long retries something that can no longer succeed. The flow that stepped last is sampled from time to time. A livelock
is reported if it is found in the same call again and again, for more than `TIMES` as many steps as the run took before
that call. The bound grows with the work already done: a walk over all caches of a machine with many caches is not taken
for a livelock.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from actors.system.flow import Kind
from protocol.errors import BrokenRuleError

if TYPE_CHECKING:
    from collections.abc import Container

    from actors.system.flow import Flow
    from actors.system.world import World

SIGHTINGS = 10
TIMES = 10

MOST_POLLS = 1_000_000
"""Steps in a row that tasks may take outside of every kernel function."""

Call: TypeAlias = "types.CoroutineType[Any, Any, Any]"


@attrs.define(eq=False)
class Sighting:
    """The calls that a flow was in at each sample since step `since`, outermost first."""

    calls: list[Call]
    since: int
    count: int = 1


@attrs.define(eq=False)
class Patience:
    """The livelock bound.

    `least` is the minimum number of steps before a livelock is reported, `every` the sampling interval in steps.
    """

    every: int = 4_096
    least: int = 100_000
    sightings: dict[Flow, Sighting] = attrs.field(factory=dict)

    def lost_with(self, flow: Flow, steps: int, functions: Container[int]) -> types.CodeType | None:
        """The function whose call in *flow* looks endless after *steps* steps of the run, or None.

        *functions* holds the ids of the code objects of all kernel functions.
        """
        calls = calls_of(flow, functions)
        seen = self.sightings.get(flow)
        common = common_beginning(seen.calls, calls) if seen is not None else []
        if seen is None or not common:
            self.sightings = {known: one for known, one in self.sightings.items() if not known.finished}
            self.sightings[flow] = Sighting(calls, steps)
            return None
        seen.calls = common
        seen.count += 1
        if seen.count < SIGHTINGS or steps - seen.since <= self.least + TIMES * seen.since:
            return None
        return common[-1].cr_code


@attrs.define(eq=False)
class Polls:
    """A check of a world that ends a run in which tasks wait, in their own code, for something that never comes.

    It is on from a sample that finds a task outside of every kernel function to the next step of another kind: one in a
    kernel function, of another kind of flow, or a delivery of mail. A task that sleeps all the time may still wake up
    and do something, so the run goes on.
    """

    world: World
    since: int
    flows: set[Flow] = attrs.field(factory=set)
    count: int = 0

    def look(self, flow: Flow) -> None:
        """Count the step of *flow*."""
        world = self.world
        self.count += 1
        self.flows.add(flow)
        if not is_outside(flow, world.function_ids) or world.steps - self.since != self.count:
            world.polls = None
            world.checks = [check for check in world.checks if check != self.look]
        elif self.count > MOST_POLLS and not flow.finished and world.sleepers() <= self.flows:
            text = (
                f"the last {MOST_POLLS:,} steps were of tasks outside of kernel functions: does this one wait for ever?"
            )
            world.spoil(BrokenRuleError(text, places_of(flow)))


def is_outside(flow: Flow, functions: Container[int]) -> bool:
    """Whether *flow* is a task whose next step is in no kernel function."""
    return flow.kind is Kind.TASK and id(flow.request.code) not in functions


def places_of(flow: Flow) -> list[tuple[str, int, str]]:
    """The file, line and function of each coroutine of a waiting flow, outermost first."""
    places: list[tuple[str, int, str]] = []
    coro: object = flow.coro
    while coro is not None:
        frame: types.FrameType | None = getattr(coro, "cr_frame", None)
        if frame is not None:
            places.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        coro = getattr(coro, "cr_await", None)
    return places


def calls_of(flow: Flow, functions: Container[int]) -> list[Call]:
    """The calls of kernel functions that *flow* is in, outermost first; for a service, without the call of its loop.

    A kworker's loop is no kernel function here, so its first call is the work function.
    """
    calls: list[Call] = []
    coro: object = flow.coro
    while isinstance(coro, types.CoroutineType):
        if id(coro.cr_code) in functions:
            calls.append(coro)
        coro = coro.cr_await
    return calls if flow.kind in {Kind.TASK, Kind.KWORKER} else calls[1:]


def common_beginning(one: list[Call], other: list[Call]) -> list[Call]:
    """The common prefix of two lists of calls."""
    count = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a is not b), min(len(one), len(other)))
    return one[:count]
