"""What an exact search rests on: the same choices lead to the same state, each time.

A schedule of an exact search begins with choices of the one before. At each of them it has to find what that found: the
same lanes enabled, and the lane that stepped last waiting to do the same. By and by that holds every pending request of
the shared part against what it was. Where something differs, the kernel or the scenario depends on what is no choice (a
clock, a random number, the order of a set); what was explored then proves nothing, so the search has to end.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import attrs

from actors.system.flow import Flow
from actors.system.strategy import Strategy
from explorer.replay import Divergence

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World
    from explorer.watch import Watch

DIVERGED = "diverged"
"""Why a world stops in which the same choices led to another state."""


@attrs.frozen
class State:
    """What a search sees of a state: who could step, and what the lane that stepped last waits to do.

    `waits` are the names of that lane, the function, the operation and the object; empty at the first choice.
    """

    enabled: tuple[str, ...]
    waits: tuple[str, ...] = ()

    @classmethod
    def of(cls, enabled: tuple[str, ...], last: Lane | None) -> State:
        """The state at a choice, after a step of *last*."""
        return cls(enabled, pending(last) if last is not None else ())

    def __str__(self) -> str:
        match self.waits:
            case (lane, function, operation, target):
                of = f" of {target}" if target else ""
                then = f"{lane} in {function}: {operation}{of}; "
            case (lane,):
                then = f"{lane} waits for nothing more; "
            case _:
                then = ""
        return f"{then}enabled: {', '.join(self.enabled)}"


def pending(lane: Lane) -> tuple[str, ...]:
    """What *lane* waits to do, by names; only its own if that is nothing, or mail."""
    request = lane.request
    if request is None or (isinstance(lane, Flow) and lane.finished):
        return (lane.name,)
    target = request.target
    return lane.name, request.code.co_name, request.info.name, target.label if target is not None else ""


class Following(Strategy):
    """One schedule of an exact search, which begins as the one before did.

    `strategy` is the text that names the search. `divergence` is where the same choices did not lead to the same state.
    """

    strategy: str

    def __init__(self) -> None:
        self.divergence: Divergence | None = None
        self._world: World | None = None

    def advance(self, world: World) -> None:
        """Leave the time as it is."""
        self._world = world

    def watched_by(self, watch: Watch) -> None:
        """Before the run: *watch* will know what each step accesses."""

    @abstractmethod
    def end(self, world: World) -> None:
        """After the run of *world*, which must not have been over before all the choices were made that are known."""

    def part(self, then: object, now: object) -> None:
        """End the run here: it was *then*, and is *now*."""
        assert self._world is not None, "a world asks for the time first"
        if self.divergence is None:
            self.divergence = Divergence(self._world.steps, str(then), str(now))
        self._world.stop(DIVERGED)
