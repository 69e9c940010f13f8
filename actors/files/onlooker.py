"""Looking at a machine that stands still: what a file would say now, without a step and without a lock.

The files' readers are the kernel's own functions (`kernel_files`); here they run outside of the machine and of time. A
look sees what is there, even in the middle of somebody's locked section, and leaves no trace.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import attrs

from actors.files.kernel_files import KernelFile, locate
from actors.linux.kernel.locking.lockdep import Lockdep
from actors.machine.context import Context
from actors.system.flow import Kind
from protocol.errors import InternalError
from protocol.operations import READ

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.kernel.cgroup.cgroup import Cgroup

P = ParamSpec("P")

R = TypeVar("R")

T = TypeVar("T")


@attrs.define(eq=False)
class Onlooker(Context):
    """A flow outside of the machine: what it asks is answered at once.

    Locks it takes for granted, for nobody else runs; its machine has a lockdep of its own, to learn nothing from it.
    """

    @classmethod
    def of(cls, machine: Machine) -> Onlooker:
        """One that looks at *machine*."""
        seen = copy.copy(machine)
        seen.lockdep = Lockdep()
        return cls(machine.world, "onlooker", Kind.KTHREAD, machine=seen)

    @types.coroutine
    def ask(self, op: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Generator[object, None, R]:
        """Read now. A reader changes nothing but locks and active references: those are granted."""
        yield from ()
        if op.operation.access is not READ:  # type: ignore[attr-defined]  # as in Flow.ask
            return cast("R", True)
        return op(*args, **kwargs)


def look(machine: Machine, name: str) -> bytes:
    """What the file that *name* means (see `kernel_files.locate`) says now; UsageError if there is none."""
    return look_at(machine, *locate(machine, name))


def look_at(machine: Machine, file: KernelFile, cgroup: Cgroup) -> bytes:
    """What *file* of *cgroup* says now."""
    read = file.look or file.read
    world = machine.world
    on_touch, world.on_touch = world.on_touch, None  # who watches what steps access is not to take this for one
    try:
        return at_once(read(Onlooker.of(machine), cgroup)) or b""
    finally:
        world.on_touch = on_touch


def at_once(reading: Awaitable[T]) -> T:
    """Run a coroutine that never waits."""
    coro = cast("Coroutine[Any, Any, T]", reading)
    try:
        coro.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    coro.close()
    msg = "the reader of a file waits for something that is neither read nor a lock"
    raise InternalError(msg)
