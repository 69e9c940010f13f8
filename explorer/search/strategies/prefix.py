"""The assumption of exact searches, and its check: the same choices lead to the same state, each time.

A schedule of an exact search begins with choices of the one before. At each of them the state has to be the same as
before: the same lanes enabled, and the lane that stepped last with the same pending request. Over a run this compares
every pending request of the shared prefix. If something differs, the kernel or the scenario depends on something that
is not a choice (a clock, a random number, the order of a set). The exploration so far then proves nothing, and the
search ends.
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
    from protocol.schedule import Choice

DIVERGED = "diverged"
"""The world's stop reason when the same choices led to another state."""


@attrs.frozen
class State:
    """The visible part of a state: the enabled lanes, and the pending request of the lane that stepped last.

    `waits` has the names of that lane, the function, the operation and the object; empty at the first choice. `like`
    has the code and the declaration of the operation, if they are known: in all runs of a process they are the same.
    """

    enabled: tuple[str, ...]
    waits: tuple[str, ...] = ()
    like: tuple[object, object] | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def of(cls, enabled: tuple[str, ...], last: Lane | None) -> State:
        """The state at a choice, after a step of *last*."""
        if last is None:
            return cls(enabled)
        request = last.request
        return cls(enabled, pending(last), None if request is None else (request.code, request.info))

    def is_now(self, enabled: tuple[str, ...], last: Lane | None) -> bool:
        """Whether `of` would return an equal state."""
        if enabled != self.enabled:
            return False
        if last is None:
            return not self.waits
        request = last.request
        if request is None or last.finished or self.like is None or len(self.waits) == 1:
            return pending(last) == self.waits
        code, info = self.like
        if request.code is not code or request.info is not info:
            return pending(last) == self.waits
        target, (name, *_, label) = request.target, self.waits
        return last.name == name and (target.label if target is not None else "") == label

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
    """The pending request of *lane* by names; only the lane's name if it has none, or waits for mail."""
    request = lane.request
    if request is None or (isinstance(lane, Flow) and lane.finished):
        return (lane.name,)
    target = request.target
    return lane.name, request.code.co_name, request.info.name, target.label if target is not None else ""


class Following(Strategy):
    """One schedule of an exact search, which begins with choices of the one before.

    `strategy` is the text that names the search. `divergence` is set if the same choices led to another state.
    """

    strategy: str

    def __init__(self) -> None:
        self.divergence: Divergence | None = None
        self._world: World | None = None

    def advance(self, world: World) -> None:
        """Leave the time as it is."""
        self._world = world

    def watched_by(self, watch: Watch) -> None:
        """Called before the run with the *watch* that records the accesses of each step."""

    @property
    @abstractmethod
    def choices(self) -> list[Choice]:
        """The choices of the run: the schedule as data."""

    @abstractmethod
    def end(self, world: World) -> None:
        """Called after the run; check that *world* did not end before the last of the prescribed choices."""

    def part(self, then: object, now: object) -> None:
        """Set the divergence from *then* to *now*, and stop the run."""
        assert self._world is not None, "advance() comes before choose()"
        if self.divergence is None:
            self.divergence = Divergence(self._world.steps, str(then), str(now))
        self._world.stop(DIVERGED)
