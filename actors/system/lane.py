"""Lanes, the schedulable entities: everything that can be chosen for the next step.

There are two kinds: a flow with a pending request, and an actor with posted mail. A lane keeps its name for the whole
run. It gets a slot when it first needs one, the first that is free: the lanes of an enabled set are in the order of
their slots. While a lane may become enabled it also has a bit in masks, so an enabled set is one integer, which stays
small when many actors wait for mail. Neither depends on memory addresses or on the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from actors.system.naming import Named
from protocol.blame import FOREIGN_AWAIT
from protocol.errors import BrokenRuleError
from protocol.findings import Oops

if TYPE_CHECKING:
    from actors.system.world import World
    from protocol.messages import Request

F = TypeVar("F", bound=Callable[..., object])

_KERNEL = tuple(__file__.removesuffix("system/lane.py") + room for room in ("linux/", "machine/", "files/", "fixes.py"))
"""Paths of the code that models C: an attribute access on None there is a null pointer dereference."""

RESUMERS: set[int] = set()
"""The ids of the code objects that resume coroutines: every call chain of actor code begins in one of them."""


def resumer(function: F) -> F:
    """Declare a function that itself sends values into coroutines."""
    RESUMERS.add(id(function.__code__))
    return function


SEAM = object()
"""The one value that the seam yields. A coroutine that yields another value awaits something outside the machine."""


class ForeignAwaitError(BrokenRuleError):
    """A flow awaited something outside the machine."""

    @classmethod
    def of(cls, coro: Any) -> ForeignAwaitError:
        """The error of a coroutine that has yielded another value than the seam's, with its chain of awaits."""
        stack = []
        while (frame := getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)) is not None:
            stack.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
        return cls(FOREIGN_AWAIT, stack)


ENDS = (StopIteration, Oops, AttributeError)
"""The ways in which the coroutine of a lane may end; of AttributeErrors only those that `null_pointer` accepts."""


def null_pointer(error: AttributeError, kernel: frozenset[int]) -> Oops:
    """The oops of C for kernel code that dereferences None; any other AttributeError is raised again.

    A declared field without a value is NULL, too. *kernel* holds the ids of the code objects of all kernel functions,
    those of patches included.
    """
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    code = tb.tb_frame.f_code if tb is not None else None
    is_kernel = code is not None and (id(code) in kernel or code.co_filename.startswith(_KERNEL))
    is_field = any(field.name == error.name for field in getattr(type(error.obj), "__attrs_attrs__", ()))
    if error.name is None or not (error.obj is None or is_field) or not is_kernel:
        raise error
    name = f"->{error.name}"
    oops = Oops("null-deref", name, f"BUG: kernel NULL pointer dereference: {name}")
    return oops.with_traceback(error.__traceback__)


@attrs.define(eq=False)
class Lane(Named):
    """A schedulable entity; its coroutine `coro` is parked at the seam between steps.

    `request` is the pending request of a flow; an actor has mail instead of requests.

    `slot` is its place in the order of choices (-1: it has none yet), and `bit` stands for it in the masks of enabled
    lanes (0: it has none now). `ready_at` is the earliest virtual time of its next step (ns); only the `clock` strategy
    reads it. `number` is its id in the log, given by the recorder. `trace` belongs to an observer.
    """

    world: World
    name: str
    bit: int = attrs.field(default=0, init=False)
    slot: int = attrs.field(default=-1, init=False)
    ready_at: int = attrs.field(default=0, init=False)
    number: int = attrs.field(default=-1, init=False)
    trace: Any = attrs.field(default=None, init=False)
    request: Request | None = attrs.field(default=None, init=False)
    coro: Coroutine[Any, Any, None] | None = attrs.field(default=None, init=False)
    finished: bool = attrs.field(default=False, init=False)

    def start(self, coro: Coroutine[Any, Any, None]) -> None:
        """Run *coro* to its first await; it may access nothing shared before that."""
        self.coro = coro
        self.resume(None)

    @resumer
    def resume(self, value: object) -> None:
        """Run one slice: send *value* to the coroutine, which runs on to its next await.

        Actor code runs only here and in the copy of this code in `stepper.step`. A flow that raises an `Oops` ends
        here.
        """
        try:
            if self.coro.send(value) is not SEAM:  # type: ignore[union-attr]  # start() came first; an assert would cost every step
                raise ForeignAwaitError.of(self.coro)
        except ENDS as end:
            self.end(end)

    def end(self, how: StopIteration | Oops | AttributeError) -> None:
        """Finish the lane: its coroutine has returned or raised an oops."""
        if isinstance(how, AttributeError):
            how = null_pointer(how, self.world.function_ids)
        self.finished = True
        if isinstance(how, Oops):
            self.world.report_oops(self, how)

    def close(self) -> None:
        """End the coroutine at its current await, at cancellation or at the end of the run."""
        if self.coro is not None:
            self.coro.close()
