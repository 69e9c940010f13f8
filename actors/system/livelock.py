"""Livelock: a call of a kernel function that steps and steps, though nothing keeps it from ending.

Nobody spins here while somebody else holds what is waited for: who must wait is not enabled. So a loop that goes on for
very long tries again what cannot come true any more. From time to time the flow that stepped last is looked at; if it
is found in one and the same call again and again, for more steps than `TIMES` what the whole run took before, that call
is not going to end. The more a machine has done, the longer a call may take: a walk over all caches of a machine with
many of them is not taken for a livelock.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from actors.system.flow import Kind

if TYPE_CHECKING:
    from collections.abc import Container

    from actors.system.flow import Flow

SIGHTINGS = 10
TIMES = 10

Call: TypeAlias = "types.CoroutineType[Any, Any, Any]"


@attrs.define(eq=False)
class Sighting:
    """The calls that a flow has been in, outermost first, each time it was seen since step `since`."""

    calls: list[Call]
    since: int
    count: int = 1


@attrs.define(eq=False)
class Patience:
    """How long a call may go on: `least` steps, whatever was before. A flow is looked at `every` so many."""

    every: int = 4_096
    least: int = 100_000
    sightings: dict[Flow, Sighting] = attrs.field(factory=dict)

    def lost_with(self, flow: Flow, steps: int, functions: Container[int]) -> types.CodeType | None:
        """The function whose call *flow* never ends, if it seems so after *steps* steps of the run.

        *functions* are the ids of the code of all kernel functions.
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


def calls_of(flow: Flow, functions: Container[int]) -> list[Call]:
    """The calls of kernel functions that *flow* is in, outermost first; of services without that of their loop.

    A kworker's loop is no kernel function here, so the first one is that of the work.
    """
    calls: list[Call] = []
    coro: object = flow.coro
    while isinstance(coro, types.CoroutineType):
        if id(coro.cr_code) in functions:
            calls.append(coro)
        coro = coro.cr_await
    return calls if flow.kind in {Kind.TASK, Kind.KWORKER} else calls[1:]


def common_beginning(one: list[Call], other: list[Call]) -> list[Call]:
    """What two lists of calls have in common from their start."""
    count = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a is not b), min(len(one), len(other)))
    return one[:count]
