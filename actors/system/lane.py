"""Lanes: everything that may step.

A lane is one line in the enabled set. There are two kinds: a flow with a pending request, and an actor with
posted mail. A lane keeps its name and its bit for the whole run, so an enabled set is one integer, the order
of choices is the order of creation, and neither depends on memory addresses or on the driver.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import attrs

from protocol.findings import Oops

if TYPE_CHECKING:
    from actors.system.world import World


@attrs.define(eq=False)
class Lane:
    """Something that may step; `coro` is its coroutine, parked at the seam between steps.

    `bit` is its place in enabled-set masks (0: it was never enabled). `ready_at` is the earliest virtual time of its
    next step (ns); only the `clock` strategy asks. `number` is its id in the log, given by the recorder.
    """

    world: World
    name: str
    bit: int = attrs.field(default=0, init=False)
    ready_at: int = attrs.field(default=0, init=False)
    number: int = attrs.field(default=-1, init=False)
    coro: Coroutine[Any, Any, None] | None = attrs.field(default=None, init=False)
    finished: bool = attrs.field(default=False, init=False)

    def start(self, coro: Coroutine[Any, Any, None]) -> None:
        """Run *coro* to its first await; nothing shared may be touched before that."""
        self.coro = coro
        self.resume(None)

    def resume(self, value: object) -> None:
        """Run one slice: hand *value* to the coroutine and run it on to its next await.

        Both drivers call this, and nothing else runs actor code. A flow that dies of an `Oops` ends here.
        """
        try:
            self.coro.send(value)  # type: ignore[union-attr]  # start() came first; an assert would cost every step
        except StopIteration:
            self.finished = True
        except Oops as oops:
            self.finished = True
            self.world.report_oops(self, oops)

    def close(self) -> None:
        """End the coroutine where it stands, at cancellation or at the end of the run."""
        if self.coro is not None:
            self.coro.close()
