"""Lanes: everything that may step.

A lane is one line in the enabled set. There are two kinds: a flow with a pending request, and an actor with
posted mail. A lane keeps its name and its bit for the whole run, so an enabled set is one integer, the order
of choices is the order of creation, and neither depends on memory addresses or on the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from actors.system.naming import Named
from protocol.findings import Oops

if TYPE_CHECKING:
    from actors.system.actor import Request
    from actors.system.world import World

F = TypeVar("F", bound=Callable[..., object])

RESUMERS: set[int] = set()
"""The ids of the code objects that resume coroutines: the call chain of all that runs begins in one of them."""


def resumer(function: F) -> F:
    """Declare a function that sends into coroutines itself."""
    RESUMERS.add(id(function.__code__))
    return function


@attrs.define(eq=False)
class Lane(Named):
    """Something that may step; `coro` is its coroutine, parked at the seam between steps.

    `request` is what a flow asks next; an actor that is a lane has none, but mail.

    `bit` is its place in enabled-set masks (0: it was never enabled). `ready_at` is the earliest virtual time of its
    next step (ns); only the `clock` strategy asks. `number` is its id in the log, given by the recorder; `trace` is
    whatever an observer keeps of it.
    """

    world: World
    name: str
    bit: int = attrs.field(default=0, init=False)
    ready_at: int = attrs.field(default=0, init=False)
    number: int = attrs.field(default=-1, init=False)
    trace: Any = attrs.field(default=None, init=False)
    request: Request | None = attrs.field(default=None, init=False)
    coro: Coroutine[Any, Any, None] | None = attrs.field(default=None, init=False)
    finished: bool = attrs.field(default=False, init=False)

    def start(self, coro: Coroutine[Any, Any, None]) -> None:
        """Run *coro* to its first await; nothing shared may be touched before that."""
        self.coro = coro
        self.resume(None)

    @resumer
    def resume(self, value: object) -> None:
        """Run one slice: hand *value* to the coroutine and run it on to its next await.

        Nothing else runs actor code but this, and its copy in `stepper.step`. A flow that dies of an `Oops` ends here.
        """
        try:
            self.coro.send(value)  # type: ignore[union-attr]  # start() came first; an assert would cost every step
        except (StopIteration, Oops) as end:
            self.end(end)

    def end(self, how: StopIteration | Oops) -> None:
        """The coroutine is over: it has returned, or it died."""
        self.finished = True
        if isinstance(how, Oops):
            self.world.report_oops(self, how)

    def close(self) -> None:
        """End the coroutine where it stands, at cancellation or at the end of the run."""
        if self.coro is not None:
            self.coro.close()
