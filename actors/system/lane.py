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
from protocol.blame import FOREIGN_AWAIT
from protocol.errors import BrokenRuleError
from protocol.findings import Oops

if TYPE_CHECKING:
    from actors.system.actor import Request
    from actors.system.world import World

F = TypeVar("F", bound=Callable[..., object])

_KERNEL = tuple(__file__.removesuffix("system/lane.py") + room for room in ("linux/", "machine/", "files/", "fixes.py"))
"""Paths of the code that stands for C: an attribute of None there is a null pointer."""

RESUMERS: set[int] = set()
"""The ids of the code objects that resume coroutines: the call chain of all that runs begins in one of them."""


def resumer(function: F) -> F:
    """Declare a function that sends into coroutines itself."""
    RESUMERS.add(id(function.__code__))
    return function


SEAM = object()
"""What the seam yields, and nothing else does: whoever yields another thing awaits what is not of the machine."""


class ForeignAwaitError(BrokenRuleError):
    """A flow awaited what is not of the machine."""

    @classmethod
    def of(cls, coro: Any) -> ForeignAwaitError:
        """The error of a coroutine that has yielded what the seam never yields."""
        stack = []
        while (frame := getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)) is not None:
            stack.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
        return cls(FOREIGN_AWAIT, stack)


ENDS = (StopIteration, Oops, AttributeError)
"""How the coroutine of a lane may end; of the last kind only what `null_pointer` knows."""


def null_pointer(error: AttributeError, kernel: frozenset[int]) -> Oops:
    """The oops that it is in C if kernel code follows None; any other error of that kind is raised again.

    A field into which nothing has been put yet is NULL, too. *kernel* are the ids of the code objects of all kernel
    functions, those of patches too.
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
            if self.coro.send(value) is not SEAM:  # type: ignore[union-attr]  # start() came first; an assert would cost every step
                raise ForeignAwaitError.of(self.coro)
        except ENDS as end:
            self.end(end)

    def end(self, how: StopIteration | Oops | AttributeError) -> None:
        """The coroutine is over: it has returned, or it died."""
        if isinstance(how, AttributeError):
            how = null_pointer(how, self.world.function_ids)
        self.finished = True
        if isinstance(how, Oops):
            self.world.report_oops(self, how)

    def close(self) -> None:
        """End the coroutine where it stands, at cancellation or at the end of the run."""
        if self.coro is not None:
            self.coro.close()
